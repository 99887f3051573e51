"""A sick device gets no new slices and loses those it has, by tier; every slice ends in one state."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from planner_house import GIB, House, Rig, ask, l4, quiet

from mica.events import (
    Device,
    Health,
    Inventory,
    Ledger,
    Mode,
    NodePolicy,
    Phase,
    PoolPolicy,
    ReleaseSlice,
    Severity,
    SliceRecord,
    TenantHoldings,
    Tier,
    Trouble,
)
from mica.planner.domain.draining import is_over, is_sick

XID = Trouble(kind="xid", code=79, severity=Severity.FATAL, message="XID 79")
SILENT = Trouble(kind="silent", severity=Severity.FATAL, message="no answer within 2 s", lasting=True)
HOT = Trouble(kind="thermal", severity=Severity.WARNING, message="92 C", lasting=True)
CROSS_CHECKED_TWICE_S = 64
HEALTH = {Severity.FATAL: Health.FAILED, Severity.WARNING: Health.DEGRADED, Severity.INFO: Health.HEALTHY}


@pytest.fixture
async def house(request: pytest.FixtureRequest) -> Any:
    """Two L4s on one node, one planner."""
    house = House()
    await house.add_node(node())
    await house.start_planner()
    yield house
    await house.stop_planners()


def node(**sick: Trouble) -> Inventory:
    """The node, with that wrong with its devices ``a`` and ``b``."""
    return Inventory(node="n1", pool="default", boot_id="b1", devices=tuple(_device(name, sick.get(name)) for name in "ab"))


def _device(name: str, trouble: Trouble | None) -> Device:
    device = l4(name, "ab".index(name))
    if trouble is None:
        return device
    return replace(device, health=HEALTH[trouble.severity], message=trouble.message, troubles=(trouble,))


async def fall_sick(house: House, seconds: float = 4, **sick: Trouble) -> None:
    """Discovery tells of it, and time passes."""
    await house.bus.state.put("inventory.n1", node(**sick))
    await house.settle()
    for _ in range(int(seconds / 2)):
        await house.pass_time(2)
        await house.settle()


async def record(house: House, id_: str) -> SliceRecord:
    entry = await house.bus.state.get(f"slice.{id_}", SliceRecord)
    assert entry is not None
    return entry.value


async def assert_nothing_left(house: House, *ids: str) -> None:
    """What ended is on no books."""
    ledger = await house.bus.state.get("ledger.n1", Ledger)
    assert ledger is not None
    told = ledger.value
    assert not {id_ for table in (told.devices, told.held) for slices in table.values() for id_ in slices} & set(ids)
    assert not told.departures.keys() & set(ids)
    holdings = await house.bus.state.get("tenant.t1", TenantHoldings)
    assert holdings is None or not holdings.value.holdings.keys() & set(ids)


def on(placed: SliceRecord) -> list[str]:
    return [placement.device_id for placement in placed.placements]


async def put(house: House, id_: str, tier: Tier = Tier.GUARANTEED, used_gib: int = 0) -> None:
    """A small slice on device ``a``, which the tightest fit fills first."""
    await house.send(ask(id_, 2, tier=tier, mode=Mode.FCSP, share_ppm=50_000))
    assert on(await record(house, id_)) == ["a"]
    if used_gib:
        house.enforcers["n1"].used["a", id_] = used_gib * GIB
        await house.settle()


async def test_a_guaranteed_slice_that_holds_nothing_is_moved(house: House) -> None:
    """To the healthy device of its node, with its size; it is told as any move is."""
    await put(house, "s1")
    await fall_sick(house, a=XID)
    moved = await record(house, "s1")
    assert (moved.phase, on(moved), moved.generation) == (Phase.PLACED, ["b"], 2)
    assert len(house.said("slice.resized.s1")) == 1
    ledger = await house.bus.state.get("ledger.n1", Ledger)
    assert ledger is not None
    assert ledger.value.held == {}


async def test_a_slice_that_can_not_be_moved_is_lost_with_the_reason(house: House) -> None:
    """Its programs are on a device that has failed: the tenant hears so at once, and nothing of it is left on the books."""
    await put(house, "s1", used_gib=1)
    await fall_sick(house, seconds=2, a=XID)
    (lost,) = house.said("slice.lost.s1")
    assert lost.message == "node n1: device a, health failed: XID 79"
    house.enforcers["n1"].used.clear()
    await fall_sick(house, a=XID)
    assert (await record(house, "s1")).phase is Phase.LOST
    await assert_nothing_left(house, "s1")


async def test_spot_slices_go_first_and_are_not_moved(house: House) -> None:
    """Of three slices that hold nothing the spot one is lost, the others go elsewhere."""
    for id_, tier in (("g", Tier.GUARANTEED), ("s", Tier.SPOT), ("b", Tier.BURST)):
        await put(house, id_, tier)
    await fall_sick(house, a=XID)
    assert (await record(house, "s")).phase is Phase.LOST
    assert [on(await record(house, id_)) for id_ in ("g", "b")] == [["b"], ["b"]]
    await assert_nothing_left(house, "s")


async def test_a_device_that_only_does_not_answer_is_given_time(house: House) -> None:
    """Nothing new is placed on it; what it has stays there until it was silent for half a minute without a break."""
    await put(house, "s1", used_gib=1)
    await fall_sick(house, seconds=20, a=SILENT)
    await house.send(ask("s2", 2, mode=Mode.FCSP))
    assert on(await record(house, "s2")) == ["b"]
    assert (await record(house, "s1")).phase is Phase.PLACED
    await fall_sick(house)
    await fall_sick(house, seconds=20, a=SILENT)
    assert (await record(house, "s1")).phase is Phase.PLACED
    await fall_sick(house, seconds=14, a=SILENT)
    assert (await record(house, "s1")).phase is Phase.LOST


@pytest.mark.parametrize("drain_at", [Severity.FATAL, Severity.WARNING])
@pytest.mark.parametrize("by_node", [False, True])
async def test_a_degraded_device_is_drained_where_the_policy_says_so(house: House, drain_at: Severity, *, by_node: bool) -> None:
    """The node's own, or its pool's. It still works: what can't be moved has time for its programs to end, and goes on then."""
    if by_node:
        await house.bus.policy.put("pool.default", PoolPolicy(drain_at=Severity.INFO))
    await house.bus.policy.put(
        *(("node.n1", NodePolicy(drain_at=drain_at)) if by_node else ("pool.default", PoolPolicy(drain_at=drain_at)))
    )
    await put(house, "busy", used_gib=1)
    await put(house, "idle")
    await fall_sick(house, seconds=34, a=HOT)
    busy, idle = await record(house, "busy"), await record(house, "idle")
    if drain_at is Severity.FATAL:
        assert (on(busy), on(idle)) == (["a"], ["a"])
        return
    assert (busy.phase, on(idle)) == (Phase.RELEASING, ["b"])
    entry = await house.bus.state.get("ledger.n1", Ledger)
    assert entry is not None
    assert entry.value.departures["busy"].grace_s == 120.0
    house.enforcers["n1"].used.clear()
    await house.settle()
    assert on(await record(house, "busy")) == ["b"]
    placed = house.said("slice.placed.busy")[-1]
    assert placed.decision.summary.startswith("evicted from node n1: device a, health degraded: 92 C; ")
    assert house.said("slice.evicted.busy") == []


async def test_where_nothing_else_takes_it_a_guaranteed_slice_is_lost(house: House) -> None:
    """Both devices are sick: there is nowhere to go."""
    await put(house, "s1")
    await fall_sick(house, a=XID, b=XID)
    assert (await record(house, "s1")).phase is Phase.LOST
    await house.send(ask("s2", 2))
    (rejected,) = house.said("slice.rejected.s2")
    assert rejected.field == "health"
    assert "XID 79" in rejected.allowed


async def test_a_slice_that_was_not_ready_yet_is_placed_elsewhere(house: House) -> None:
    """Its device falls sick before the enforcer has made it: its one answer is that it is ready, on the other device."""
    await house.bus.publish(ask("s1", 2, mode=Mode.FCSP, share_ppm=50_000))
    await quiet()
    assert on(await record(house, "s1")) == ["a"]
    await house.bus.state.put("inventory.n1", node(a=XID))
    await house.pass_time(4)
    await house.settle()
    assert (on(await record(house, "s1")), len(house.said("slice.ready.s1"))) == (["b"], 1)
    assert house.said("slice.lost.s1") == house.said("slice.failed.s1") == []


async def test_a_gang_with_one_sick_member_is_lost_whole(house: House) -> None:
    """Its other device is free again."""
    await house.send(ask("gang", 2, devices=2, mode=Mode.FCSP))
    assert sorted(on(await record(house, "gang"))) == ["a", "b"]
    await fall_sick(house, b=XID)
    assert (await record(house, "gang")).phase is Phase.LOST
    await assert_nothing_left(house, "gang")


async def test_a_recovered_device_takes_slices_again(house: House) -> None:
    """Whoever waited for capacity gets it."""
    await fall_sick(house, a=XID, b=XID)
    await house.send(ask("s1", 2, queue_s=600))
    assert (await record(house, "s1")).phase is Phase.QUEUED
    await fall_sick(house)
    assert (await record(house, "s1")).phase is Phase.PLACED


async def test_two_replicas_drain_as_one(house: House) -> None:
    """Both look at the same device: a slice is moved once, or lost once."""
    await put(house, "idle")
    await put(house, "busy", used_gib=1)
    await house.start_planner(Rig(house.bus, seed=3, dawdle=3))
    await fall_sick(house, seconds=8, a=XID)
    assert ((await record(house, "idle")).generation, on(await record(house, "idle"))) == (2, ["b"])
    assert len(house.said("slice.lost.busy")) == 1
    assert house.said("slice.refused.*") == []


async def test_a_planner_that_dies_while_it_drains_leaves_its_successor_nothing_it_can_not_finish() -> None:
    """Killed after any number of writes: the next one ends every slice in one state, and nothing is left on the books."""
    for budget in range(1, 9):
        house = House()
        await house.add_node(node())
        await house.start_planner(rig := Rig(house.bus))
        await put(house, "idle")
        await put(house, "busy", used_gib=1)
        rig.budget = budget
        await fall_sick(house, a=XID)
        await house.stop_planners()
        await house.start_planner()
        house.bus.deliver_again("COMMANDS", "planner")
        await fall_sick(house, seconds=8, a=XID)
        house.enforcers["n1"].used.clear()
        await fall_sick(house, seconds=8, a=XID)
        assert on(await record(house, "idle")) == ["b"], budget
        assert (await record(house, "busy")).phase is Phase.LOST, budget
        assert len(house.said("slice.lost.busy")) == 1
        await house.send(ReleaseSlice(id="idle"))
        await house.pass_time(CROSS_CHECKED_TWICE_S)
        await house.settle()
        await assert_nothing_left(house, "idle", "busy")
        await house.stop_planners()


@given(st.sampled_from([None, XID, SILENT, HOT]), st.sampled_from(list(Severity)))
def test_a_failed_device_is_always_sick_and_a_healthy_one_never(trouble: Trouble | None, drain_at: Severity) -> None:
    """Whatever the policy says; in between it decides."""
    device = _device("a", trouble)
    if trouble is None:
        assert not is_sick(device, drain_at)
    elif trouble.severity is Severity.FATAL:
        assert is_sick(device, drain_at)
    else:
        assert is_sick(device, drain_at) is (drain_at is not Severity.FATAL)
    assert is_over(device) is (trouble is XID)
