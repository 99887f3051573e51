"""Repacking: what a plan says, what it leaves alone, and how it is carried out."""

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace
from planner_house import House, ask, h100
from repack_house import carry_out, let_pass, on, plan, plans, policy, put, record, row, state

from mica.audit import Documents
from mica.audit.invariants import check_invariants
from mica.events import (
    Automation,
    GuardState,
    Health,
    Inventory,
    Ledger,
    Mode,
    MoveSlice,
    Observed,
    PoolRepacked,
    ReleaseSlice,
    Severity,
    SliceRefused,
    Slo,
    StepState,
    Tier,
    Trouble,
)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """Four L4 on one node, one planner."""
    house = House()
    await house.add_node(row())
    await house.bus.policy.put("pool.default", policy())
    await house.start_planner()
    yield house
    await house.stop_planners()


async def scatter(house: House, count: int = 4, **more: object) -> None:
    """One small slice on each of the first devices."""
    for number in range(count):
        await put(house, f"s{number}", "abcd"[number], **more)


async def test_a_dry_run_tells_the_moves_and_changes_nothing(house: House) -> None:
    """Every move with its cost and gain, the totals before and after, and that no plan is better."""
    await scatter(house)
    told = await plan(house)
    assert isinstance(told, PoolRepacked)
    assert (told.outcome, len(told.moves), told.proven) == ("planned", 3, True)
    assert (told.before.free_devices, told.after.free_devices) == (0, 3)
    assert told.before.fragmentation == 1.0
    assert told.after.fragmentation < 0.3
    assert all(each.cost == 0.02 and "becomes free" in each.why and not each.restarts for each in told.moves)
    assert [on(await record(house, f"s{number}")) for number in range(4)] == [[f"n1-{name}"] for name in "abcd"]
    assert (await state(house)).steps == ()


async def test_a_plan_is_carried_out_move_by_move_by_ordinary_moves(house: House) -> None:
    """Each move is told as any is, and the next is sent when it is in force; at the end the plan has come true."""
    await scatter(house)
    told = await plan(house, apply=True)
    assert told.outcome == "applied"
    assert await carry_out(house) == [StepState.DONE] * 3
    devices = {on(await record(house, f"s{number}"))[0] for number in range(4)}
    assert len(devices) == 1
    assert len(house.said("slice.resized.*")) == 3
    sent = [each for each in house.said("slice.move") if isinstance(each, MoveSlice)]
    assert [each.id for each in sent] == [each.id for each in told.moves]


async def test_a_pool_that_is_packed_has_no_plan(house: House) -> None:
    """It says so, and that none can gain anything."""
    await house.send(ask("s1", 4, mode=Mode.FCSP))
    told = await plan(house)
    assert (told.outcome, told.moves, told.proven) == ("nothing", (), True)


async def test_slices_that_hold_memory_move_only_where_programs_may_be_ended(house: House) -> None:
    """Then the cost says so, by tier, and how long they have; without leave they stay, and the plan says why."""
    await scatter(house, 2, used_gib=2)
    still = await plan(house)
    assert still.moves == ()
    assert still.held_back == {"it holds memory, and programs are not ended": 2}
    told = await plan(house, restarts=True)
    (move,) = told.moves
    assert (move.restarts, move.grace_s, move.moved_bytes) == (True, 120.0, 2 << 30)
    assert move.cost == pytest.approx(0.02 + 0.3 + 0.1 * 2 / 22.5, abs=1e-5)


async def test_programs_are_ended_where_the_policy_lets_them_be(house: House) -> None:
    """With the tier's grace; the device is free only once they are gone."""
    await house.bus.policy.put("pool.default", policy(restarts=True))
    await scatter(house, 2, used_gib=2, tier=Tier.BURST)
    told = await plan(house, apply=True, restarts=True)
    (move,) = told.moves
    await house.pass_time(2)
    await house.settle()
    ledger = house.bus.published("slice.move")[0]
    assert ledger.grace_s == 30.0
    assert (await state(house)).steps[0].state is StepState.SENT
    assert await carry_out(house) == [StepState.DONE]
    assert on(await record(house, move.id)) == [move.to_device_id]


async def test_what_the_policy_does_not_allow_is_not_applied(house: House) -> None:
    """It can be planned; the refusal names what the policy lets move."""
    await house.bus.policy.put("pool.default", policy(tiers=(Tier.SPOT,)))
    await scatter(house, 2)
    assert len((await plan(house)).moves) == 1
    refused = await plan(house, apply=True)
    assert isinstance(refused, SliceRefused)
    assert (refused.field, refused.allowed) == ("tiers", "what policy pool.default lets move: spot")
    again = await plan(house, apply=True, tiers=(Tier.SPOT,), restarts=True)
    assert again.field == "restarts"
    assert (await plan(house, tiers=None)).held_back == {"tier guaranteed is not moved": 2}


async def test_a_pool_that_nobody_has_is_refused(house: House) -> None:
    """The pools that there are stand in the answer."""
    refused = await plan(house, pool="nowhere")
    assert (refused.field, refused.given, refused.allowed) == ("pool", "nowhere", "a pool with a node (default)")


async def test_a_second_plan_waits_for_the_first(house: House) -> None:
    """One plan at a time for a pool."""
    await scatter(house)
    first = await plan(house, apply=True)
    second = await plan(house, apply=True)
    assert isinstance(second, SliceRefused)
    assert first.about in second.allowed


async def test_the_budget_is_kept(house: House) -> None:
    """The moves that gain most come first."""
    await scatter(house)
    told = await plan(house, moves_max=1)
    assert len(told.moves) == 1
    assert told.after.free_devices == 1


async def test_a_gain_below_the_least_is_no_plan(house: House) -> None:
    """What it would gain at most is said."""
    await scatter(house, 2)
    told = await plan(house, min_gain=5.0)
    assert (told.outcome, told.moves) == ("nothing", ())
    assert told.bound == pytest.approx(0.98)


async def test_near_and_apart_are_kept(house: House) -> None:
    """Replicas that are apart stay apart, and what is near another stays where it is."""
    for number in range(2):
        await put(house, f"r{number}", "ab"[number], apart="web")
    assert (await plan(house)).moves == ()
    await put(house, "free", "c")
    told = await plan(house)
    assert [each.id for each in told.moves] == ["free"]
    await house.send(ask("close", 2, mode=Mode.FCSP, share_ppm=50_000, near="free"))
    assert "it is near another slice, or another is near it" in (await plan(house)).held_back


async def test_a_step_that_no_longer_holds_is_skipped_with_the_rest_of_its_node(house: House) -> None:
    """The slice was released meanwhile: nothing else is moved on the strength of it."""
    await scatter(house)
    told = await plan(house, apply=True)
    await house.send(ReleaseSlice(id=told.moves[0].id))
    assert await carry_out(house) == [StepState.SKIPPED] * 3
    assert (await state(house)).steps[0].message == "the slice is gone"
    assert house.said("slice.move") == []


async def test_a_policy_carries_plans_out_by_itself_within_its_hour(house: House) -> None:
    """At most so many moves an hour; the next ones come when the hour is over."""
    await scatter(house)
    await house.bus.policy.put("pool.default", policy(Automation.AUTO, moves_per_hour=2))
    assert await carry_out(house, 70) == [StepState.DONE] * 2
    assert len(house.said("slice.move")) == 2
    await let_pass(house, 130)
    assert len(house.said("slice.move")) == 2
    house.clock.advance(3600)
    await house.enforcers["n1"].renew()
    await let_pass(house, 70)
    assert len(house.said("slice.move")) == 3
    assert plans(house)[0].about == "default"


async def test_a_policy_may_only_advise(house: House) -> None:
    """The plan is told once, not every minute, and nothing moves."""
    await scatter(house)
    await house.bus.policy.put("pool.default", policy(Automation.ADVISE))
    await let_pass(house, 190)
    assert [(each.about, each.outcome) for each in plans(house)] == [("default", "planned")]
    assert house.said("slice.move") == []


async def test_a_slice_that_has_changed_lately_rests(house: House) -> None:
    """By policy only; who asks for a plan gets it."""
    await scatter(house, 2)
    await house.bus.policy.put("pool.default", policy(Automation.AUTO, rest_s=3600.0))
    await let_pass(house, 65)
    assert house.said("slice.move") == []
    assert len((await plan(house)).moves) == 1


async def test_the_books_stay_right_throughout(house: House) -> None:
    """I1 to I4 and I7 hold after every second of a plan."""
    await scatter(house)
    await plan(house, apply=True)
    for _ in range(8):
        await carry_out(house, 1)
        assert check_invariants(await documents(house)) == []


async def documents(house: House) -> Documents:
    """What stands on the books of the one node."""
    inventory = await house.bus.state.get("inventory.n1", Inventory)
    ledger = await house.bus.state.get("ledger.n1", Ledger)
    observed = await house.bus.state.get("observed.n1", Observed)
    assert inventory is not None
    assert ledger is not None
    assert observed is not None
    return Documents(
        inventories={"n1": inventory.value}, records={}, tenants={}, ledgers={"n1": ledger.value},
        observed={"n1": observed.value}, policies={},
    )  # fmt: skip


async def test_a_slice_that_its_new_device_can_not_hold_goes_elsewhere(house: House) -> None:
    """It is not lost for having been moved: it goes back, or to another device, and the plan says that it failed."""
    await scatter(house, 2)
    told = await plan(house, apply=True)
    (move,) = told.moves
    house.enforcers["n1"].broken.add(move.to_device_id)
    assert await carry_out(house) == [StepState.FAILED]
    assert on(await record(house, move.id)) != [move.to_device_id]
    assert house.said(f"slice.lost.{move.id}") == []
    assert house.said(f"slice.resized.{move.id}")[-1].generation == 3


async def test_partitions_move_by_slots_where_programs_may_be_ended() -> None:
    """The plan names the slot, the move keeps the profile, and the device that is left is whole again."""
    house = House()
    await house.add_node(Inventory(node="n1", pool="default", boot_id="b1", devices=(h100("a", 0), h100("b", 1))))
    await house.bus.policy.put("pool.default", policy(restarts=True))
    await house.start_planner()
    try:
        for number in range(3):
            await house.send(ask(f"p{number}", 38))
        assert [on(await record(house, f"p{number}")) for number in range(3)] == [["a"], ["a"], ["b"]]
        await house.send(ReleaseSlice(id="p0"))
        stays = await plan(house, restarts=False)
        assert stays.held_back == {"in hardware, and programs are not ended": 2}
        told = await plan(house, apply=True, restarts=True)
        (move,) = told.moves
        assert (move.restarts, move.grace_s, told.after.free_devices, told.proven) == (True, 120.0, 1, True)
        before = (await record(house, move.id)).placements[0].partition
        assert await carry_out(house) == [StepState.DONE]
        after = (await record(house, move.id)).placements[0].partition
        assert before is not None
        assert after is not None
        assert (after.profile, after.start) == (before.profile, move.start)
        taken = await house.send(MoveSlice(id=move.id, device_id=move.device_id, grace_s=5, start=3))
        (refused,) = house.said(f"slice.refused.{taken}")
        assert (refused.field, refused.allowed) == ("start", "one of 0, 4 for profile 3g.40gb")
    finally:
        await house.stop_planners()


async def test_a_policy_that_changes_stops_what_is_not_sent(house: House) -> None:
    """Consent that is taken back counts from then on."""
    await scatter(house)
    await plan(house, apply=True)
    await house.bus.policy.put("pool.default", policy(tiers=(Tier.SPOT,)))
    assert await carry_out(house) == [StepState.SKIPPED] * 3
    assert (await state(house)).steps[0].message == "policy pool.default no longer wants it"


async def test_nothing_moves_to_a_sick_device_or_near_the_limits_of_an_slo(house: House) -> None:
    """Nor off a sick one: that is draining's. A slice whose promise is broken stays, and nothing is put beside it."""
    await scatter(house, 3)
    await put(house, "promised", "d", slo=Slo(p99_ms=10.0))
    await house.bus.state.put("guard.promised", GuardState(id="promised", breaches=1))
    told = await plan(house)
    assert told.held_back == {"it is near the limits of its SLO": 1}
    assert len(told.moves) == 2
    assert all("n1-d" not in (each.device_id, each.to_device_id) for each in told.moves)
    hot = Trouble(kind="thermal", severity=Severity.WARNING, message="92 C", lasting=True)
    devices = row().devices
    sick = (replace(devices[0], health=Health.DEGRADED, troubles=(hot,)), *devices[1:])
    await house.bus.policy.put("pool.default", replace(policy(), drain_at=Severity.WARNING))
    await house.bus.state.put("inventory.n1", replace(row(), devices=sick))
    await house.settle()
    told = await plan(house)
    assert told.before.devices == 3
    assert all("n1-a" not in (each.device_id, each.to_device_id) for each in told.moves)
