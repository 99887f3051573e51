"""A vendor is one file and one catalogue entry: with nothing else changed its devices are found, planned, carved and reached."""

import asyncio
import json
from importlib.metadata import EntryPoint, EntryPoints

import pytest
from acme_driver import AcmeDriver
from msgspec.structs import replace

from mica.bus import Change, ManualClock, MemoryBus
from mica.discovery.inventory import Identity, take_stock
from mica.discovery.probe import Probe
from mica.enforcer.handlers import Enforcer, take_over
from mica.enforcer.hardware import VendorPartitions
from mica.enforcer.memory import MemoryNode
from mica.events import Ledger, Mode, Observed, RequestSlice, SliceReady
from mica.observability import PassingTracer
from mica.planner.service import Planner, World
from mica.vendors import _open, all_openers


async def test_a_driver_of_another_package_is_all_that_a_vendor_needs() -> None:
    """From discovery to a slice that is ready, with the vendor's own partition and variable."""
    bus, clock, driver = MemoryBus(), ManualClock(), AcmeDriver()
    survey = Probe({"acme": lambda: driver}).read()
    inventory = take_stock(Identity(node="n1", pool="default", boot_id="boot-1"), None, survey)
    await bus.state.put("inventory.n1", inventory)
    node = MemoryNode(bus, clock)
    enforcer = await take_over(replace(node.world, partitions=VendorPartitions([driver])))
    await settle(enforcer)
    ready = asyncio.Event()
    planner = asyncio.create_task(Planner(World(bus, clock, PassingTracer())).run(ready.set))
    await ready.wait()
    await bus.publish(RequestSlice(tenant="t1", id="a", vram_bytes=20 << 30))
    for _ in range(200):
        await asyncio.sleep(0)
    entry = await bus.state.get("ledger.n1", Ledger)
    assert entry is not None
    enforcer.on_ledger([Change("ledger.n1", entry.value, entry.revision)])
    await settle(enforcer)
    planner.cancel()
    (said,) = bus.published("slice.ready.a")
    assert isinstance(said, SliceReady)
    placement = said.placements[0]
    assert (placement.mode, placement.partition and placement.partition.profile) == (Mode.HARDWARE, "half")
    assert [each.profile for each in driver.made[placement.device_id]] == ["half"]
    environment = json.loads(node.regions.documents["a"])["env"]
    assert environment["ACME_VISIBLE_DEVICES"] == f"{placement.device_id}/0"
    observed = await bus.state.get("observed.n1", Observed)
    assert observed is not None
    assert "a" in observed.value.devices[placement.device_id]


async def settle(enforcer: Enforcer) -> None:
    while enforcer.due.is_set() or enforcer.telling_due.is_set() or enforcer.node.jobs:
        await enforcer.settle()
        await enforcer.tell()
        await enforcer.do_jobs()


def test_drivers_of_other_packages_are_found_by_their_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come after mica's own, can not take their names, and one that does not load hides no other."""
    offered = EntryPoints(
        [
            EntryPoint("acme", "acme_driver:AcmeDriver", "mica.vendors"),
            EntryPoint("nvidia", "acme_driver:AcmeDriver", "mica.vendors"),
            EntryPoint("broken", "no_such_module:Driver", "mica.vendors"),
        ]
    )
    monkeypatch.setattr(_open, "entry_points", lambda group: offered.select(group=group))
    found = all_openers()
    assert list(found)[-1] == "acme"
    assert isinstance(found["acme"](), AcmeDriver)
    assert found["nvidia"] is _open.OPENERS["nvidia"]
    assert "broken" not in found
