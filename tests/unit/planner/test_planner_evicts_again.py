"""Slices that are evicted to go on elsewhere: not before nothing is left of them where they were, and told as such."""

from typing import Any

import pytest
from msgspec.structs import replace
from planner_documents import charged, ledger, nodes, record, told
from planner_house import GIB, House, Rig, ask, l4, quiet

from mica.events import (
    EvictSlice,
    Inventory,
    Mode,
    NodeLoss,
    NodePolicy,
    Phase,
    PoolPolicy,
    ReleaseSlice,
    Service,
    SuspendSlice,
    Tier,
)

AGAIN = EvictSlice(id="s1", grace_s=60.0, reason="rack 7 is moved", again=True)


async def two_nodes(names: tuple[str, ...] = ("n1", "n2")) -> House:
    """Nodes of one L4 each, no planner yet."""
    house = House()
    for name in names:
        device = replace(l4(f"{name}-l4", 0), suspends=True)
        await house.add_node(Inventory(node=name, pool="default", boot_id="b1", devices=(device,)))
    return house


@pytest.fixture
async def house() -> Any:
    """Two nodes, one planner."""
    house = await two_nodes()
    await house.start_planner()
    yield house
    await house.stop_planners()


async def put(house: House, *, tier: Tier = Tier.GUARANTEED, gib: int = 10, id_: str = "s1", **more: Any) -> str:
    """A slice whose programs hold memory; its node."""
    await house.send(ask(id_, gib, tier=tier, mode=Mode.FCSP, share_ppm=200_000, **more))
    [placement] = (await record(house, id_)).placements
    house.enforcers[placement.node].used[placement.device_id, id_] = GIB
    await house.settle()
    return placement.node


async def end_programs(house: House) -> None:
    """Nothing is held on any node any more."""
    for enforcer in house.enforcers.values():
        enforcer.used.clear()
    await house.settle()


async def close(house: House, node: str, service: Service = Service.DRAINED, seconds: int = 3) -> None:
    await house.bus.policy.put(f"node.{node}", NodePolicy(service=service))
    await quiet()
    for _ in range(seconds):
        await house.pass_time(1)
        await house.settle()


async def test_it_goes_on_elsewhere_when_its_programs_have_ended(house: House) -> None:
    """Until then it is nowhere else, whatever room there is: two nodes never run it."""
    assert await put(house) == "n1"
    await close(house, "n1", Service.CORDONED)
    await house.send(AGAIN)
    assert ((await record(house)).phase, (await ledger(house, "n2")).devices) == (Phase.RELEASING, {})
    await end_programs(house)
    assert await nodes(house) == ["n2"]
    assert told(house) == [("slice.placed", 1), ("slice.ready", 1), ("slice.placed", 2), ("slice.resized", 2)]
    assert house.said("slice.placed.s1")[-1].decision.summary.startswith(
        "evicted from node n1: rack 7 is moved; fcsp on L4 of node n2"
    )
    first = await ledger(house, "n1")
    assert (first.devices, first.departures, first.held) == ({}, {}, {})
    assert await charged(house) == {"s1": 10 * GIB}


async def test_it_may_come_back_to_where_it_was(house: House) -> None:
    """Nobody said that it may not: it is then a new generation, in force once."""
    node = await put(house)
    other = {"n1": "n2", "n2": "n1"}[node]
    await close(house, other, Service.CORDONED)
    await house.send(AGAIN)
    await end_programs(house)
    assert await nodes(house) == [node]
    assert told(house)[-2:] == [("slice.placed", 2), ("slice.resized", 2)]
    assert (await ledger(house, node)).departures == {}


async def test_without_room_it_waits_and_is_lost_in_the_end(house: House) -> None:
    """As one that has lost its node; what comes free in time is its own."""
    await put(house)
    for node in ("n1", "n2"):
        await close(house, node, Service.CORDONED, seconds=0)
    await house.send(AGAIN)
    await end_programs(house)
    assert (await record(house)).phase is Phase.QUEUED
    assert await charged(house) == {}
    for _ in range(70):
        await house.pass_time(1)
        await house.settle()
    assert told(house)[-1][0] == "slice.lost"
    assert house.said("slice.lost.s1")[0].message.startswith("evicted from node n1: rack 7 is moved; no other place: ")


@pytest.mark.parametrize(
    ("tier", "choice", "goes_on"),
    [
        (Tier.SPOT, NodeLoss.BURST, False),
        (Tier.BURST, NodeLoss.BURST, True),
        (Tier.BURST, NodeLoss.GUARANTEED, False),
        (Tier.GUARANTEED, NodeLoss.GUARANTEED, True),
        (Tier.GUARANTEED, NodeLoss.LOST, False),
    ],
)
async def test_of_a_drained_node_who_goes_on_is_the_pools_policy(
    house: House, tier: Tier, choice: NodeLoss, goes_on: bool
) -> None:
    """The same tiers that go on when their node is lost."""
    await house.bus.policy.put("pool.default", PoolPolicy(on_node_loss=choice))
    await quiet()
    node = await put(house, tier=tier)
    await close(house, node)
    await end_programs(house)
    if goes_on:
        assert await nodes(house) == [{"n1": "n2", "n2": "n1"}[node]]
    assert told(house)[-1] == (("slice.resized", 2) if goes_on else ("slice.evicted", 1))


async def test_who_gives_it_back_meanwhile_has_it_released_once(house: House) -> None:
    """The enforcer says nothing of a slice that is to go on: the planner does, and only once."""
    await put(house)
    await house.send(AGAIN)
    await house.send(ReleaseSlice(id="s1"))
    await end_programs(house)
    await house.pass_time(5)
    await house.settle()
    assert told(house) == [("slice.placed", 1), ("slice.ready", 1), ("slice.released", 1)]
    assert (await record(house)).phase is Phase.RELEASED
    assert await charged(house) == {}


async def test_a_suspended_slice_is_evicted_for_good(house: House) -> None:
    """What its programs have left is on the node."""
    await put(house)
    await house.send(SuspendSlice(id="s1"))
    assert (await record(house)).suspended
    await house.send(AGAIN)
    await end_programs(house)
    assert told(house)[-1][0] == "slice.evicted"


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("budget", range(12))
async def test_whoever_dies_while_it_goes_on_it_is_in_one_place(budget: int, released: bool) -> None:
    """A planner that dies at any of its writes leaves what the next one makes whole; what was released does not come back."""
    house = await two_nodes()
    rig = Rig(house.bus)
    await house.start_planner(rig)
    await put(house)
    await house.send(AGAIN)
    if released:
        await house.send(ReleaseSlice(id="s1"))
    rig.budget = budget
    await end_programs(house)
    await house.stop_planners()
    await house.start_planner(Rig(house.bus))
    for _ in range(10):
        await house.pass_time(1)
        await house.settle()
    said = [tag for tag, _ in told(house)]
    running = [name for name, enforcer in house.enforcers.items() if "s1" in enforcer.running()]
    assert said.count("slice.ready") == 1
    if released:
        assert (said.count("slice.released"), running, await charged(house)) == (1, [], {})
    else:
        assert (said.count("slice.evicted"), running) == (0, await nodes(house))
        assert await charged(house) == {"s1": 10 * GIB}
    assert [(await ledger(house, node)).departures for node in house.enforcers] == [{}, {}]
    await house.stop_planners()
