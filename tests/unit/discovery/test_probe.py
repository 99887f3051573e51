"""What hangs in a library stalls nothing but itself, and comes back."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from fake_driver import FakeDriver, impatient

from mica.discovery.health import Failure
from mica.discovery.probe import Probe
from mica.events import Device, Link, LinkKind, Runtime, Severity, Vendor
from mica.vendors import Finding, VendorDriver, VendorError
from mica.vendors._watchdog import Answer, Name, Watchdog

SILENT = Failure("no answer within 2 s", "silent")


def gpu(number: int, vendor: Vendor = Vendor.NVIDIA) -> Device:
    """A device called by its vendor and number."""
    return Device(id=f"{vendor}-{number}", index=number, vendor=vendor, model="L4", vram_bytes=24 << 30)


class World:
    """A node with two libraries of two devices each."""

    def __init__(self) -> None:
        self.nvidia = FakeDriver(gpu(0), gpu(1))
        self.amd = FakeDriver(gpu(0, Vendor.AMD), gpu(1, Vendor.AMD), name="amd")
        self.watchdog = impatient(self.nvidia, self.amd)
        self.probe = Probe({"nvidia": lambda: self.nvidia, "amd": lambda: self.amd}, watchdog=self.watchdog)

    def ids(self) -> list[str]:
        """The devices of a survey."""
        return [device.id for device in self.probe.read().devices]

    def drain(self) -> None:
        """Wait until every thread has come back."""
        for thread in threading.enumerate():
            if thread.name.startswith(("nvidia-", "amd-")):
                thread.join()


@pytest.fixture
def world() -> Iterator[World]:
    """A world in which nothing hangs when the test is over."""
    world = World()
    yield world
    world.nvidia.release()
    world.amd.release()
    world.drain()


def test_a_device_that_hangs_stalls_no_other_and_keeps_its_last_description(world: World) -> None:
    """The others are read, the sick one is listed as it was, with the reason."""
    world.probe.read()
    world.nvidia.hang("nvidia-0")
    survey = world.probe.read()
    assert [device.id for device in survey.devices] == ["nvidia-0", "nvidia-1", "amd-0", "amd-1"]
    assert survey.failures == {"nvidia-0": SILENT}


def test_a_sequential_probe_would_stall(world: World) -> None:
    """The control: asked one after the other, the device after the one that hangs is never reached."""

    class Sequential(Watchdog):
        def ask(self, name: Name, call: Callable[[], Any]) -> bool:
            self._out.add(name)
            self._awaited.add(name)
            self._run(name, self.round, call)
            return True

    world.nvidia.hang("nvidia-0")
    reading = threading.Thread(target=Probe({"nvidia": lambda: world.nvidia}, watchdog=Sequential()).read, name="nvidia-control")
    reading.start()
    world.nvidia.inside.wait()
    assert "nvidia-1" not in world.nvidia.asked
    assert reading.is_alive()


def test_what_hangs_is_not_asked_again_before_it_comes_back(world: World) -> None:
    """However many surveys pass, one thread waits; and when it is back, the next survey finds the device in health."""
    world.probe.read()
    world.nvidia.hang("nvidia-0")
    world.nvidia.asked.clear()
    surveys = [world.probe.read() for _ in range(4)]
    assert [survey.failures for survey in surveys] == [{"nvidia-0": SILENT}] * 4
    assert world.nvidia.asked.count("nvidia-0") == 1
    assert sum(thread.name == "nvidia-device-nvidia-0" for thread in threading.enumerate()) == 1
    world.nvidia.release()
    world.drain()
    survey = world.probe.read()
    assert survey.failures == {}
    assert len(survey.devices) == 4


def test_what_a_device_says_too_late_is_not_lost(world: World) -> None:
    """Findings are told once by the library: those of a call that came back after its survey are in the next one."""
    world.probe.read()
    world.nvidia.hang("nvidia-0")
    xid = Finding(device_id="nvidia-0", kind="xid", severity=Severity.FATAL, message="XID 79", code=79)
    world.nvidia.found["nvidia-0"] = [xid]
    assert world.probe.read().findings == ()
    world.nvidia.release()
    world.drain()
    assert world.probe.read().findings == (xid,)


def test_a_device_that_hangs_from_the_start_is_a_warning(world: World) -> None:
    """Nobody knows yet which device it is: the node has a warning, and what is missing of its vendor says so, too."""
    world.nvidia.hang("nvidia-0")
    survey = world.probe.read()
    assert [device.id for device in survey.devices] == ["nvidia-1", "amd-0", "amd-1"]
    assert survey.warnings == ("nvidia device nvidia-0: no answer within 2 s",)
    assert survey.nameless == {"nvidia": survey.warnings}


def test_a_library_that_hangs_as_a_whole_stalls_no_other(world: World) -> None:
    """It is silent, the other library's devices are read; when it is back, so are its devices."""
    world.nvidia.hang("keys")
    for _ in range(2):
        survey = world.probe.read()
        assert survey.silent == {"nvidia": "no answer within 2 s"}
        assert [device.id for device in survey.devices] == ["amd-0", "amd-1"]
    assert world.nvidia.asked == ["keys"]
    world.nvidia.release()
    world.drain()
    assert len(world.ids()) == 4


def test_a_library_whose_links_hang_is_read_all_the_same(world: World) -> None:
    """Its links stay those that were known, with a warning."""
    link = Link(a="nvidia-0", b="nvidia-1", kind=LinkKind.NVLINK, lanes=4)
    world.nvidia.linked = (link,)
    assert world.probe.read().links == (link,)
    world.nvidia.hang("links")
    survey = world.probe.read()
    assert survey.links == (link,)
    assert survey.links_lack
    assert survey.failures == {}
    assert survey.warnings == ("nvidia: links: no answer within 2 s",)


def test_a_library_in_which_a_call_hangs_is_not_closed(world: World) -> None:
    """Closing it under that call might well crash: it is closed when the call is back, and opened anew."""
    world.probe.read()
    world.nvidia.hang("nvidia-0")
    world.probe.read()
    world.nvidia.error = "nvmlDeviceGetCount: Unknown Error"
    world.probe.read()
    assert world.nvidia.closed == 0
    world.nvidia.release()
    world.drain()
    world.probe.read()
    assert world.nvidia.closed == 1


def test_a_close_that_hangs_holds_up_nothing(world: World) -> None:
    """The end of the service does not wait for a library that does not let go, nor does the other library stay open."""
    world.probe.read()
    world.nvidia.hang("close")
    world.probe.close()
    assert (world.nvidia.closed, world.amd.closed) == (0, 1)
    thread = next(each for each in threading.enumerate() if each.name == "nvidia-closing-")
    assert thread.daemon


def test_garbage_from_an_adapter_is_one_devices_failure(world: World) -> None:
    """An exception that nobody expects is told with its kind; the other devices are read."""
    world.probe.read()
    world.nvidia.describe = lambda key: gpu(1) if key == "nvidia-1" else msgspec.json.decode(b"?")  # type: ignore[method-assign]
    survey = world.probe.read()
    assert len(survey.devices) == 4
    assert survey.failures["nvidia-0"].message.startswith("DecodeError: ")


def test_a_device_that_answers_under_another_name_is_listed_once(world: World) -> None:
    """A library that counts its devices anew after a loss: the old name's failure is no failure of the device."""
    world.probe.read()

    def describe(key: str) -> Device:
        if key == "nvidia-1":
            raise VendorError("nvidia device 1: gone")
        return gpu(1)

    world.nvidia.describe = describe  # type: ignore[method-assign]
    survey = world.probe.read()
    assert [device.id for device in survey.devices if device.vendor is Vendor.NVIDIA] == ["nvidia-1"]
    assert survey.failures == {}


def test_another_librarys_failure_is_no_failure_of_the_device() -> None:
    """What its vendor's own library reads is in health, whatever another one says; that is a warning of the node's."""
    own, other = FakeDriver(gpu(0)), FakeDriver(msgspec.structs.replace(gpu(0), runtimes=(Runtime.OPENCL,)), name="opencl")
    probe = Probe({"nvidia": lambda: own, "opencl": lambda: other}, watchdog=impatient(own, other))
    other.failing.add("nvidia-0")
    survey = probe.read()
    assert survey.failures == {}
    assert survey.warnings == ("opencl: nvidia-0: device nvidia-0: GPU is lost",)


def test_a_library_that_is_opened_too_late_is_used_from_then_on() -> None:
    """What an opener returns after its survey is neither opened twice nor lost."""
    driver, opened = FakeDriver(gpu(0)), []
    gate = threading.Event()

    def opener() -> VendorDriver:
        opened.append(1)
        gate.wait()
        return driver

    def wait(answers: Any, awaited: Any, left_s: float) -> Answer | None:
        del awaited, left_s
        return answers.get() if gate.is_set() else None

    probe = Probe({"nvidia": opener}, watchdog=Watchdog(wait=wait))
    assert probe.read().silent == {"nvidia": "no answer within 2 s"}
    gate.set()
    for thread in threading.enumerate():
        if thread.name.startswith("nvidia-listing"):
            thread.join()
    assert [device.id for device in probe.read().devices] == ["nvidia-0"]
    assert opened == [1]
