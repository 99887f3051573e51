"""amdsmi's answers become devices and readings; a machine without it has none."""

import sys
import types
from typing import Any

import pytest

from mica.events import Runtime, Vendor
from mica.vendors import VendorAbsentError, VendorError, open_drivers
from mica.vendors.amd import AmdDriver


class LibraryError(Exception):
    """amdsmi's AmdSmiLibraryException, which is an AmdSmiException."""


class FakeAmdSmi(types.ModuleType):
    """The amdsmi module with one MI300X behind it."""

    AmdSmiException = LibraryError
    AmdSmiLibraryException = LibraryError
    AmdSmiMemoryType = types.SimpleNamespace(VRAM="vram")
    AmdSmiTemperatureType = types.SimpleNamespace(HOTSPOT="hotspot")
    AmdSmiTemperatureMetric = types.SimpleNamespace(CURRENT="current")

    def __init__(self) -> None:
        super().__init__("amdsmi")
        self.uuids = ["uuid-1"]
        self.open = 0
        self.failing: set[str] = set()

    def _fail(self, name: str) -> None:
        if name in self.failing:
            raise LibraryError(f"{name}: AMDSMI_STATUS_NOT_SUPPORTED")

    def amdsmi_init(self) -> None:
        self._fail("amdsmi_init")
        self.open += 1

    def amdsmi_shut_down(self) -> None:
        self.open -= 1

    def amdsmi_get_processor_handles(self) -> list[str]:
        return self.uuids

    def amdsmi_get_gpu_device_uuid(self, handle: str) -> str:
        return handle

    def amdsmi_get_gpu_device_bdf(self, handle: str) -> str:
        return "0000:05:00.0"

    def amdsmi_get_gpu_asic_info(self, handle: str) -> dict[str, Any]:
        self._fail("amdsmi_get_gpu_asic_info")
        return {"market_name": "AMD Instinct MI300X", "num_compute_units": 304}

    def amdsmi_get_gpu_memory_total(self, handle: str, kind: str) -> int:
        return 192 << 30

    def amdsmi_get_gpu_memory_usage(self, handle: str, kind: str) -> int:
        return 3 << 30

    def amdsmi_topo_get_numa_node_number(self, handle: str) -> int:
        self._fail("amdsmi_topo_get_numa_node_number")
        return 1

    def amdsmi_get_gpu_activity(self, handle: str) -> dict[str, Any]:
        return {"gfx_activity": 42}

    def amdsmi_get_power_info(self, handle: str) -> dict[str, Any]:
        return {"current_socket_power": "N/A", "average_socket_power": 180}

    def amdsmi_get_temp_metric(self, handle: str, sensor: str, metric: str) -> int:
        self._fail("amdsmi_get_temp_metric")
        return 55

    def amdsmi_get_gpu_process_list(self, handle: str) -> list[dict[str, Any]]:
        return [{"pid": 9, "memory_usage": {"vram_mem": 1 << 30}}]


@pytest.fixture
def smi(monkeypatch: pytest.MonkeyPatch) -> FakeAmdSmi:
    """The faked library."""
    fake = FakeAmdSmi()
    monkeypatch.setitem(sys.modules, "amdsmi", fake)
    return fake


def test_devices(smi: FakeAmdSmi) -> None:
    """A device is listed with what amdsmi says of it, and offers no partition that nobody enforces."""
    (found,) = AmdDriver().devices()
    assert (found.id, found.vendor, found.model, found.vram_bytes) == ("uuid-1", Vendor.AMD, "AMD Instinct MI300X", 192 << 30)
    assert (found.multiprocessors, found.numa_node, found.pci_bus_id) == (304, 1, "0000:05:00.0")
    assert (found.runtimes, found.partitioned, found.profiles) == ((Runtime.HIP,), False, ())


def test_a_device_without_topology(smi: FakeAmdSmi) -> None:
    """What the library does not support stays at its default."""
    smi.failing.add("amdsmi_topo_get_numa_node_number")
    assert AmdDriver().devices()[0].numa_node == -1


def test_a_broken_device(smi: FakeAmdSmi, caplog: pytest.LogCaptureFixture) -> None:
    """A device that cannot be read is left out, said once."""
    smi.failing.add("amdsmi_get_gpu_asic_info")
    driver = AmdDriver()
    assert driver.devices() == ()
    assert driver.devices() == ()
    assert len(caplog.records) == 1


def test_sample(smi: FakeAmdSmi) -> None:
    """A reading is in the port's units, None where amdsmi does not measure."""
    smi.failing.add("amdsmi_get_temp_metric")
    reading = AmdDriver().sample("uuid-1")
    assert (reading.vram_used_bytes, reading.vram_total_bytes) == (3 << 30, 192 << 30)
    assert (reading.utilisation_ppm, reading.power_mw, reading.temperature_c) == (420_000, 180_000, None)


def test_processes(smi: FakeAmdSmi) -> None:
    """Processes come with the VRAM they hold."""
    assert AmdDriver().compute_processes("uuid-1") == [(9, 1 << 30)]


def test_an_unknown_device(smi: FakeAmdSmi) -> None:
    """A device that amdsmi does not list is one clear error."""
    with pytest.raises(VendorError, match="device uuid-2: amdsmi lists no such device"):
        AmdDriver().sample("uuid-2")


def test_a_library_that_does_not_start(smi: FakeAmdSmi, caplog: pytest.LogCaptureFixture) -> None:
    """A library that is there and fails is logged and left out."""
    smi.failing.add("amdsmi_init")
    assert open_drivers({Vendor.AMD: AmdDriver}) == ()
    assert "amd is left out: amdsmi_init" in caplog.text


@pytest.mark.parametrize("error", [ImportError("no amdsmi"), KeyError("libamd_smi.so"), OSError("no such file")])
def test_absent(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """However the package says that it is not there, the vendor is absent and nothing fails."""

    def missing(name: str) -> Any:
        raise error

    monkeypatch.setattr("mica.vendors.amd._driver.importlib.import_module", missing)
    with pytest.raises(VendorAbsentError, match="amdsmi"):
        AmdDriver()
    assert open_drivers({Vendor.AMD: AmdDriver}) == ()


def test_close(smi: FakeAmdSmi) -> None:
    """Every open is undone exactly once."""
    driver = AmdDriver()
    driver.close()
    driver.close()
    assert smi.open == 0
