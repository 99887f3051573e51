"""Whether MIG mode can be switched, and what becomes of it when NVML does not let us."""

import sys
import types
from pathlib import Path
from typing import Any

import pynvml as real
import pytest
from fake_pynvml import FakeNvml, h100

from mica.events import Device, Partition
from mica.vendors import PartitionInUseError, VendorError
from mica.vendors.nvidia import NvidiaDriver
from mica.vendors.nvidia._mode import NO_PRIVILEGE, may_administer

SMALL = Partition(profile="1g.10gb", profile_id=19, start=0, size=1)
RESET = "takes a reset: nvidia-smi --gpu-reset"
A100 = {
    "nvmlDeviceGetPciInfo": types.SimpleNamespace(busId=b"00000000:01:00.0", pciDeviceId=0x20B2_10DE),
    "nvmlDeviceGetCudaComputeCapability": (8, 0),
}


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """The faked library, with an H100 in it; this process may do everything."""
    fake = FakeNvml(h100())
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.delenv("MICA_SIM_DIR", raising=False)
    monkeypatch.setattr("mica.vendors.nvidia._driver.may_administer", lambda: True)
    return fake


def error(name: str) -> Any:
    """What NVML answers."""
    return real.NVMLError(getattr(real, f"NVML_ERROR_{name}"))


def described() -> Device:
    (found,) = NvidiaDriver().devices()
    return found


@pytest.mark.parametrize(
    ("answers", "refusal"),
    [
        ({}, ""),
        (A100, f"MIG mode is off, and switching it on this device {RESET}"),
        (A100 | {"nvmlDeviceGetMigMode": [1, 1], "profiles": {}}, f"MIG mode is on, and switching it on this device {RESET}"),
        (A100 | {"nvmlDeviceGetMigMode": [0, 1]}, "MIG mode is off and waits for a reset to be switched: nvidia-smi --gpu-reset"),
        ({"nvmlDeviceGetMigMode": error("FUNCTION_NOT_FOUND")}, "the driver is too old for MIG: R450 or later has it"),
        ({"nvmlDeviceGetMigMode": error("NOT_SUPPORTED")}, "NVML has no MIG mode for it"),
        ({"nvmlDeviceGetVirtualizationMode": 2}, "a virtual GPU: its host makes MIG instances, not its guest"),
        (
            {
                "nvmlDeviceGetMigMode": error("NOT_SUPPORTED"),
                "nvmlDeviceGetPciInfo": types.SimpleNamespace(busId=b"00000000:01:00.0", pciDeviceId=0x27B8_10DE),
            },
            "no MIG on this model",
        ),
    ],
)
def test_why_a_device_can_not_be_switched(nvml: FakeNvml, answers: dict[str, Any], refusal: str) -> None:
    """Either it can, or it says why not."""
    nvml.present = [h100(**answers)]
    found = described()
    assert (found.hardware_refusal, found.switchable) == (refusal, not refusal)


def test_privilege(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not administer the machine is told so; its profiles are listed all the same."""
    monkeypatch.setattr("mica.vendors.nvidia._driver.may_administer", lambda: False)
    found = described()
    assert (found.hardware_refusal, found.switchable) == (NO_PRIVILEGE, False)
    assert found.profiles


@pytest.mark.parametrize(
    ("status", "may"),
    [("Name:\tx\nCapEff:\t000001ffffffffff\n", True), ("CapEff:\t00000000a80425fb\n", False), ("Name:\tx\n", True), (None, True)],
)
def test_privilege_is_the_kernels_to_say(tmp_path: Path, status: str | None, may: bool) -> None:
    """CAP_SYS_ADMIN in force: a container has it when it is privileged. Where the kernel does not say, NVML will."""
    path = tmp_path / "status"
    if status is not None:
        path.write_text(status)
    assert may_administer(path) is may


def test_what_nvml_refuses_is_remembered(nvml: FakeNvml) -> None:
    """Once it has said who may not, the device is not offered for switching any more."""
    nvml.present = [h100(nvmlDeviceSetMigMode=error("NO_PERMISSION"))]
    driver = NvidiaDriver()
    assert driver.describe("0").switchable
    with pytest.raises(VendorError, match=r"make 1g\.10gb at slot 0: no privilege"):
        driver.create("GPU-1", SMALL)
    assert driver.describe("0").hardware_refusal == NO_PRIVILEGE


@pytest.mark.parametrize(
    ("answer", "raised", "said"),
    [
        (real.NVML_ERROR_IN_USE, PartitionInUseError, "in use"),
        (error("IN_USE"), PartitionInUseError, "in use"),
        (real.NVML_ERROR_RESET_REQUIRED, VendorError, "GPU requires restart"),
        (error("UNKNOWN"), VendorError, "Unknown Error"),
    ],
)
def test_a_mode_that_does_not_take_effect_is_taken_back(nvml: FakeNvml, answer: Any, raised: type[Exception], said: str) -> None:
    """Whether NVML fails or says so in the status: the device is not left to be switched by the next reset."""
    nvml.present = [h100(nvmlDeviceSetMigMode=answer)]
    with pytest.raises(raised, match=said):
        NvidiaDriver().create("GPU-1", SMALL)
    assert nvml.present[0]["switched"] == ([1] if isinstance(answer, Exception) else [1, 0])


def test_a_device_in_use_is_not_switched(nvml: FakeNvml) -> None:
    """Neither under a program that computes nor under one that draws; NVML is not even asked."""
    process = types.SimpleNamespace(pid=7, usedGpuMemory=1)
    for call in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
        nvml.present = [h100(**{call: [process]})]
        with pytest.raises(PartitionInUseError) as caught:
            NvidiaDriver().create("GPU-1", SMALL)
        assert caught.value.pids == {7}
        assert "switched" not in nvml.present[0]


def test_ampere_is_not_touched(nvml: FakeNvml) -> None:
    """What takes a reset is refused before anything is changed."""
    nvml.present = [h100(**A100)]
    with pytest.raises(VendorError, match="this takes a reset"):
        NvidiaDriver().create("GPU-1", SMALL)
    nvml.present = [h100(**A100, nvmlDeviceGetMigMode=[1, 1])]
    with pytest.raises(VendorError, match="switch MIG mode off: this takes a reset"):
        NvidiaDriver().make_whole("GPU-1")
    assert "switched" not in nvml.present[0]


def test_a_whole_device_is_whole(nvml: FakeNvml) -> None:
    """Making it so changes nothing, and it has no partitions to destroy."""
    driver = NvidiaDriver()
    driver.make_whole("GPU-1")
    driver.destroy("GPU-1", SMALL)
    assert driver.living() == {}
    assert "switched" not in nvml.present[0]
