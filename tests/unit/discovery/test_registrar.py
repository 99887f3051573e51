"""Surveys become one inventory in KV and the events that tell of its changes."""

import msgspec
import pytest
from fake_driver import FakeDriver

from mica.bus import BusUnavailableError, ManualClock, MemoryBus, StaleRevisionError
from mica.discovery.handlers import Registrar
from mica.discovery.inventory import Identity
from mica.discovery.probe import ABSENT_READS, Probe
from mica.events import Device, Health, Inventory, NodeHealthChanged, NodeInventoryChanged, Runtime, Vendor
from mica.observability import PassingTracer
from mica.vendors import VendorAbsentError, VendorDriver

KEY = "inventory.n1"


def l4(name: str, index: int = 0) -> Device:
    """An L4."""
    return Device(id=name, index=index, vendor=Vendor.NVIDIA, model="NVIDIA L4", vram_bytes=24 << 30)


class World:
    """A node with a faked library, and a registrar that can be restarted."""

    def __init__(self) -> None:
        self.bus = MemoryBus()
        self.driver = FakeDriver(l4("GPU-1"), l4("GPU-2", 1))
        self.probe = Probe({Vendor.NVIDIA: lambda: self.driver})
        self.restart()

    def restart(self) -> None:
        identity = Identity(node="n1", pool="default", boot_id="boot-1")
        self.registrar = Registrar(self.bus, identity, ManualClock(), PassingTracer())

    async def survey(self) -> None:
        await self.registrar.on_survey(self.probe.read())

    async def inventory(self) -> Inventory:
        entry = await self.bus.state.get(KEY, Inventory)
        assert entry is not None
        return entry.value

    async def revision(self) -> int:
        entry = await self.bus.state.get(KEY, Inventory)
        assert entry is not None
        return entry.revision

    def told(self) -> list[tuple[str, Health]]:
        return [(e.device_id, e.health) for e in self.bus.published("node.health.*") if isinstance(e, NodeHealthChanged)]


@pytest.fixture
def world() -> World:
    return World()


async def test_first_survey(world: World) -> None:
    """The first survey writes the inventory and tells of it; healthy devices are no news."""
    await world.survey()
    assert [device.id for device in (await world.inventory()).devices] == ["GPU-1", "GPU-2"]
    (event,) = world.bus.published("node.inventory.n1")
    assert isinstance(event, NodeInventoryChanged)
    assert event.devices == ("GPU-1", "GPU-2")
    assert world.told() == []


async def test_nothing_changed(world: World) -> None:
    """A survey that finds what is known writes nothing and tells nothing."""
    await world.survey()
    revision = await world.revision()
    await world.survey()
    assert await world.revision() == revision
    assert len(world.bus.published("node.inventory.n1")) == 1


async def test_failure_and_recovery(world: World) -> None:
    """A device that vanishes and one that errs are told as failed once each, and once more when they are back."""
    await world.survey()
    missing = world.driver.listed.pop()
    world.driver.failing.add("GPU-1")
    await world.survey()
    await world.survey()
    assert world.told() == [("GPU-1", Health.FAILED), ("GPU-2", Health.FAILED)]
    world.driver.listed.append(missing)
    world.driver.failing.clear()
    await world.survey()
    assert world.told()[2:] == [("GPU-1", Health.HEALTHY), ("GPU-2", Health.HEALTHY)]


async def test_a_library_that_dies(world: World) -> None:
    """A library that stops answering fails all its devices, is let go, and is opened anew."""
    await world.survey()
    world.driver.error = "nvmlDeviceGetCount: Uninitialized"
    await world.survey()
    events = [event for event in world.bus.published("node.health.*") if isinstance(event, NodeHealthChanged)]
    assert [event.message for event in events] == ["nvmlDeviceGetCount: Uninitialized"] * 2
    assert world.driver.closed == 1
    world.driver.error = ""
    await world.survey()
    assert {device.health for device in (await world.inventory()).devices} == {Health.HEALTHY}


async def test_told_after_a_lost_publish(world: World) -> None:
    """What was written and could not be told is told with the next survey."""
    world.bus.fail_next("node.inventory.n1")
    with pytest.raises(BusUnavailableError):
        await world.survey()
    await world.survey()
    assert len(world.bus.published("node.inventory.n1")) == 1


async def test_a_lost_answer(world: World) -> None:
    """A write whose answer was lost is found again: nothing is written twice, and its change is told."""
    await world.survey()
    world.driver.listed.pop()
    world.bus.fail_next(KEY, "after")
    with pytest.raises(BusUnavailableError):
        await world.survey()
    with pytest.raises(StaleRevisionError):
        await world.survey()
    revision = await world.revision()
    await world.survey()
    assert await world.revision() == revision
    assert world.told() == [("GPU-2", Health.FAILED)]


async def test_restart(world: World) -> None:
    """A restarted discovery writes nothing anew, and what failed while it was down is told."""
    await world.survey()
    revision = await world.revision()
    world.restart()
    await world.survey()
    assert await world.revision() == revision
    world.driver.listed.pop()
    world.restart()
    await world.survey()
    assert world.told() == [("GPU-2", Health.FAILED)]


def test_an_absent_vendor_is_looked_for_again() -> None:
    """A driver that is loaded after the service started is found, without being asked for at every reading."""
    attempts = 0

    def opener() -> VendorDriver:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise VendorAbsentError("nvmlInit: Driver Not Loaded")
        return FakeDriver(l4("GPU-1"))

    probe = Probe({Vendor.NVIDIA: opener})
    readings = [probe.read() for _ in range(ABSENT_READS + 1)]
    assert [len(reading.devices) for reading in readings] == [0] * ABSENT_READS + [1]
    assert attempts == 2
    assert all(not reading.silent for reading in readings)


def test_a_device_of_two_libraries_is_listed_once_and_not_at_all_while_its_vendors_own_is_silent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What another library says of it is not the whole: until its own speaks again it has failed, which is said once."""
    own, other = (
        FakeDriver(l4("GPU-1")),
        FakeDriver(msgspec.structs.replace(l4("GPU-1"), runtimes=(Runtime.OPENCL,)), name="opencl"),
    )
    probe = Probe({"nvidia": lambda: own, "opencl": lambda: other})
    (device,) = probe.read().devices
    assert device.runtimes == (Runtime.OPENCL,)
    own.error = "nvmlDeviceGetCount: GPU is lost"
    assert [probe.read().devices, probe.read().devices] == [(), ()]
    assert caplog.messages == ["nvidia is left out: nvmlDeviceGetCount: GPU is lost"]
    own.error, other.error = "", "clGetPlatformIDs: -6"
    assert [found.runtimes for found in probe.read().devices] == [()]


async def test_a_node_without_devices() -> None:
    """A node without any vendor has an empty inventory, not none."""
    world = World()
    world.probe = Probe({})
    await world.survey()
    assert (await world.inventory()).devices == ()
