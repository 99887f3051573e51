"""A planner that dies at any write of a plan of moves leaves a legal state, and another goes on with the plan."""

import asyncio

import pytest
from planner_house import House, Rig, quiet
from repack_house import carry_out, let_pass, policy, put, record, row, state

from mica.audit import Documents
from mica.audit.invariants import check_invariants
from mica.events import (
    Inventory,
    Ledger,
    Observed,
    Phase,
    RepackPool,
    SliceRecord,
    StepState,
    TenantHoldings,
    Tier,
)
from mica.planner.domain.ledgers import stands
from mica.planner.repacks import Repacks

SLICES = ("s0", "s1", "s2")


async def scattered(rig: Rig | None = None) -> tuple[House, Rig]:
    """Three slices on three devices, one of them with memory that its programs hold."""
    house = House()
    await house.add_node(row(devices="abc"))
    await house.bus.policy.put("pool.default", policy(restarts=True))
    rig = await house.start_planner(rig)
    for number, id_ in enumerate(SLICES):
        await put(house, id_, "abc"[number], used_gib=number == 1, tier=Tier.SPOT)
    return house, rig


async def books(house: House) -> Documents:
    records = {id_: await record(house, id_) for id_ in SLICES}
    holdings = await house.bus.state.get("tenant.t1", TenantHoldings)
    inventory = await house.bus.state.get("inventory.n1", Inventory)
    ledger = await house.bus.state.get("ledger.n1", Ledger)
    observed = await house.bus.state.get("observed.n1", Observed)
    assert inventory is not None
    assert ledger is not None
    assert observed is not None
    assert holdings is not None
    return Documents(
        inventories={"n1": inventory.value}, records=records, tenants={"t1": holdings.value}, ledgers={"n1": ledger.value},
        observed={"n1": observed.value}, policies={},
    )  # fmt: skip


async def dies_after(writes: int) -> tuple[bool, list[StepState]]:
    """Whether the first planner died before the plan was over, and how the plan's steps ended under the second."""
    house, rig = await scattered()
    try:
        rig.budget = writes
        sequence = await house.bus.publish(RepackPool(pool="default", apply=True, tiers=tuple(Tier), restarts=True))
        while not (rig.spent or house.said(f"slice.repacked.{sequence}")):
            await quiet(10)
            await asyncio.sleep(0.005)
        for _ in range(12):
            await let_pass(house, 1)
            assert check_invariants(await books(house)) == []
        died = rig.spent
        for _, task in house.planners:
            task.cancel()
        await asyncio.gather(*(task for _, task in house.planners), return_exceptions=True)
        house.planners.clear()
        await house.start_planner()
        house.bus.deliver_again("COMMANDS", "planner")
        for _ in range(3):
            ended = await carry_out(house, 40)
            await let_pass(house, 2)
        documents = await books(house)
        assert check_invariants(documents) == []
        assert documents.ledgers["n1"].held == {}
        for each in documents.records.values():
            assert each.phase is Phase.PLACED
            assert isinstance(each, SliceRecord)
            assert stands(documents.ledgers["n1"], each)
        return died, ended
    finally:
        await house.stop_planners()


@pytest.mark.timeout(300)
async def test_a_plan_survives_a_crash_at_every_write() -> None:
    """No slice is lost, doubled or left between two devices, and every step is done in the end."""
    writes = 1
    while True:
        died, ended = await dies_after(writes)
        assert ended == [StepState.DONE] * 2, (writes, ended)
        if not died:
            break
        writes += 1
    assert writes > 10


async def test_two_replicas_carry_out_a_plan_once() -> None:
    """Both look at it every second; each move is sent once."""
    house, _ = await scattered()
    try:
        await house.start_planner(Rig(house.bus, seed=3, dawdle=3))
        await house.bus.publish(RepackPool(pool="default", apply=True, tiers=tuple(Tier), restarts=True))
        assert await carry_out(house, 40) == [StepState.DONE] * 2
        assert len(house.said("slice.move")) == 2
        assert {(await record(house, id_)).generation for id_ in SLICES} == {1, 2}
    finally:
        await house.stop_planners()


async def test_a_planner_that_sends_before_it_notes_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: without the note that comes first, whoever goes on takes the move for somebody else's."""
    write = Repacks._write

    async def forgetful(repacks: Repacks, entry: object, after: object) -> object:
        if any(step.state is StepState.SENT for step in after.steps):  # type: ignore[attr-defined]
            return entry
        return await write(repacks, entry, after)  # type: ignore[arg-type]

    house, _ = await scattered()
    try:
        monkeypatch.setattr(Repacks, "_write", forgetful)
        await house.bus.publish(RepackPool(pool="default", apply=True, tiers=tuple(Tier), restarts=True))
        ended = await carry_out(house, 20)
        assert ended != [StepState.DONE] * 2
        assert (await state(house)).sent == ()
    finally:
        await house.stop_planners()
