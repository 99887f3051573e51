"""amdsmi's answers become devices, readings and partitions; what makes no sense is one error; a machine without it has none."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_amdsmi import FakeAmdSmi, FakePartitionedAmdSmi

from mica.events import Partition, Runtime, Severity, Vendor
from mica.vendors import PartitionInUseError, VendorAbsentError, VendorError, open_drivers
from mica.vendors.amd import AmdDriver, _device

CPX = Partition(profile="CPX/NPS1", profile_id=81, start=3, size=1)
DPX = Partition(profile="DPX/NPS1", profile_id=33, start=4, size=4)


@pytest.fixture
def smi(monkeypatch: pytest.MonkeyPatch) -> FakeAmdSmi:
    """The faked library."""
    fake = FakeAmdSmi()
    monkeypatch.setitem(sys.modules, "amdsmi", fake)
    return fake


@pytest.fixture
def modes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakePartitionedAmdSmi:
    """The faked library with partition modes, which this process may set."""
    fake = FakePartitionedAmdSmi()
    monkeypatch.setitem(sys.modules, "amdsmi", fake)
    (tmp_path / "0000:05:00.0").mkdir()
    (tmp_path / "0000:05:00.0" / "current_compute_partition").touch()
    monkeypatch.setattr(_device, "SYS", tmp_path)
    return fake


def test_devices(smi: FakeAmdSmi) -> None:
    """A device is listed with what amdsmi says of it, and offers no partition where amdsmi knows of no modes."""
    (found,) = AmdDriver().devices()
    assert (found.id, found.vendor, found.model, found.vram_bytes) == ("uuid-5", Vendor.AMD, "AMD Instinct MI300X", 196_592 << 20)
    assert (found.multiprocessors, found.numa_node, found.pci_bus_id) == (304, 1, "0000:05:00.0")
    assert (found.runtimes, found.partitioned, found.profiles) == ((Runtime.HIP,), False, ())
    assert (found.switchable, found.hardware_refusal, found.warnings, found.simulated) == (False, "", (), False)


def test_a_device_without_topology(smi: FakeAmdSmi) -> None:
    """What the library does not support stays at its default."""
    smi.failing["amdsmi_topo_get_numa_node_number"] = 2
    assert AmdDriver().devices()[0].numa_node == -1


def test_a_broken_device(smi: FakeAmdSmi, caplog: pytest.LogCaptureFixture) -> None:
    """A device that cannot be read is left out, said once."""
    smi.failing["amdsmi_get_gpu_asic_info"] = 12
    driver = AmdDriver()
    assert driver.devices() == ()
    assert driver.devices() == ()
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("function", "answer", "message"),
    [
        ("amdsmi_get_gpu_memory_total", lambda: 1 << 60, "VRAM 1152921504606846976, at most"),
        ("amdsmi_get_gpu_memory_total", lambda: 0, "VRAM 0"),
        ("amdsmi_get_gpu_asic_info", lambda: {"num_compute_units": 1 << 31}, "compute units 2147483648, at most"),
        ("amdsmi_get_gpu_asic_info", b"\xff".decode, "makes no sense: UnicodeDecodeError"),
        ("amdsmi_get_gpu_asic_info", lambda: {}["market_name"], "makes no sense: KeyError"),
        ("amdsmi_get_gpu_asic_info", lambda: int("x"), "makes no sense: ValueError"),
        ("amdsmi_get_gpu_device_uuid", str, "no UUID"),
    ],
)
def test_garbage(smi: FakeAmdSmi, function: str, answer: Callable[[], Any], message: str) -> None:
    """Absurd sizes, text that is none and fields that are missing are one VendorError each."""
    driver = AmdDriver()
    smi.says[function] = answer
    with pytest.raises(VendorError, match=message):
        driver.describe("0")


def test_a_count_of_devices_that_is_none(smi: FakeAmdSmi) -> None:
    """A library that counts 2^31 devices fails as a whole, and is left out."""

    def count() -> Any:
        raise MemoryError

    smi.says["amdsmi_get_processor_handles"] = count
    with pytest.raises(VendorError, match="MemoryError"):
        AmdDriver()
    assert open_drivers({"amd": AmdDriver}) == ()


def test_contradictions(smi: FakeAmdSmi) -> None:
    """Where amdsmi says otherwise than the catalogue, its word goes, and the device has a warning."""
    smi.says["amdsmi_get_gpu_asic_info"] = lambda: {"market_name": "?", "num_compute_units": 300, "device_id": "0x74a1"}
    smi.says["amdsmi_get_gpu_memory_total"] = lambda: 128 << 30
    (found,) = AmdDriver().devices()
    assert (found.vram_bytes, found.multiprocessors) == (128 << 30, 300)
    assert found.warnings == (
        "memory: 131072 MiB, the catalogue's MI300X has 196592 MiB",
        "compute units: 300, the catalogue's MI300X has 304",
    )


def test_a_model_that_the_catalogue_lacks(smi: FakeAmdSmi) -> None:
    """It is listed all the same, without a warning."""
    smi.says["amdsmi_get_gpu_asic_info"] = lambda: {
        "market_name": "AMD Something",
        "device_id": "N/A",
        "num_compute_units": "N/A",
    }
    (found,) = AmdDriver().devices()
    assert (found.model, found.multiprocessors, found.warnings) == ("AMD Something", 0, ())


def test_sample(smi: FakeAmdSmi) -> None:
    """A reading is in the port's units, None where amdsmi does not measure."""
    smi.failing["amdsmi_get_temp_metric"] = 2
    reading = AmdDriver().sample("uuid-5")
    assert (reading.vram_used_bytes, reading.vram_total_bytes) == (3 << 30, 196_592 << 20)
    assert (reading.utilisation_ppm, reading.power_mw, reading.temperature_c) == (420_000, 180_000, None)


def test_processes(smi: FakeAmdSmi) -> None:
    """Processes come with the VRAM they hold."""
    assert AmdDriver().compute_processes("uuid-5") == [(9, 1 << 30)]


def test_an_unknown_device(smi: FakeAmdSmi) -> None:
    """A device that amdsmi does not list is one clear error."""
    with pytest.raises(VendorError, match="device or partition uuid-2: amdsmi lists no such one"):
        AmdDriver().sample("uuid-2")
    with pytest.raises(VendorError, match="device uuid-2: amdsmi lists no such device"):
        AmdDriver().findings("uuid-2")


def test_findings_without_events(smi: FakeAmdSmi) -> None:
    """A package without event notification still tells what is wrong now."""
    smi.says["amdsmi_get_gpu_total_ecc_count"] = lambda: {"uncorrectable_count": 2}
    (found,) = AmdDriver().findings("uuid-5")
    assert (found.kind, found.severity, found.lasting) == ("ecc", Severity.WARNING, True)


def test_modes(modes: FakePartitionedAmdSmi) -> None:
    """Without amdsmi's own list of modes a device offers the catalogue's, and may be laid out by who may write the file."""
    (found,) = AmdDriver().devices()
    assert [each.name for each in found.profiles] == ["SPX/NPS1", "DPX/NPS1", "QPX/NPS1", "QPX/NPS4", "CPX/NPS1", "CPX/NPS4"]
    assert (found.switchable, found.partitioned, found.compute_slices) == (True, False, 8)


def test_no_privilege(modes: FakePartitionedAmdSmi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the driver's file is not to be written, the device says so and is left as it is."""
    monkeypatch.setattr(_device, "SYS", tmp_path / "read-only")
    driver = AmdDriver()
    assert driver.devices()[0].hardware_refusal.startswith("no privilege, or in a container: ")
    assert not driver.devices()[0].switchable
    with pytest.raises(VendorError, match="no privilege"):
        driver.create("uuid-5", CPX)
    assert modes.modes == ["SPX", "NPS1"]


def test_a_guest(modes: FakePartitionedAmdSmi) -> None:
    """A virtual function can't be laid out by its guest."""
    modes.says["amdsmi_get_gpu_virtualization_mode"] = lambda: {"mode": 3}
    assert AmdDriver().devices()[0].hardware_refusal == "a virtual function: its host lays the device out, not its guest"


def test_a_package_that_loads_no_driver(modes: FakePartitionedAmdSmi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ``amdsmi_gpu_driver_reload`` only modes of the present memory mode are offered."""
    monkeypatch.delattr(FakePartitionedAmdSmi, "amdsmi_gpu_driver_reload")
    assert {each.shared for each in AmdDriver().devices()[0].profiles} == {"NPS1"}


def test_partitions_that_the_runtime_does_not_tell_apart(modes: FakePartitionedAmdSmi) -> None:
    """They are called by device, mode and number, reached by index, and measured by their processes."""
    modes.idle = True
    driver = AmdDriver()
    made = driver.create("uuid-5", CPX)
    assert (made.uuid, made.layout, made.start) == ("uuid-5-cpx-nps1-3", "CPX/NPS1", 3)
    assert driver.access("uuid-5", made).visible == {"ROCR_VISIBLE_DEVICES": "3"}
    modes.idle = False
    reading = driver.sample(made.uuid)
    assert (reading.vram_used_bytes, reading.vram_total_bytes) == (1 << 30, (196_592 << 20) // 8)
    (found,) = driver.devices()
    assert (found.partitioned, found.vram_bytes, found.multiprocessors, found.warnings) == (True, 196_592 << 20, 304, ())


def test_partitions_that_the_runtime_tells_apart(modes: FakePartitionedAmdSmi) -> None:
    """They are called as the runtime calls them."""
    modes.idle = modes.hip_uuids = True
    driver = AmdDriver()
    made = driver.create("uuid-5", DPX)
    assert made.uuid == f"GPU-{502:016x}"
    assert driver.access("uuid-5", made).visible == {"ROCR_VISIBLE_DEVICES": made.uuid}


def test_a_device_in_use(modes: FakePartitionedAmdSmi) -> None:
    """Neither mode changes while a process is there, and amdsmi's own refusal counts as well."""
    driver = AmdDriver()
    with pytest.raises(PartitionInUseError, match="device uuid-5: in use by 1 processes") as refused:
        driver.create("uuid-5", CPX)
    assert refused.value.pids == {9}
    with pytest.raises(PartitionInUseError, match="memory mode NPS4 takes all AMD devices of this machine to be idle"):
        driver.create("uuid-5", Partition(profile="CPX/NPS4", profile_id=84, start=0, size=1))
    assert (modes.modes, modes.pending) == (["SPX", "NPS1"], "")
    modes.idle = True
    modes.failing["amdsmi_set_gpu_compute_partition"] = 30
    with pytest.raises(PartitionInUseError):
        driver.create("uuid-5", CPX)


def test_memory_modes(modes: FakePartitionedAmdSmi) -> None:
    """A memory mode is set before the compute mode, with one driver reload; one that is there already takes none."""
    modes.idle = True
    driver = AmdDriver()
    driver.create("uuid-5", Partition(profile="QPX/NPS4", profile_id=68, start=2, size=2))
    assert (modes.modes, modes.reloads) == (["QPX", "NPS4"], 1)
    driver.create("uuid-5", Partition(profile="CPX/NPS4", profile_id=84, start=0, size=1))
    driver.make_whole("uuid-5")
    assert (modes.modes, modes.reloads) == (["SPX", "NPS1"], 2)


def test_a_driver_that_does_not_load(modes: FakePartitionedAmdSmi) -> None:
    """The memory mode that was waiting for it is taken back, so that no later reboot brings it about."""
    modes.idle = True
    modes.failing["amdsmi_gpu_driver_reload"] = 54
    with pytest.raises(VendorError, match=r"memory mode NPS4: .*amdsmi_gpu_driver_reload"):
        AmdDriver().create("uuid-5", Partition(profile="CPX/NPS4", profile_id=84, start=0, size=1))
    assert (modes.modes, modes.pending) == (["SPX", "NPS1"], "NPS1")


def test_a_mode_that_is_not_offered(modes: FakePartitionedAmdSmi) -> None:
    """It is refused with what is; so is a start that the mode lacks."""
    modes.idle = True
    driver = AmdDriver()
    with pytest.raises(VendorError, match="no partition mode CPX/NPS2; allowed: SPX/NPS1, DPX/NPS1"):
        driver.create("uuid-5", Partition(profile="CPX/NPS2", profile_id=82, start=0, size=1))
    with pytest.raises(VendorError, match="DPX/NPS1 has no partition of size 4 at 2"):
        driver.create("uuid-5", Partition(profile="DPX/NPS1", profile_id=33, start=2, size=4))


def test_a_library_that_does_not_start(smi: FakeAmdSmi, caplog: pytest.LogCaptureFixture) -> None:
    """A library that is there and fails is logged and left out."""
    smi.failing["amdsmi_init"] = 18
    assert open_drivers({Vendor.AMD: AmdDriver}) == ()
    assert "amd is left out: amdsmi_init" in caplog.text


@pytest.mark.parametrize("error", [ImportError("no amdsmi"), KeyError("libamd_smi.so"), OSError("no such file")])
def test_absent(monkeypatch: pytest.MonkeyPatch, error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    """However the package says that it is not there, the vendor is absent, nothing fails, and nothing is printed."""

    def missing(name: str) -> Any:
        print("Unable to find libamd_smi.so")
        raise error

    monkeypatch.setattr("mica.vendors.amd._library.importlib.import_module", missing)
    with pytest.raises(VendorAbsentError, match="amdsmi"):
        AmdDriver()
    assert open_drivers({Vendor.AMD: AmdDriver}) == ()
    assert capsys.readouterr().out == ""


def test_no_driver_and_no_device(smi: FakeAmdSmi) -> None:
    """A library without a driver behind it, or without a device, makes the vendor absent."""
    smi.failing["amdsmi_init"] = 34
    with pytest.raises(VendorAbsentError, match="amdsmi_init"):
        AmdDriver()
    smi.failing.clear()
    smi.buses = []
    with pytest.raises(VendorAbsentError, match="no device"):
        AmdDriver()
    assert smi.open == 0


def test_close(smi: FakeAmdSmi) -> None:
    """Every open is undone exactly once."""
    driver = AmdDriver()
    driver.close()
    driver.close()
    assert smi.open == 0
