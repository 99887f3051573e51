"""What a large fleet must not cost: commands that wait while all nodes are looked at, and a walk over all of them for one."""

import asyncio

import pytest
from planner_house import House, ask, mixed

from mica.events import ReleaseSlice
from mica.planner.domain.fleet import Fleet
from mica.planner.domain.nodes import NodeState
from mica.planner.upkeep import AT_A_TIME, unhurried

SMALL_FLEET = 64
"""Devices of a fleet that is explained whole."""


async def test_a_walk_over_all_nodes_lets_others_go_on() -> None:
    """Between a few dozen nodes whoever waits for the processor has it."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(other())
    nodes = [NodeState(f"n{number}") for number in range(4 * AT_A_TIME)]
    assert [node async for node in unhurried(nodes)] == nodes
    task.cancel()
    assert turns >= 3


class Counted(dict[str, NodeState]):
    """Nodes that count how often somebody walks over all of them."""

    walks = 0

    def values(self) -> object:  # type: ignore[override]
        Counted.walks += 1
        return super().values()


async def test_a_request_is_placed_and_released_without_a_walk_over_all_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the command to the tombstone, only the nodes that have to do with the slice are looked at; a review looks at all."""
    house = House()
    nodes: dict[Fleet, Counted] = {}
    counted = property(nodes.__getitem__, lambda fleet, _: nodes.__setitem__(fleet, Counted()))
    monkeypatch.setattr(Fleet, "nodes", counted, raising=False)
    for number in range(SMALL_FLEET // 3 + 1):
        await house.add_node(mixed(f"n{number}"))
    await house.start_planner()
    await house.send(ask("s1", 4))
    Counted.walks = 0
    await house.send(ask("s2", 4))
    await house.send(ReleaseSlice(id="s2"))
    assert len(house.said("slice.released.s2")) == 1
    assert Counted.walks == 0
    await house.pass_time(2)
    assert Counted.walks > 0
    await house.stop_planners()
