"""A node or device that an operator takes out of service: nothing new comes, and what is there is moved or evicted by tier."""

from typing import Any

import pytest
from planner_house import GIB, House, ask, l4, quiet

from mica.events import (
    DeviceId,
    EvictSlice,
    Inventory,
    Mode,
    NodePolicy,
    Phase,
    Service,
    SliceRecord,
    Tier,
)


@pytest.fixture
async def house() -> Any:
    """A node with two L4s and a small second one, one planner."""
    house = House()
    await house.add_node(Inventory(node="n1", pool="default", boot_id="b1", devices=(l4("a", 0), l4("b", 1))))
    await house.add_node(Inventory(node="n2", pool="default", boot_id="b1", devices=(l4("c", 0),)))
    await house.start_planner()
    yield house
    await house.stop_planners()


async def record(house: House, id_: str) -> SliceRecord:
    entry = await house.bus.state.get(f"slice.{id_}", SliceRecord)
    assert entry is not None
    return entry.value


async def where(house: House, id_: str) -> list[str]:
    return [each.device_id for each in (await record(house, id_)).placements]


async def put(house: House, id_: str, tier: Tier = Tier.GUARANTEED, *, gib: int = 4, priority: int = 50) -> None:
    await house.send(ask(id_, gib, tier=tier, mode=Mode.FCSP, share_ppm=50_000, priority=priority))
    assert await where(house, id_) == ["a"]
    house.enforcers["n1"].used["a", id_] = GIB
    await house.settle()


async def decide(house: House, *, seconds: float = 3, node: str = "n1", **policy: Any) -> None:
    await house.bus.policy.put(f"node.{node}", NodePolicy(**policy))
    await quiet()
    for _ in range(int(seconds)):
        await house.pass_time(1)
        await house.settle()


def on(device_id: DeviceId, service: Service) -> dict[str, Service]:
    return {device_id: service}


async def test_nothing_new_comes_to_a_cordoned_device_and_what_is_there_stays(house: House) -> None:
    """The refusal of a device names the policy."""
    await put(house, "s1")
    await decide(house, devices=on("a", Service.CORDONED), seconds=6)
    await house.send(ask("s2", 4, mode=Mode.FCSP, share_ppm=50_000))
    assert (await where(house, "s1"), await where(house, "s2") != ["a"]) == (["a"], True)
    decision = house.said("slice.placed.s2")[0].decision
    assert "policy node.n1 has it cordoned" in {each.reason for each in decision.rejected}


async def test_a_cordoned_node_takes_nothing(house: House) -> None:
    """Not even what fits nowhere else; it may wait."""
    await decide(house, service=Service.CORDONED)
    await decide(house, service=Service.CORDONED, node="n2")
    await house.send(ask("s1", 4, mode=Mode.FCSP, queue_s=600.0))
    assert (await record(house, "s1")).phase is Phase.QUEUED
    await decide(house, service=Service.OPEN)
    assert (await record(house, "s1")).phase is Phase.PLACED


async def test_slices_of_a_drained_device_move_within_the_node_though_they_hold_memory(house: House) -> None:
    """Spot ones are evicted; programs have the grace of the policy."""
    for id_, tier in (("g", Tier.GUARANTEED), ("b", Tier.BURST), ("s", Tier.SPOT)):
        await put(house, id_, tier)
    await decide(house, devices=on("a", Service.DRAINED), drain_grace_s=7.0)
    assert [await where(house, id_) for id_ in ("g", "b")] == [["b"], ["b"]]
    assert (await record(house, "g")).grace_s == 7.0
    assert (await record(house, "s")).phase is Phase.RELEASING
    house.enforcers["n1"].used.clear()
    await house.settle()
    [evicted] = house.said("slice.evicted.s")
    assert evicted.message == "device a of node n1 is drained"


async def test_slices_of_a_drained_node_are_evicted_the_least_promised_first(house: House) -> None:
    """Spot, then burst, then guaranteed; of one tier the lower priority first. The grace is the tier's own."""
    for id_, tier, priority in (("g", Tier.GUARANTEED, 10), ("b1", Tier.BURST, 60), ("b2", Tier.BURST, 20), ("s", Tier.SPOT, 90)):
        await put(house, id_, tier, priority=priority)
    async with house.bus.following("slice.*") as heard:
        await decide(house, service=Service.DRAINED)
        sent = []
        while len(sent) < 4:
            sent.append((await anext(heard)).event)
    assert [(type(each), each.id) for each in sent] == [(EvictSlice, id_) for id_ in ("s", "b2", "b1", "g")]
    assert [each.grace_s for each in sent] == [5.0, 30.0, 30.0, 120.0]


async def test_what_can_not_be_moved_is_evicted(house: House) -> None:
    """The other device of the node is full; spot slices do not go on elsewhere, and the others only with their programs gone."""
    await put(house, "s1", gib=16, tier=Tier.BURST)
    await house.send(ask("full", 20, mode=Mode.FCSP, share_ppm=50_000))
    if await where(house, "full") != ["b"]:
        await house.send(ask("full2", 20, mode=Mode.FCSP, share_ppm=50_000))
    await decide(house, devices=on("a", Service.DRAINED))
    assert (await record(house, "s1")).phase is Phase.RELEASING
    house.enforcers["n1"].used.clear()
    await house.settle()
    assert [each.message for each in house.said("slice.evicted.s1")] == ["device a of node n1 is drained"]


async def test_a_drain_that_is_undone_moves_nothing_more(house: House) -> None:
    """Nothing was due yet when it was taken back."""
    await put(house, "s1")
    await decide(house, service=Service.DRAINED, seconds=0)
    await decide(house, service=Service.OPEN, seconds=6)
    assert (await record(house, "s1")).phase is Phase.PLACED
    assert await where(house, "s1") == ["a"]
