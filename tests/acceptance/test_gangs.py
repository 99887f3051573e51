"""A gang over two nodes on one NATS, with real services on both: whole or not at all, whoever is killed."""

import asyncio

import pytest
from acceptance_stack import Stack, soon
from second_node import SecondNode

from mica.bus import Bus, Heard
from mica.events import Observed, RequestSlice


def state(house: Stack, slice_id: str) -> str:
    return str(house.json("show", slice_id, status=None).get("state", ""))


async def told(bus: Bus, subject: str) -> list[Heard]:
    """What the stream has on a subject, once it has something."""
    async with asyncio.timeout(30):
        while not (found := await bus.history("SLICES", [subject])):
            await asyncio.sleep(0.05)
    return found


@pytest.mark.parametrize("killed", ["", "planner"])
async def test_a_gang_is_ready_on_both_nodes_or_on_none(house: Stack, two: SecondNode, killed: str) -> None:
    """While one node's enforcer is dead it is placed and not ready; then it is, on both; and its end is one end."""
    await soon(lambda: len({each["node"] for each in house.json("devices")}) == 2)
    bus = await house.bus()
    try:
        while await bus.state.get("observed.two", Observed) is None:
            await asyncio.sleep(0.05)
        two.kill("enforcer")
        await bus.publish(RequestSlice(tenant="tester", id="g", vram_bytes=4 << 30, devices=4, nodes=2))
        await soon(lambda: state(house, "g") == "placed")
        assert await bus.history("SLICES", ["slice.ready.g"]) == []
        if killed:
            house.kill(killed)
        two.start("enforcer")
        await soon(lambda: state(house, "g") == "ready")
        [ready] = await told(bus, "slice.ready.g")
        assert sorted({each.node for each in ready.event.placements}) == ["one", "two"]  # type: ignore[union-attr]
        for root in (house.runtime_dir, two.runtime_dir):
            assert (root / "slices" / "g" / "attach.json").is_file()
        house.audit_recovered()
        house.mica("release", "g")
        await soon(lambda: state(house, "g") == "released")
        assert len(await told(bus, "slice.released.g")) == 1
        house.audit_recovered()
    finally:
        await bus.close()
