"""How NVIDIA devices are reached: by each other over NVLink, and by processes."""

import sys
import types
from collections import Counter
from pathlib import Path

import pynvml as real
import pytest
from fake_pynvml import FakeNvml, h100

from mica.events import LinkKind, Partition
from mica.vendors.nvidia import NvidiaDriver
from mica.vendors.nvidia._access import read_minors
from mica.vendors.nvidia._links import Ports, join

MINORS = "config 1\nmonitor 2\ngpu3/gi5/access 606\ngpu3/gi5/ci0/access 607\ngpu3/gi6/access 615\nbroken line here\nodd x\n"


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeNvml:
    """The faked library, with an H100 and an instance of it, and the driver's list of capabilities."""
    instance = {"nvmlDeviceGetUUID": "MIG-1", "nvmlDeviceGetGpuInstanceId": 5, "nvmlDeviceGetComputeInstanceId": 0}
    fake = FakeNvml(h100(nvmlDeviceGetMinorNumber=3), instance)
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.delenv("MICA_SIM_DIR", raising=False)
    return fake


def ports(name: str, switched: int = 0, bytes_per_s: int = 25, **direct: int) -> Ports:
    return Ports(device_id=name, address=name, direct=Counter(direct), switched=switched, bytes_per_s=bytes_per_s)


def test_direct_links_count_and_add_up() -> None:
    """Each pair once, with its links and their sum; a pair without any is none."""
    links = join([ports("a", b=2), ports("b", a=2, c=1), ports("c", b=1)])
    assert [(each.a, each.b, each.lanes, each.bytes_per_s) for each in links] == [("a", "b", 2, 50), ("b", "c", 1, 25)]
    assert {each.kind for each in links} == {LinkKind.NVLINK}


def test_behind_switches_everybody_reaches_everybody() -> None:
    """Over as many links as the one with fewer has; a device with a link down slows its own pairs only."""
    links = join([ports("a", 18), ports("b", 18), ports("c", 17), ports("d")])
    assert [(each.a, each.b, each.lanes) for each in links] == [("a", "b", 18), ("a", "c", 17), ("b", "c", 17)]
    assert {each.kind for each in links} == {LinkKind.NVSWITCH}


def test_links_that_a_driver_tells_little_of(nvml: FakeNvml) -> None:
    """A library without remote types tells switches from devices by the address; an unknown generation has no speed."""
    peer = types.SimpleNamespace(busId=b"00000000:02:00.0", pciDeviceId=0x2330_10DE)
    seen = {"nvmlDeviceGetNvLinkState": 1, "nvmlDeviceGetNvLinkVersion": 99}
    nvml.present = [
        h100(nvmlDeviceGetNvLinkRemotePciInfo=peer, **seen),
        h100(nvmlDeviceGetUUID="GPU-2", nvmlDeviceGetPciInfo=peer, nvmlDeviceGetNvLinkState=1),
        h100(nvmlDeviceGetUUID="GPU-3", nvmlDeviceGetNvLinkState=real.NVMLError(real.NVML_ERROR_GPU_IS_LOST)),
    ]
    (link,) = NvidiaDriver().links()
    assert (link.a, link.b, link.kind, link.bytes_per_s) == ("GPU-1", "GPU-2", LinkKind.NVLINK, 0)


def test_no_links_are_no_error(nvml: FakeNvml) -> None:
    """Devices without NVLink are on their own."""
    assert NvidiaDriver().links() == ()


def test_access_to_a_device(nvml: FakeNvml) -> None:
    """Its own node by its minor number, which is not its index, and those that all share."""
    access = NvidiaDriver().access("GPU-1", None)
    assert access.visible == {"CUDA_VISIBLE_DEVICES": "GPU-1", "NVIDIA_VISIBLE_DEVICES": "GPU-1"}
    assert access.devices == ("/dev/nvidia3", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")
    assert access.cdi == "nvidia.com/gpu=GPU-1"


@pytest.mark.parametrize(
    ("minors", "caps"), [(MINORS, ("/dev/nvidia-caps/nvidia-cap606", "/dev/nvidia-caps/nvidia-cap607")), (None, ())]
)
def test_access_to_an_instance(
    nvml: FakeNvml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minors: str | None, caps: tuple[str, ...]
) -> None:
    """Beside the device's the nodes of its own two capabilities and no other's, as far as the driver's list can be read."""
    path = tmp_path / "mig-minors"
    if minors is not None:
        path.write_text(minors)
    monkeypatch.setattr("mica.vendors.nvidia._access.read_minors", lambda _: read_minors(path))
    partition = Partition(profile="1g.10gb", profile_id=19, start=0, size=1, uuid="MIG-1")
    access = NvidiaDriver().access("GPU-1", partition)
    assert access.visible["CUDA_VISIBLE_DEVICES"] == "MIG-1"
    assert access.devices[4:] == caps
    assert access.cdi == "nvidia.com/gpu=MIG-1"


def test_garbage_in_the_list_of_capabilities_is_skipped(tmp_path: Path) -> None:
    """Only lines of a name and a number count."""
    path = tmp_path / "mig-minors"
    path.write_text(MINORS)
    assert set(read_minors(path).values()) == {1, 2, 606, 607, 615}
