"""Gangs over several nodes, from request to end: whole or not at all."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from planner_house import GIB, House, Rig, ask, l4, quiet

from mica.audit import Documents
from mica.audit.invariants import check_invariants
from mica.events import (
    Control,
    ControlSlice,
    EvictSlice,
    Inventory,
    Ledger,
    MoveSlice,
    Phase,
    ReleaseSlice,
    ResizeSlice,
    SliceFailed,
    SliceLost,
    SliceReady,
    SliceRecord,
    TenantHoldings,
    TenantPolicy,
    TenantQuota,
    Tier,
)
from mica.planner.domain.ledgers import stands

NODES = ("n1", "n2", "n3")


def site(name: str, pool: str = "default") -> Inventory:
    return Inventory(node=name, pool=pool, boot_id="b1", devices=tuple(l4(f"{name}-l4-{number}", number) for number in range(2)))


@pytest.fixture
async def row() -> AsyncIterator[House]:
    """Three nodes of two L4, one planner."""
    house = House()
    for name in NODES:
        await house.add_node(site(name))
    await house.start_planner()
    yield house
    await house.stop_planners()


async def record(house: House, id_: str = "g") -> SliceRecord:
    entry = await house.bus.state.get(f"slice.{id_}", SliceRecord)
    assert entry is not None
    return entry.value


async def ledgers(house: House) -> list[Ledger]:
    found = [await house.bus.state.get(f"ledger.{node}", Ledger) for node in NODES]
    return [each.value for each in found if each is not None]


async def on_books(house: House, id_: str = "g") -> set[str]:
    """The nodes whose ledgers give something to the slice, or still hold something for it."""
    found = await ledgers(house)
    return {
        each.node
        for each in found
        if id_ in each.departures or any(id_ in slices for table in (each.devices, each.held) for slices in table.values())
    }


async def charged(house: House, tenant: str = "t1") -> dict[str, int]:
    entry = await house.bus.state.get(f"tenant.{tenant}", TenantHoldings)
    return {id_: each.vram_bytes for id_, each in entry.value.holdings.items()} if entry is not None else {}


async def test_a_gang_is_ready_once_all_of_its_nodes_are(row: House) -> None:
    """The planner says it, once, with every placement; a node alone says nothing."""
    await row.bus.publish(ask("g", 20, devices=4, nodes=2))
    await quiet()
    assert await on_books(row) == {"n1", "n2"}
    await row.enforcers["n1"].step()
    await quiet()
    assert row.said("slice.ready.g") == []
    await row.settle()
    [ready] = row.said("slice.ready.g")
    assert [each.device_id for each in ready.placements] == ["n1-l4-0", "n1-l4-1", "n2-l4-0", "n2-l4-1"]
    assert (await record(row)).ready_generation == 1
    assert await charged(row) == {"g": 80 * GIB}


async def test_the_decision_tells_of_every_node(row: House) -> None:
    """How many devices of how many, node by node."""
    await row.send(ask("g", 20, devices=4, nodes=2))
    decision = (await record(row)).decision
    assert decision is not None
    assert "2 of 2 devices of node n1" in decision.summary
    assert "2 of 2 devices of node n2" in decision.summary


@pytest.mark.parametrize(
    ("devices", "nodes", "allowed"),
    [(3, 2, "a number that divides devices, 3"), (8, 4, "at most 3 nodes with 2 devices alike in all")],
)
async def test_a_gang_that_can_not_be_is_refused_by_its_field(row: House, devices: int, nodes: int, allowed: str) -> None:
    """What would have passed is said."""
    await row.send(ask("g", 20, devices=devices, nodes=nodes))
    [answer] = row.said("slice.rejected.g")
    assert (answer.field, answer.given, answer.allowed) == ("nodes", str(nodes), allowed)
    assert await on_books(row) == set()


async def test_a_gang_stays_in_one_pool(row: House) -> None:
    """Nodes of several pools may be far apart."""
    for node in ("n2", "n3"):
        await row.bus.state.put(f"inventory.{node}", site(node, pool=node))
    await row.send(ask("g", 20, devices=2, nodes=2))
    assert row.said("slice.rejected.g")[0].field == "nodes"


@pytest.mark.parametrize("evict", [False, True])
async def test_a_gang_is_gone_once_all_of_its_nodes_are_free_of_it(row: House, *, evict: bool) -> None:
    """While a process of one node holds memory, all of it stays charged and nobody is told."""
    await row.send(ask("g", 20, devices=4, nodes=2))
    row.enforcers["n2"].used["n2-l4-1", "g"] = GIB
    await row.settle()
    await row.send(EvictSlice(id="g", reason="because") if evict else ReleaseSlice(id="g"))
    kind = "slice.evicted.g" if evict else "slice.released.g"
    assert row.said(kind) == []
    assert await charged(row) == {"g": 80 * GIB}
    row.enforcers["n2"].used.clear()
    await row.settle()
    assert len(row.said(kind)) == 1
    assert await on_books(row) == set()
    assert await charged(row) == {}
    assert (await record(row)).phase is (Phase.EVICTED if evict else Phase.RELEASED)


async def test_a_control_word_is_in_force_once_it_is_on_all_nodes(row: House) -> None:
    """Then the planner says that the gang was resized to the new generation; it is not ready twice."""
    await row.send(ask("g", 20, devices=2, nodes=2))
    await row.bus.publish(ControlSlice(id="g", control=Control.PAUSE))
    await quiet()
    await row.enforcers["n2"].step()
    await quiet()
    assert row.said("slice.resized.g") == []
    await row.settle()
    assert [each.generation for each in row.said("slice.resized.g")] == [2]
    assert len(row.said("slice.ready.g")) == 1


async def test_a_gang_over_nodes_is_neither_resized_nor_moved(row: House) -> None:
    """The refusal says what it is."""
    await row.send(ask("g", 20, devices=2, nodes=2))
    for command in (ResizeSlice(id="g", vram_bytes=GIB), MoveSlice(id="g")):
        sequence = await row.send(command)
        [answer] = row.said(f"slice.refused.{sequence}")
        assert "this one is a gang o" in answer.message


async def test_a_gang_is_lost_whole_with_one_of_its_nodes(row: House) -> None:
    """The other node is free again, and the tenant may ask for as much elsewhere."""
    await row.send(ask("g", 20, devices=4, nodes=2, tier=Tier.SPOT))
    await row.pass_time(45.0, silent="n2")
    await row.settle()
    [lost] = row.said("slice.lost.g")
    assert "node n2: its lease ended" in lost.message
    assert (await record(row)).phase is Phase.LOST
    assert await on_books(row) <= {"n2"}
    assert await charged(row) == {}


async def test_a_gang_of_which_a_member_fails_before_it_is_ready_goes_elsewhere_whole(row: House) -> None:
    """The node that could have held its part is freed, or used again, and only the new place becomes ready."""
    row.enforcers["n1"].broken.add("n1-l4-0")
    await row.send(ask("g", 20, devices=4, nodes=2))
    await row.settle()
    found = await record(row)
    assert {each.node for each in found.placements} == {"n2", "n3"}
    [ready] = row.said("slice.ready.g")
    assert ready.generation == found.generation == found.ready_generation
    assert await on_books(row) == {"n2", "n3"}


async def test_a_gang_that_was_ready_is_lost_when_a_member_fails(row: House) -> None:
    """Its state is gone: nobody places it anew behind its tenant's back."""
    await row.send(ask("g", 20, devices=2, nodes=2))
    await row.bus.state.put("inventory.n1", Inventory(node="n1", pool="default", boot_id="b1", devices=site("n1").devices[1:]))
    await row.pass_time(3.0)
    await row.settle()
    assert len(row.said("slice.lost.g")) == 1
    assert await on_books(row) == set()


async def test_a_gang_counts_once_against_the_quota(row: House) -> None:
    """One slice, and the sum of its members over all nodes."""
    await row.bus.policy.put("tenant.t1", TenantPolicy(quota=TenantQuota(slices=1, vram_bytes=80 * GIB)))
    await quiet()
    await row.send(ask("g", 20, devices=4, nodes=2))
    assert len(row.said("slice.ready.g")) == 1
    await row.send(ask("h", 1))
    assert row.said("slice.rejected.h")[0].allowed == "at most 1 slices of tenant t1's quota"


async def test_two_gangs_that_want_the_same_devices_are_both_answered(row: House) -> None:
    """By two planners at once: one has them, the other nothing of them, whoever wrote first where."""
    await row.stop_planners()
    for seed in range(12):
        house = House()
        for name in NODES[:2]:
            await house.add_node(site(name))
        for number in (1, 2):
            await house.start_planner(Rig(house.bus, seed=seed * 2 + number, dawdle=5))
        for id_ in ("a", "b"):
            await house.bus.publish(ask(id_, 20, devices=4, nodes=2))
        await house.settle(8)
        answers = [len(house.said(f"slice.{kind}.{id_}")) for id_ in ("a", "b") for kind in ("ready", "rejected")]
        assert sorted(answers) == [0, 0, 1, 1], answers
        winner = "a" if house.said("slice.ready.a") else "b"
        assert await on_books(house, "b" if winner == "a" else "a") == set()
        await house.stop_planners()


async def _killed_after(writes: int) -> tuple[int, House]:
    """A planner that is killed after so many writes in a gang's life, and another that goes on; how many writes there were."""
    house = House()
    for name in NODES:
        await house.add_node(site(name))
    house.enforcers["n1"].broken.add("n1-l4-0")
    first = await house.start_planner(Rig(house.bus))
    first.budget = writes
    await house.send(ask("g", 20, devices=4, nodes=2))
    await house.settle()
    spent = writes - (first.budget or 0)
    if first.spent:
        await house.stop_planners()
        await house.start_planner()
        house.bus.deliver_again("COMMANDS", "planner")
    for _ in range(4):
        await house.settle()
        await house.pass_time(3.0)
    return spent, house


async def _check_whole(house: House) -> None:
    found = await record(house)
    assert found.phase is Phase.PLACED
    assert found.ready_generation == found.generation
    assert len({each.generation for each in house.said("slice.ready.g")}) == 1
    now = await ledgers(house)
    assert all(stands(ledger, found) for ledger in now)
    assert all((ledger.held, ledger.fenced, ledger.departures) == ({}, {}, {}) for ledger in now)
    assert await charged(house) == {"g": 80 * GIB}
    inventories = {name: site(name) for name in NODES}
    documents = Documents(
        inventories=inventories, records={"g": found}, ledgers={ledger.node: ledger for ledger in now},
        observed={name: each.observed for name, each in house.enforcers.items()},
    )  # fmt: skip
    assert check_invariants(documents) == []


async def test_whatever_write_a_planner_is_killed_at_the_gang_is_whole_in_the_end() -> None:
    """Every write of a life in which a member fails on the first node, so that the gang is taken back and placed elsewhere."""
    total, house = await _killed_after(1_000)
    await _check_whole(house)
    await house.stop_planners()
    assert total > 10
    for writes in range(1, total + 1):
        _, house = await _killed_after(writes)
        await _check_whole(house)
        await house.stop_planners()


@pytest.mark.parametrize("evict", [False, True])
async def test_whatever_write_a_planner_is_killed_at_the_end_of_a_gang_is_told(*, evict: bool) -> None:
    """Every write of its release: the successor says once that it is gone, and nobody is charged, long before a cross-check."""
    for writes in range(1, 10):
        house = House()
        for name in NODES:
            await house.add_node(site(name))
        first = await house.start_planner(Rig(house.bus))
        await house.send(ask("g", 20, devices=4, nodes=2))
        first.budget = writes
        await house.send(EvictSlice(id="g") if evict else ReleaseSlice(id="g"))
        await house.stop_planners()
        await house.start_planner()
        house.bus.deliver_again("COMMANDS", "planner")
        for _ in range(3):
            await house.settle()
            await house.pass_time(3.0)
        assert len(house.said("slice.evicted.g" if evict else "slice.released.g")) == 1, writes
        assert await on_books(house) == set()
        assert await charged(house) == {}
        await house.stop_planners()


async def test_a_gang_whose_readiness_was_written_and_not_told_is_told_after_a_restart(row: House) -> None:
    """The record remembers; the stream is asked before it is said again."""
    row.planners[0][0].lose("slice.ready.g", after=False)
    row.planners[0][0].budget = None
    await row.send(ask("g", 20, devices=2, nodes=2))
    assert (await record(row)).ready_generation == 1
    await row.stop_planners()
    await row.start_planner()
    await row.pass_time(3.0)
    assert len(row.said("slice.ready.g")) == 1
    await row.stop_planners()
    await row.start_planner()
    await row.pass_time(3.0)
    assert len(row.said("slice.ready.g")) == 1


async def test_a_gang_that_is_lost_before_its_readiness_was_told_is_told_ready_and_then_lost() -> None:
    """It has an answer before it has an end: whoever wrote into the record that it is ready died before it said so."""
    told: list[list[type]] = []
    for writes in range(1, 9):
        house = House()
        for name in NODES[:2]:
            await house.add_node(site(name))
        first = await house.start_planner(Rig(house.bus))
        first.budget = writes
        await house.send(ask("g", 20, devices=4, nodes=2))
        await house.stop_planners()
        house.enforcers["n1"].broken.add("n1-l4-0")
        await house.enforcers["n1"].step()
        await house.start_planner()
        house.bus.deliver_again("COMMANDS", "planner")
        await house.pass_time(3.0)
        await house.settle()
        told.append([type(each) for each in house.bus.published("slice.ready.g", "slice.lost.g", "slice.failed.g")])
        await house.stop_planners()
    assert [SliceReady, SliceLost] in told
    assert all(each in ([SliceFailed], [SliceReady, SliceLost]) for each in told)


async def test_a_request_for_a_gang_that_is_sent_again_hears_the_same_answer(row: House) -> None:
    """As for any slice."""
    wanted: dict[str, Any] = {"devices": 4, "nodes": 2}
    await row.send(ask("g", 20, **wanted))
    await row.send(ask("g", 20, **wanted))
    assert {(type(each), each.generation) for each in row.said("slice.ready.g")} == {(SliceReady, 1)}
