"""One final answer and no charge beyond the quota, whichever replica dies at which write: stories that random runs have found."""

import pytest
from msgspec.structs import replace
from planner_documents import charged, ledger, record
from planner_house import GIB, House, Rig, ask, l4, quiet

from mica.audit import Documents
from mica.audit.invariants import check_quotas
from mica.events import (
    TERMINAL_PHASES,
    Holding,
    Inventory,
    Mode,
    MoveSlice,
    Phase,
    ReleaseSlice,
    SliceFailed,
    SliceReady,
    SliceRecord,
    SliceRejected,
    TenantHoldings,
    TenantPolicy,
    TenantQuota,
)

LOST_S = 45.0
"""Longer than a lease and its margin."""
CROSS_CHECKED_TWICE_S = 60
FINAL = SliceReady | SliceFailed | SliceRejected


async def two_nodes() -> House:
    """Two nodes of one L4 each, no planner yet."""
    house = House()
    for name in ("n1", "n2"):
        await house.add_node(Inventory(node=name, pool="default", boot_id="b1", devices=(l4(f"{name}-l4", 0),)))
    return house


def finals(house: House, id_: str) -> list[tuple[str, int]]:
    """What was said of a slice that is to be said once, with its generation."""
    heard = house.bus.published(f"slice.*.{id_}")
    return [
        (type(each).__name__, each.generation) for each in heard if isinstance(each, SliceReady | SliceFailed | SliceRejected)
    ]


async def succeed(house: House) -> None:
    """Every planner that was there is dead; the next takes what it left, and all comes to rest."""
    await house.stop_planners()
    await house.start_planner()
    house.bus.deliver_again("COMMANDS", "planner")
    for _ in range(CROSS_CHECKED_TWICE_S // 8 + 1):
        await house.settle()
        await house.pass_time(8)


async def assert_no_trace(house: House, id_: str) -> None:
    """What ended is in no ledger and is charged to nobody."""
    for node in house.enforcers:
        now = await ledger(house, node)
        assert id_ not in {each for slices in now.devices.values() for each in slices}
        assert (now.held, now.departures, now.fenced) == ({}, {}, {})
    assert id_ not in await charged(house)


async def place(house: House, *ids: str) -> None:
    """Placed, and no enforcer has looked yet."""
    for id_ in ids:
        await house.bus.publish(ask(id_, 9))
    await quiet()


async def test_a_record_that_another_replica_has_placed_is_charged_only_within_the_quota(house: House) -> None:
    """It lost the race to write the record, whose author died before the charge; the quota is used up."""
    await house.bus.policy.put("tenant.t1", TenantPolicy(quota=TenantQuota(vram_bytes=12 * GIB)))
    body = ask("s1", 9, mode=Mode.FCSP)
    await house.stop_planners()
    await house.start_planner(dying := Rig(house.bus))
    dying.budget = 1
    await house.bus.publish(body)
    await quiet()
    theirs = await record(house, "s1")
    await house.stop_planners()
    await house.bus.state.delete("slice.s1")
    await house.start_planner(rig := Rig(house.bus))
    late = rig.hold("slice.s1")
    house.bus.deliver_again("COMMANDS", "planner")
    await quiet()
    await house.bus.state.create("slice.s1", theirs)
    others = {"s0": Holding(vram_bytes=9 * GIB, share_ppm=100_000)}
    await house.bus.state.put("tenant.t1", TenantHoldings(tenant="t1", holdings=others))
    late.set()
    for _ in range(60):
        await quiet(1)
        assert await charged(house) == {"s0": 9 * GIB}
    assert [each.field for each in house.said("slice.rejected.s1")] == ["vram_bytes"]
    assert (await ledger(house, "n1")).devices == {}


@pytest.mark.parametrize("budget", range(9))
async def test_a_slice_of_a_lost_node_is_told_failed_or_ready_but_not_both(budget: int) -> None:
    """The node comes back and applies its ledger when its planner has died at any write of giving its slice up."""
    house = await two_nodes()
    rig = Rig(house.bus)
    await house.start_planner(rig)
    await place(house, "s1")
    [node] = {each.node for each in (await record(house, "s1")).placements}
    rig.budget = budget
    await house.pass_time(LOST_S, silent=node)
    await house.enforcers[node].step()
    await succeed(house)
    assert len(finals(house, "s1")) == 1
    if (await record(house, "s1")).phase in TERMINAL_PHASES:
        await assert_no_trace(house, "s1")
    await house.stop_planners()


@pytest.mark.parametrize("budget", range(1, 9))
async def test_a_slice_that_is_released_when_its_node_is_lost_ends_once(budget: int) -> None:
    """Nor does a release in flight make two answers of one."""
    house = await two_nodes()
    rig = Rig(house.bus)
    await house.start_planner(rig)
    await place(house, "s1")
    [node] = {each.node for each in (await record(house, "s1")).placements}
    rig.budget = budget
    await house.bus.publish(ReleaseSlice(id="s1"))
    await house.pass_time(LOST_S, silent=node)
    await house.enforcers[node].step()
    await succeed(house)
    assert len(finals(house, "s1")) <= 1
    await assert_no_trace(house, "s1")
    await house.stop_planners()


@pytest.mark.parametrize("budget", range(9))
async def test_a_slice_that_a_device_could_not_hold_is_ready_in_one_place(budget: int) -> None:
    """The device is mended when the planner has died at any write of placing its slice elsewhere: only one of both says ready."""
    house = await two_nodes()
    rig = Rig(house.bus)
    await house.start_planner(rig)
    await place(house, "s1")
    [node] = {each.node for each in (await record(house, "s1")).placements}
    house.enforcers[node].broken.add(f"{node}-l4")
    rig.budget = budget
    await house.enforcers[node].step()
    await quiet()
    house.enforcers[node].broken.clear()
    for enforcer in house.enforcers.values():
        await enforcer.step()
    await succeed(house)
    assert len(finals(house, "s1")) == 1
    assert (await record(house, "s1")).phase in (Phase.PLACED, Phase.LOST)
    await house.stop_planners()


async def test_a_slice_that_was_told_ready_and_is_barred_from_its_node_is_lost(house: House) -> None:
    """Whoever took it out of the ledger died before its record said so: placed anew, it would be ready twice."""
    await house.send(ask("s1", 9))
    await house.stop_planners()
    now = await ledger(house, "n1")
    await house.bus.state.put("ledger.n1", replace(now, generation=now.generation + 1, devices={}, fenced={"s1": 1}))
    await succeed(house)
    assert finals(house, "s1") == [("SliceReady", 1)]
    assert [each.message for each in house.said("slice.lost.s1")] == ["it was taken off its device"]
    await assert_no_trace(house, "s1")


async def test_the_end_of_a_slice_that_nobody_was_told_is_told_in_time(house: House) -> None:
    """A replica died between writing that a slice is lost and saying so: the bar that it left leads any other there."""
    await house.send(ask("s1", 9))
    entry = await house.bus.state.get("slice.s1", SliceRecord)
    assert entry is not None
    now = await ledger(house, "n1")
    await house.bus.state.put("ledger.n1", replace(now, generation=now.generation + 1, devices={}, fenced={"s1": 1}))
    await house.bus.state.update("slice.s1", replace(entry.value, phase=Phase.LOST, message="XID 79"), entry.revision)
    await house.pass_time(5)
    await house.settle()
    assert [each.message for each in house.said("slice.lost.s1")] == ["XID 79"]
    await assert_no_trace(house, "s1")


@pytest.mark.parametrize("lost", ["", "slice.rejected.s1", "slice.s1"])
async def test_a_request_that_was_placed_and_is_rejected_after_all_is_told_in_time(house: House, lost: str) -> None:
    """Its command is long acknowledged: though the word or the write is lost, enough is left to tell it by."""
    await house.bus.publish(ask("s1", 9))
    await quiet()
    now = await ledger(house, "n1")
    await house.bus.policy.put("tenant.t1", TenantPolicy(quota=TenantQuota(slices=0)))
    await house.bus.state.put("ledger.n1", replace(now, generation=now.generation + 1, devices={}, fenced={"s1": 1}))
    if lost:
        house.planners[0][0].lose(lost, after=lost == "slice.s1")
    await house.pass_time(12)
    await house.settle()
    assert finals(house, "s1") == [("SliceRejected", 2)]
    await house.pass_time(CROSS_CHECKED_TWICE_S)
    await assert_no_trace(house, "s1")


async def test_a_request_that_was_placed_and_waits_after_all_is_not_forgotten(house: House) -> None:
    """The write that queues it is lost on its way back: it is found by its bar, and placed when there is room."""
    await house.bus.publish(ask("s1", 9, mode=Mode.FCSP, queue_s=300))
    await quiet()
    now = await ledger(house, "n1")
    await house.bus.state.put("ledger.n1", replace(now, generation=now.generation + 1, devices={}, fenced={"s1": 1}))
    await house.send(ask("s0", 22, mode=Mode.FCSP))
    house.planners[0][0].lose("slice.s1", after=True)
    await house.pass_time(12)
    assert (await record(house, "s1")).phase is Phase.QUEUED
    await house.send(ReleaseSlice(id="s0"))
    assert finals(house, "s1") == [("SliceReady", 3)]


async def test_a_slice_that_is_released_before_its_move_is_confirmed_counts_once(house: House) -> None:
    """Both places are held until the enforcer looks, but it was idle when it moved: the quota counts one of them."""
    await house.bus.policy.put("tenant.t1", TenantPolicy(quota=TenantQuota(vram_bytes=30 * GIB)))
    await house.send(ask("s1", 12, mode=Mode.TIMESLICE))
    await house.bus.publish(MoveSlice(id="s1", device_id="n1-l4"))
    await quiet()
    await house.bus.publish(ReleaseSlice(id="s1"))
    await quiet()
    assert {device for device, slices in (await ledger(house, "n1")).held.items() if "s1" in slices} == {"n1-p40", "n1-l4"}
    await house.bus.publish(ask("s2", 9, mode=Mode.HARDWARE))
    await quiet()
    assert (await charged(house))["s1"] == 12 * GIB
    entry = await house.bus.state.get("tenant.t1", TenantHoldings)
    assert entry is not None
    documents = Documents(
        records={id_: await record(house, id_) for id_ in ("s1", "s2")},
        tenants={"t1": entry.value},
        ledgers={"n1": await ledger(house, "n1")},
        policies={"t1": TenantPolicy(quota=TenantQuota(vram_bytes=30 * GIB))},
    )
    assert list(check_quotas(documents)) == []
    await house.settle()
    await assert_no_trace(house, "s1")
