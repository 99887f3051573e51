"""Surveys become one inventory in KV and the events that tell of its changes."""

import msgspec
import pytest
from fake_driver import FakeDriver

from mica.bus import BusUnavailableError, ManualClock, MemoryBus, StaleRevisionError
from mica.discovery.handlers import Registrar
from mica.discovery.health import CALM_SURVEYS
from mica.discovery.inventory import Identity
from mica.discovery.libraries import ABSENT_READS
from mica.discovery.probe import Probe
from mica.events import Clearances, Device, Health, Inventory, NodeHealthChanged, NodeInventoryChanged, Runtime, Severity, Vendor
from mica.observability import PassingTracer
from mica.vendors import Finding, VendorAbsentError, VendorDriver

KEY = "inventory.n1"


def l4(name: str, index: int = 0) -> Device:
    """An L4."""
    return Device(id=name, index=index, vendor=Vendor.NVIDIA, model="NVIDIA L4", vram_bytes=24 << 30)


class World:
    """A node with a faked library, and a registrar that can be restarted."""

    def __init__(self) -> None:
        self.bus = MemoryBus()
        self.clock = ManualClock()
        self.driver = FakeDriver(l4("GPU-1"), l4("GPU-2", 1))
        self.probe = Probe({Vendor.NVIDIA: lambda: self.driver})
        self.restart()

    def restart(self) -> None:
        identity = Identity(node="n1", pool="default", boot_id="boot-1")
        self.registrar = Registrar(self.bus, identity, self.clock, PassingTracer())

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

    def events(self) -> list[NodeHealthChanged]:
        return [event for event in self.bus.published("node.health.*") if isinstance(event, NodeHealthChanged)]

    def told(self) -> list[tuple[str, Health]]:
        return [(event.device_id, event.health) for event in self.events()]


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


async def test_findings_become_events_with_severity_kind_and_code(world: World) -> None:
    """A fatal one is told once and stays; one that only happened is told each time that it does."""
    fatal = Finding(device_id="GPU-1", kind="xid", severity=Severity.FATAL, message="XID 79: fell off the bus", code=79)
    odd = Finding(device_id="GPU-2", kind="xid", severity=Severity.INFO, message="XID 13", code=13)
    await world.survey()
    world.driver.found = {"GPU-1": [fatal], "GPU-2": [odd]}
    await world.survey()
    world.driver.found = {"GPU-2": [odd]}
    world.clock.advance(10)
    await world.survey()
    assert [(e.device_id, e.health, e.severity, e.kind, e.code, e.message) for e in world.events()] == [
        ("GPU-2", Health.HEALTHY, Severity.INFO, "xid", 13, "XID 13"),
        ("GPU-1", Health.FAILED, Severity.FATAL, "xid", 79, "XID 79: fell off the bus"),
        ("GPU-2", Health.HEALTHY, Severity.INFO, "xid", 13, "XID 13"),
    ]


async def test_a_fatal_event_outlives_a_restart_and_ends_when_an_operator_clears_it(world: World) -> None:
    """The document carries it; a clearance is one event, and does not cover what happens later."""
    fatal = Finding(device_id="GPU-1", kind="xid", severity=Severity.FATAL, message="XID 79", code=79)
    world.driver.found = {"GPU-1": [fatal]}
    await world.survey()
    world.restart()
    await world.survey()
    device = (await world.inventory()).devices[0]
    assert (device.health, device.message) == (Health.FAILED, "XID 79")
    await world.bus.policy.put("health.n1", Clearances(cleared={"GPU-1": device.troubles[0].at}))
    await world.survey()
    assert (await world.inventory()).devices[0].health is Health.HEALTHY
    assert world.events()[-1].health is Health.HEALTHY
    world.clock.advance(10)
    world.driver.found = {"GPU-1": [fatal]}
    await world.survey()
    assert (await world.inventory()).devices[0].health is Health.FAILED


async def test_what_the_library_says_once_is_kept_until_it_is_written(world: World) -> None:
    """A bus that does not answer for a survey costs no finding."""
    await world.survey()
    fatal = Finding(device_id="GPU-1", kind="xid", severity=Severity.FATAL, message="XID 79", code=79)
    world.driver.found = {"GPU-1": [fatal]}
    world.bus.fail_next(KEY)
    with pytest.raises(BusUnavailableError):
        await world.survey()
    await world.survey()
    assert world.told() == [("GPU-1", Health.FAILED)]


async def test_a_warning_that_wavers_is_told_twice_at_most(world: World) -> None:
    """Hot, not hot, hot, and cool for good: degraded once, healthy once."""
    hot = Finding(device_id="GPU-1", kind="thermal", severity=Severity.WARNING, message="92 C", lasting=True)
    for said in (True, False, True, False, False, True):
        world.driver.found = {"GPU-1": [hot]} if said else {}
        await world.survey()
    world.driver.found = {}
    for _ in range(CALM_SURVEYS + 2):
        await world.survey()
    assert world.told() == [("GPU-1", Health.DEGRADED), ("GPU-1", Health.HEALTHY)]


async def test_a_recovery_during_a_restart_is_told(world: World) -> None:
    """What failed before discovery ended and is well when it is back: who follows the events hears of it."""
    await world.survey()
    world.driver.failing.add("GPU-1")
    await world.survey()
    world.driver.failing.clear()
    world.restart()
    await world.survey()
    assert world.told() == [("GPU-1", Health.FAILED), ("GPU-1", Health.HEALTHY)]
