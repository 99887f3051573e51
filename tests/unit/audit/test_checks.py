"""Every check of the audit can fail: one thing is broken at a time, and named."""

from collections.abc import Callable
from typing import Any

import audit_world as w
import pytest
from msgspec.structs import replace

from mica.audit import DriverProcess, Tally, World, check_world
from mica.audit.invariants import host_given
from mica.bus import Heard
from mica.events import (
    Control,
    Departure,
    Held,
    Holding,
    Ledger,
    Mode,
    ObservedState,
    Phase,
    Placement,
    Runtime,
    SliceFailed,
    SliceReady,
    SliceRejected,
    SliceReleased,
    TenantHoldings,
    TenantPolicy,
    TenantQuota,
)
from mica.region import Spatial

GIB = w.GIB
Break = Callable[[World], World]


def findings(world: World) -> list[tuple[str, str]]:
    tally = Tally()
    check_world(world, tally)
    return [(finding.check, str(finding)) for finding in tally.findings]


def test_a_sound_world_has_no_findings_and_many_checks() -> None:
    """A slice in each mode, with a process in one of them."""
    tally = Tally()
    check_world(w.sound(), tally)
    assert tally.findings == []
    assert tally.checks > 60


def test_a_slice_that_is_held_back_for_an_overrun_is_sound_while_the_enforcer_says_so() -> None:
    """The record allows less than the ledger does then."""
    tally = Tally()
    check_world(chained(seen_slice("soft", restraint=Control.PAUSE), quotas("soft", control=Control.PAUSE))(w.sound()), tally)
    assert tally.findings == []


def ledger_entry(slice_id: str, **changes: Any) -> Break:
    def broken(world: World) -> World:
        devices = w.devices_of(world)
        devices[w.PARTS[slice_id][0]][slice_id] = w.entry(slice_id, **changes)
        return w.with_ledger(world, devices=devices)

    return broken


def second(slice_id: str, **changes: Any) -> Break:
    """Another slice beside ``slice_id`` on the same device, in the ledger alone."""

    def broken(world: World) -> World:
        devices = w.devices_of(world)
        devices[w.PARTS[slice_id][0]]["other"] = replace(w.entry(slice_id), id="other", **changes)
        return w.with_ledger(world, devices=devices)

    return broken


def formerly(slice_id: str, **changes: Any) -> Break:
    """What the slice had before a change that is not confirmed yet."""
    held = Held(entry=w.entry(slice_id, **changes), generation=5)
    return lambda world: w.with_ledger(world, held={w.PARTS[slice_id][0]: {slice_id: held}})


def seen_slice(slice_id: str, **changes: Any) -> Break:
    def broken(world: World) -> World:
        devices = w.seen_of(world)
        devices[w.PARTS[slice_id][0]][slice_id] = w.seen(slice_id, **changes)
        return w.with_observed(world, devices=devices)

    return broken


def unseen(world: World) -> World:
    devices = w.seen_of(world)
    del devices[w.SOFT]["soft"]
    return w.with_observed(world, devices=devices)


def unledgered(world: World) -> World:
    devices = w.devices_of(world)
    del devices[w.SOFT]["soft"]
    return w.with_ledger(world, devices=devices)


def records(**changes: Any) -> Break:
    """``slice_id=None`` takes a record away; a dict changes it."""

    def broken(world: World) -> World:
        found = dict(world.documents.records)
        for slice_id, change in changes.items():
            found.pop(slice_id, None)
            if change is not None:
                found[slice_id] = w.record(slice_id, **change)
        return w.with_documents(world, records=found)

    return broken


def on_two_nodes() -> tuple[Placement, ...]:
    [placement] = w.record("soft").placements
    return placement, replace(placement, node="elsewhere")


def holdings(**changes: Holding | None) -> Break:
    def broken(world: World) -> World:
        held = {**world.documents.tenants["t"].holdings, **changes}
        kept = {slice_id: holding for slice_id, holding in held.items() if holding is not None}
        return w.with_documents(world, tenants={"t": TenantHoldings(tenant="t", holdings=kept)})

    return broken


def told(*facts: Any) -> Break:
    return lambda world: replace(world, facts=(*world.facts, *(Heard("", fact) for fact in facts)))


def untold(world: World) -> World:
    return replace(world, facts=world.facts[1:])


def quotas(slice_id: str, **changes: Any) -> Break:
    def broken(world: World) -> World:
        assert world.regions is not None
        changed = {**world.regions.quotas, w.PARTS[slice_id][0]: {0: w.limits(slice_id, **changes)}}
        return w.with_regions(world, quotas=changed)

    return broken


def parts_at(*offsets_ppm: int, kind: Spatial = Spatial.GREEN) -> Break:
    def broken(world: World) -> World:
        assert world.regions is not None
        part = {"spatial_kind": kind, "spatial_ppm": 400_000}
        rows = {at: replace(w.limits("soft", **part, spatial_offset_ppm=at), slice_id=f"soft{at or ''}") for at in offsets_ppm}
        return w.with_regions(world, quotas={**world.regions.quotas, w.SOFT: rows})

    return broken


def quota_records(device_id: str, *slice_ids: str) -> Break:
    def broken(world: World) -> World:
        assert world.regions is not None
        rows = {index: replace(w.limits("soft"), slice_id=slice_id) for index, slice_id in enumerate(slice_ids)}
        return w.with_regions(world, quotas={**world.regions.quotas, device_id: rows})

    return broken


def usages(**changes: Any) -> Break:
    def broken(world: World) -> World:
        assert world.regions is not None
        found = dict(world.regions.usages)
        for slice_id, usage in changes.items():
            found.pop((slice_id, w.PARTS[slice_id][0]), None)
            if usage is not None:
                found[slice_id, w.PARTS[slice_id][0]] = usage
        return w.with_regions(world, usages=found)

    return broken


def orphan_usage(world: World) -> World:
    assert world.regions is not None
    return w.with_regions(world, usages={**world.regions.usages, ("ghost", w.SOFT): w.usage("soft", 0)})


def attaches(slice_id: str, attach: Any) -> Break:
    def broken(world: World) -> World:
        assert world.regions is not None
        found = dict(world.regions.attaches)
        del found[slice_id]
        return w.with_regions(world, attaches=found | ({slice_id: attach} if attach else {}))

    return broken


def processes(*extra: DriverProcess, keep: bool = True) -> Break:
    def broken(world: World) -> World:
        assert world.driver is not None
        return w.with_driver(world, processes=((world.driver.processes if keep else ()) + extra))

    return broken


def process(uuid: str, pid: int, spent: int, requested: int | None = None) -> DriverProcess:
    device_id = w.HARD if uuid.startswith("MIG") else uuid
    return DriverProcess(pid=pid, uuid=uuid, device_id=device_id, spent_bytes=spent, requested_bytes=requested)


def partitions(*living: Any) -> Break:
    return lambda world: w.with_driver(world, partitions={w.HARD: living})


def chained(*breaks: Break) -> Break:
    def broken(world: World) -> World:
        for each in breaks:
            world = each(world)
        return world

    return broken


def at(now_ns: int) -> Break:
    return lambda world: replace(world, now_ns=now_ns)


def driver_devices(usable_bytes: dict[str, int]) -> Break:
    return lambda world: w.with_driver(world, usable_bytes=usable_bytes)


def quota_of(**limits: Any) -> Break:
    return lambda world: w.with_documents(world, policies={"t": TenantPolicy(quota=TenantQuota(**limits))})


def host(**own: int) -> Break:
    inventory = w.sound().documents.inventories[w.NODE]
    return lambda world: w.with_documents(world, inventories={w.NODE: replace(inventory, **own)})


REJECTED = SliceRejected(at=2, id="soft", field="f", given="g", allowed="a", message="m")
RELEASED = SliceReleased(at=2, id="soft", generation=1)

BROKEN: dict[str, tuple[str, Break]] = {
    "more memory sold than there is": ("I1", second("soft", vram_bytes=21 * GIB)),
    "more memory held than there is": ("I1", seen_slice("soft", vram_used_bytes=25 * GIB)),
    "more compute sold than there is": ("I2", second("soft", share_ppm=500_001)),
    "windows that overlap": ("I2", second("time")),
    "slots that overlap": ("I3", second("hard", vram_bytes=1)),
    "an instance that is not there": ("I3", partitions()),
    "an instance of another shape": ("I3", partitions(replace(w.MIG, start=1))),
    "an instance that belongs to nobody": ("I3", partitions(w.MIG, replace(w.MIG, start=1, uuid="MIG-2"))),
    "two modes on one device": ("I4", second("soft", mode=Mode.TIMESLICE)),
    "a software slice on a partitioned device": ("I4", second("hard", mode=Mode.FCSP, partition=None)),
    "a slice observed ahead of its ledger": ("I5", seen_slice("soft", generation=2)),
    "a node observed ahead of its ledger": ("I5", lambda world: w.with_observed(world, generation=4)),
    "a live slice that was never called ready": ("I6", untold),
    "a slice that was called ready and rejected": ("I6", told(REJECTED)),
    "a slice that was called ready twice, of two sizes": ("I6", told(SliceReady(at=2, id="soft", generation=2, placements=()))),
    "a slice that was called ready and failed": ("I6", told(SliceFailed(at=2, id="soft", message="m"))),
    "a gang that was called ready before all of its nodes were": ("I6", records(soft={"placements": on_two_nodes()})),
    "a rejected request that was never told": ("I6", chained(untold, records(soft={"phase": Phase.REJECTED}))),
    "a released slice that was never told": ("I6", records(soft={"phase": Phase.RELEASED})),
    "a request that waits past its time": ("I6", chained(records(soft={"phase": Phase.QUEUED, "until": 5}), at(6))),
    "a tenant with more slices than its quota": ("I7", quota_of(slices=2)),
    "a tenant with more memory than its quota": ("I7", quota_of(vram_bytes=12 * GIB - 1)),
    "a tenant above its quota with memory that a shrunk slice still holds": (
        "I7", chained(quota_of(vram_bytes=12 * GIB), formerly("soft", vram_bytes=8 * GIB)),
    ),
    "a tenant with more compute than its quota": ("I7", quota_of(share_ppm=1_499_999)),
    "more processors sold than the node has": ("I8", chained(host(cpu_milli=4_000), ledger_entry("soft", cpu_milli=4_001))),
    "processors that are held and sold again": (
        "I8", chained(host(cpu_milli=4_000), ledger_entry("time", cpu_milli=2_000), formerly("soft", cpu_milli=2_001)),
    ),
    "more of the node's memory sold than it has": (
        "I8", chained(host(host_memory_bytes=GIB), ledger_entry("hard", host_memory_bytes=GIB + 1)),
    ),
    "a record of another part of the node": ("record-ledger", ledger_entry("soft", cpu_milli=1)),
    "processes above their slice's limit": (
        "I7", chained(usages(soft=w.usage("soft", 5 * GIB)), seen_slice("soft", vram_used_bytes=5 * GIB)),
    ),
    "a process above its partition": ("I7", processes(process("MIG-1", 7, 5 * GIB))),
    "a placed slice without an entry": ("record-ledger", unledgered),
    "a record that says something else": ("record-ledger", records(soft={"generation": 2})),
    "a slice that is not charged": ("record-tenant", holdings(soft=None)),
    "an entry without a record": ("ledger-record", records(soft=None)),
    "an entry of a slice that has ended": ("ledger-record", records(soft={"phase": Phase.RELEASED})),
    "an entry that nobody applied": ("ledger-observed", unseen),
    "an entry that was applied otherwise": ("ledger-observed", seen_slice("soft", vram_bytes=3 * GIB)),
    "an entry that was applied long ago": ("ledger-observed", ledger_entry("soft", generation=2)),
    "a slice that the ledger does not know": ("observed-ledger", chained(unledgered, records(soft=None), holdings(soft=None))),
    "a charge without a slice": ("tenant-record", holdings(ghost=Holding(vram_bytes=1, share_ppm=1))),
    "a charge of another size": ("tenant-record", holdings(soft=Holding(vram_bytes=1, share_ppm=1))),
    "a region that cannot be read": ("region", lambda world: w.with_regions(world, broken={"/x": "truncated"})),
    "a live slice without a quota record": ("observed-quota", quota_records(w.SOFT)),
    "a quota record of nobody": ("quota-ledger", quota_records(w.SOFT, "soft", "ghost")),
    "two quota records of one slice": ("quota", quota_records(w.SOFT, "soft", "soft")),
    "a quota record with another limit": ("ledger-quota", quotas("soft", vram_limit_bytes=2 * GIB)),
    "a quota record with another launch rate": ("ledger-quota", quotas("soft", launch_rate_hz=5)),
    "two parts of one device that overlap": ("quota-part", parts_at(0, 300_000)),
    "two sub-devices of one device that overlap": ("quota-part", parts_at(0, 300_000, kind=Spatial.SUBDEVICE)),
    "a quota record with another window": ("ledger-quota", quotas("time", window_offset_ns=1)),
    "a quota record with another control word": ("ledger-quota", quotas("soft", control=Control.PAUSE)),
    "a restraint that is not in the quota record": ("ledger-quota", seen_slice("soft", restraint=Control.PAUSE)),
    "a slice without a usage region": ("ledger-usage", usages(time=None)),
    "a usage region of nobody": ("usage-ledger", orphan_usage),
    "a slice without an attach file": ("ledger-attach", attaches("soft", None)),
    "an attach file of another slice": ("ledger-attach", attaches("soft", w.AttachFile("x", w.NODE, "fcsp", ()))),
    "a slot of a process that is gone": ("usage-process", usages(soft=w.usage("soft", GIB, pid=None))),
    "an enforcer that sees another usage": ("observed-usage", seen_slice("soft", vram_used_bytes=2 * GIB)),
    "a device that the driver does not have": ("inventory-driver", driver_devices({w.SOFT: 24 * GIB})),
    "a device that is smaller than sold": (
        "inventory-driver", driver_devices(dict.fromkeys((w.SOFT, w.HARD, w.TIME), 20 * GIB)),
    ),
    "a node without an inventory": ("inventory-driver", lambda world: w.with_documents(world, inventories={})),
    "a process around the shim": ("driver-slice", processes(process(w.TIME, 99, GIB, GIB))),
    "a slot that says less than the driver": ("driver-usage", processes(process(w.SOFT, w.PID, 2 * GIB, 2 * GIB), keep=False)),
    "a slot that says more than the driver": ("usage-driver", processes(process(w.SOFT, w.PID, GIB, GIB // 2), keep=False)),
}  # fmt: skip


def test_a_slice_that_moves_has_its_part_of_the_node_once() -> None:
    """What its generations have on several devices is not added up: not while it moves, nor when it is released then."""
    older, newer = w.entry("soft", cpu_milli=3_000), w.entry("time", id="soft", cpu_milli=3_000, generation=2)
    ledger = Ledger(node=w.NODE, held={w.SOFT: {"soft": Held(entry=older, generation=2)}})
    moving = replace(ledger, devices={w.TIME: {"soft": newer}})
    released = replace(ledger, held={**ledger.held, w.TIME: {"soft": Held(entry=newer, generation=3)}})
    gang = replace(ledger, held={}, devices={w.SOFT: {"soft": older}, w.TIME: {"soft": replace(newer, generation=1)}})
    assert [host_given(each) for each in (moving, released, gang)] == [(3_000, 0), (3_000, 0), (6_000, 0)]


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_found_and_named(case: str) -> None:
    """The check that stands for it fails, and says what was seen."""
    check, broken = BROKEN[case]
    found = findings(broken(w.sound()))
    assert check in {name for name, _ in found}, found
    assert all(len(text) > len(name) + 10 for name, text in found)


def test_a_device_that_only_opencl_lists_is_compared_with_no_books() -> None:
    """Nobody has any of it, whoever made it; where another library lists it, too, there are."""
    sound = w.sound()
    inventory = sound.documents.inventories[w.NODE]
    for runtimes, expected in (((Runtime.OPENCL,), set()), ((Runtime.CUDA, Runtime.OPENCL), {"inventory-driver"})):
        device = replace(inventory.devices[0], id="GPU-9", runtimes=runtimes)
        wider = replace(inventory, devices=(*inventory.devices, device))
        found = findings(w.with_documents(sound, inventories={w.NODE: wider}))
        assert {check for check, _ in found} == expected


def releasing(world: World) -> World:
    """Soft is on its way out: not in the ledger, still observed, its record waits for that."""
    world = chained(unledgered, records(soft={"phase": Phase.RELEASING}))(world)
    world = seen_slice("soft", state=ObservedState.DRAINING)(world)
    return w.with_ledger(world, departures={"soft": Departure(tenant="t", generation=1)})


LEGITIMATE: dict[str, Break] = {
    "a slice that is leaving": releasing,
    "a shrink that waits for what a process holds": chained(
        ledger_entry("soft", generation=2, vram_bytes=GIB // 2),
        lambda world: w.with_documents(
            world,
            records={
                **world.documents.records,
                "soft": w.record(
                    "soft", generation=2, placements=(replace(w.record("soft").placements[0], vram_bytes=GIB // 2),)
                ),
            },
            tenants={
                "t": TenantHoldings(
                    tenant="t",
                    holdings={**world.documents.tenants["t"].holdings, "soft": Holding(vram_bytes=GIB // 2, share_ppm=500_000)},
                )
            },
        ),
    ),
    "the same answer twice": told(SliceReady(at=3, id="soft", generation=1, placements=())),
    "a slice that lives again under the id of one that ended": lambda world: replace(
        world, facts=(Heard("", SliceReady(at=0, id="soft", generation=9, placements=())), Heard("", RELEASED), *world.facts)
    ),
    "a quota that is just met": quota_of(slices=3, vram_bytes=12 * GIB, share_ppm=1_500_000),
    "a process that has a context and no memory": processes(process(w.TIME, 99, 0, 0)),
}


def test_parts_side_by_side_do_not_overlap() -> None:
    """Where one ends the next may begin."""
    assert not [name for name, _ in findings(parts_at(0, 400_000)(w.sound())) if name == "quota-part"]


@pytest.mark.parametrize("case", LEGITIMATE)
def test_what_may_be_is_no_finding(case: str) -> None:
    """States that last, and that are right."""
    assert findings(LEGITIMATE[case](w.sound())) == []
