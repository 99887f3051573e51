"""NVML's answers become devices and readings; its failures become one error each."""

import os
import sys
import types
from pathlib import Path
from typing import Any

import pynvml as real
import pytest
from fake_pynvml import FakeNvml, Memory, device, h100

from mica.events import Runtime, Vendor
from mica.hardware import Catalogue
from mica.vendors import VendorAbsentError, VendorError, open_drivers
from mica.vendors.nvidia import NvidiaDriver
from mica.vendors.nvidia._compute import multiprocessors

H100 = Catalogue.load().model("H100-SXM-80GB")


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """The faked library, with one L4 in it."""
    fake = FakeNvml(device())
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.delenv("MICA_SIM_DIR", raising=False)
    return fake


def lost() -> Exception:
    """What NVML says of a device that fell off the bus."""
    error: Exception = real.NVMLError(real.NVML_ERROR_GPU_IS_LOST)
    return error


def test_a_whole_device(nvml: FakeNvml) -> None:
    """A device is described by what NVML says of it, multiprocessors by its core count."""
    (found,) = NvidiaDriver().devices()
    assert (found.id, found.index, found.vendor, found.model) == ("GPU-1", 0, Vendor.NVIDIA, "NVIDIA L4")
    assert (found.vram_bytes, found.reserve_bytes) == (23_034 << 20, 1 << 28)
    assert (found.compute_capability, found.multiprocessors) == ((8, 9), 58)
    assert (found.partitioned, found.profiles, found.compute_slices) == (False, (), 0)
    assert (found.pci_bus_id, found.numa_node) == ("00000000:01:00.0", 1)
    assert found.runtimes == (Runtime.CUDA,)
    assert not found.simulated


def test_a_partitioned_device(nvml: FakeNvml) -> None:
    """A device in MIG mode offers each profile that NVML places, with its slots as NVML gives them."""
    nvml.present = [
        device(
            nvmlDeviceGetMigMode=[1, 1],
            profiles={0: (profile(19, "MIG 1g.10gb", 1, 7), [(0, 1), (1, 1)]), 4: (profile(0, "MIG 7g.80gb", 7, 1), [(0, 8)])},
        )
    ]
    (found,) = NvidiaDriver().devices()
    assert found.partitioned
    assert found.compute_slices == 7
    small, whole = found.profiles
    assert (small.name, small.profile_id, small.size, small.starts, small.max_instances) == ("1g.10gb", 19, 1, (0, 1), 7)
    assert (whole.name, whole.size, whole.starts, whole.vram_bytes) == ("7g.80gb", 8, (0,), 9984 << 20)


def profile(identity: int, name: str, slices: int, instances: int) -> Any:
    """A profile as pynvml returns it."""
    return types.SimpleNamespace(
        id=identity,
        name=name,
        memorySizeMB=9984,
        sliceCount=slices,
        multiprocessorCount=16 * slices,
        instanceCount=instances,
    )


def test_mig_switched_off(nvml: FakeNvml) -> None:
    """A device that could do MIG and has it off is a whole device, with the profiles that the catalogue knows of."""
    nvml.present = [h100(nvmlDeviceGetMigMode=[0, 0])]
    (found,) = NvidiaDriver().devices()
    assert not found.partitioned
    assert found.profiles == H100.partition_profiles()
    assert (found.compute_slices, found.budgets) == (7, {"media_extensions": 1})
    assert found.warnings == ()


def test_instances_of_a_device_that_the_catalogue_lacks(nvml: FakeNvml) -> None:
    """In MIG mode NVML's profiles do, and by its name one with media engines needs them; with it off nothing is known."""
    pci = types.SimpleNamespace(busId=b"00000000:01:00.0", pciDeviceId=0xFFFF_10DE)
    profiles = {0: (profile(19, "MIG 1g.5gb", 1, 7), [(0, 1)]), 7: (profile(20, "MIG 1g.5gb+me", 1, 1), [(0, 1)])}
    nvml.present = [device(nvmlDeviceGetPciInfo=pci, nvmlDeviceGetMigMode=[1, 1], profiles=profiles)]
    (found,) = NvidiaDriver().devices()
    assert [(each.name, each.needs) for each in found.profiles] == [("1g.5gb", {}), ("1g.5gb+me", {"media_extensions": 1})]
    assert (found.budgets, found.warnings) == ({"media_extensions": 1}, ())
    nvml.present[0]["nvmlDeviceGetMigMode"] = [0, 0]
    (found,) = NvidiaDriver().devices()
    assert (found.profiles, found.budgets) == ((), {})


def test_nvml_against_the_catalogue(nvml: FakeNvml) -> None:
    """NVML's word goes, and what it contradicts is said: memory, multiprocessors and profiles."""
    profiles = {0: (profile(19, "MIG 1g.11gb", 1, 7), [(0, 1)])}
    nvml.present = [
        h100(
            nvmlDeviceGetMemoryInfo=Memory(60_000 << 20, 0, 0),
            nvmlDeviceGetNumGpuCores=128 * 100,
            nvmlDeviceGetMigMode=[1, 1],
            profiles=profiles,
        )
    ]
    (found,) = NvidiaDriver().devices()
    memory, processors, geometry = found.warnings
    assert memory == "memory: 60000 MiB, the catalogue's H100-SXM-80GB has 81559 MiB"
    assert processors == "multiprocessors: 100, the catalogue's H100-SXM-80GB has 132"
    assert geometry.startswith("profiles: 1g.11gb (19) here only, 7g.80gb (0), ")
    assert [each.name for each in found.profiles] == ["1g.11gb"]


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"nvmlDeviceGetMemoryInfo": Memory(0, 0, 0)}, "NVML counts 0 bytes of memory"),
        ({"nvmlDeviceGetMemoryInfo": Memory(1 << 60, 0, 0)}, "NVML counts 1152921504606846976 bytes"),
        ({"nvmlDeviceGetMemoryInfo": Memory(1 << 30, 1 << 31, 0)}, "2147483648 of them reserved"),
        (
            {"nvmlDeviceGetName": UnicodeDecodeError("utf-8", b"\xff\xfe", 0, 1, "invalid")},
            r"answers b'\\xff\\xfe', wanted: text",
        ),
    ],
)
def test_an_answer_that_makes_no_sense(nvml: FakeNvml, answers: dict[str, Any], said: str) -> None:
    """Absurd sizes and names that are no text are an error about that device; the others are listed."""
    nvml.present = [device(**answers), device(nvmlDeviceGetUUID="GPU-2")]
    with pytest.raises(VendorError, match=said):
        NvidiaDriver().describe("0")
    assert [found.id for found in NvidiaDriver().devices()] == ["GPU-2"]


def test_an_absurd_count_of_devices(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error of the library, and not two thousand million devices."""
    monkeypatch.setattr(nvml, "nvmlDeviceGetCount", lambda: 1 << 31, raising=False)
    with pytest.raises(VendorError, match="2147483648 devices, allowed: at most 1024"):
        NvidiaDriver().keys()


def test_unknown_is_not_guessed(nvml: FakeNvml) -> None:
    """What an old driver does not know stays at zero or minus one."""
    unknown = real.NVMLError(real.NVML_ERROR_FUNCTION_NOT_FOUND)
    nvml.present = [device(nvmlDeviceGetNumGpuCores=unknown, nvmlDeviceGetMemoryAffinity=unknown)]
    (found,) = NvidiaDriver().devices()
    assert (found.multiprocessors, found.numa_node) == (0, -1)


def test_one_broken_device(nvml: FakeNvml, caplog: pytest.LogCaptureFixture) -> None:
    """A device that cannot be read is left out, said once, and the others are listed."""
    nvml.present = [device(nvmlDeviceGetUUID=lost()), device(nvmlDeviceGetUUID="GPU-2")]
    driver = NvidiaDriver()
    for _ in range(3):
        assert [found.id for found in driver.devices()] == ["GPU-2"]
    assert [record.message for record in caplog.records] == ["nvidia device 0: GPU is lost; the device is left out"]


def test_sample(nvml: FakeNvml) -> None:
    """A reading is in the port's units."""
    reading = NvidiaDriver().sample("GPU-1")
    assert (reading.vram_used_bytes, reading.vram_total_bytes) == (2 << 30, 23_034 << 20)
    assert (reading.utilisation_ppm, reading.power_mw, reading.temperature_c) == (370_000, 55_000, 41)


def test_sample_of_a_partition(nvml: FakeNvml) -> None:
    """Counters that a MIG device does not have read as None, not as zero."""
    refused = real.NVMLError(real.NVML_ERROR_NOT_SUPPORTED)
    nvml.present = [
        device(
            nvmlDeviceGetUUID="MIG-1",
            nvmlDeviceGetMemoryInfo=Memory(9 << 30, 0, 1 << 30),
            nvmlDeviceGetUtilizationRates=refused,
            nvmlDeviceGetPowerUsage=refused,
            nvmlDeviceGetTemperature=refused,
        )
    ]
    reading = NvidiaDriver().sample("MIG-1")
    assert reading.vram_used_bytes == 1 << 30
    assert (reading.utilisation_ppm, reading.power_mw, reading.temperature_c) == (None, None, None)


def test_processes(nvml: FakeNvml) -> None:
    """Processes come with their memory, 0 where NVML does not say."""
    assert NvidiaDriver().compute_processes("GPU-1") == [(7, 1 << 20), (8, 0)]


def test_errors_name_the_device(nvml: FakeNvml) -> None:
    """An error says which device and what NVML answered."""
    with pytest.raises(VendorError, match=r"^device GPU-9: Not Found$"):
        NvidiaDriver().sample("GPU-9")
    nvml.present = [device(nvmlDeviceGetMemoryInfo=lost())]
    with pytest.raises(VendorError, match=r"^device GPU-1: GPU is lost$"):
        NvidiaDriver().sample("GPU-1")


@pytest.mark.parametrize("cause", ["LIBRARY_NOT_FOUND", "DRIVER_NOT_LOADED"])
def test_absent(nvml: FakeNvml, cause: str) -> None:
    """A machine without NVML, or without its driver, has no NVIDIA devices and no error."""
    nvml.init_error = real.NVMLError(getattr(real, f"NVML_ERROR_{cause}"))
    with pytest.raises(VendorAbsentError, match="nvmlInit"):
        NvidiaDriver()
    assert open_drivers({Vendor.NVIDIA: NvidiaDriver}) == ()


def test_present_and_broken(nvml: FakeNvml, caplog: pytest.LogCaptureFixture) -> None:
    """A library that is there and does not start is logged and left out."""
    nvml.init_error = real.NVMLError(real.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
    assert open_drivers({Vendor.NVIDIA: NvidiaDriver}) == ()
    assert "nvidia is left out: nvmlInit: RM has detected" in caplog.text


def test_close(nvml: FakeNvml) -> None:
    """Every open is undone exactly once."""
    driver = NvidiaDriver()
    assert nvml.open == 1
    driver.close()
    driver.close()
    assert nvml.open == 0


@pytest.mark.parametrize(
    ("cores", "capability", "expected"),
    [(16_896, (9, 0), 132), (6_912, (8, 0), 108), (3_840, (6, 1), 30), (0, (9, 0), 0), (9_999, (99, 0), 0)],
)
def test_multiprocessors(cores: int, capability: tuple[int, int], expected: int) -> None:
    """Core counts of H100, A100 and P40 give their multiprocessors; an unknown generation gives none."""
    assert multiprocessors(cores, capability) == expected


@pytest.mark.parametrize(
    ("cuda_version", "capability", "has"), [(12_040, (7, 0), True), (12_030, (9, 0), False), (13_000, (6, 1), False)]
)
def test_green_contexts_need_a_driver_and_a_device_that_have_them(
    nvml: FakeNvml, cuda_version: int, capability: tuple[int, int], has: bool
) -> None:
    """CUDA 12.4, and compute capability 7.0."""
    nvml.present = [device(nvmlDeviceGetCudaComputeCapability=capability)]
    nvml.cuda_version = cuda_version
    (found,) = NvidiaDriver().devices()
    assert found.green_contexts is has


def test_a_device_in_mig_mode_is_not_under_the_nodes_mps(nvml: FakeNvml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its partitions are apart in hardware."""
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    os.mkfifo(tmp_path / "control")
    reader = os.open(tmp_path / "control", os.O_RDONLY | os.O_NONBLOCK)
    parted = device(nvmlDeviceGetMigMode=[1, 1], profiles={0: (profile(19, "MIG 1g.10gb", 1, 7), [(0, 1)])})
    nvml.present = [parted, device(nvmlDeviceGetUUID="GPU-2")]
    assert [found.mps_pipe for found in NvidiaDriver().devices()] == ["", str(tmp_path)]
    os.close(reader)
