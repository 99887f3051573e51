"""Slices of a node whose lease is over: lost or placed elsewhere, by tier and policy, and never in two places."""

from typing import Any

import pytest
from msgspec.structs import replace
from planner_documents import ledger, nodes, record, told
from planner_house import GIB, House, Rig, ask, l4, quiet

from mica.events import (
    Control,
    ControlSlice,
    Inventory,
    Mode,
    NodeLoss,
    Phase,
    PoolPolicy,
    ReleaseSlice,
    ResizeSlice,
    TenantHoldings,
    TenantPolicy,
    TenantQuota,
    Tier,
)


@pytest.fixture
async def house() -> Any:
    """Two nodes with an L4 each, one planner."""
    house = House()
    for name in ("n1", "n2"):
        await house.add_node(Inventory(node=name, pool="default", boot_id="b1", devices=(l4(f"{name}-l4"),)))
    await house.start_planner()
    yield house
    await house.stop_planners()


async def put(house: House, *, tier: Tier = Tier.GUARANTEED, gib: float = 10, id_: str = "s1", **more: Any) -> str:
    """A slice whose programs hold memory; its node."""
    await house.send(ask(id_, gib, tier=tier, mode=Mode.FCSP, share_ppm=200_000, **more))
    [placement] = (await record(house, id_)).placements
    house.enforcers[placement.node].used[placement.device_id, id_] = GIB
    await house.settle()
    return placement.node


async def lose(house: House, node: str, seconds: float = 45) -> None:
    """The node is not heard of for so long; the others go on."""
    for _ in range(int(seconds)):
        await house.pass_time(1, silent=node)
        for name, enforcer in house.enforcers.items():
            if name != node:
                await enforcer.step()
    await quiet()


async def policy(house: House, **fields: Any) -> None:
    await house.bus.policy.put("pool.default", PoolPolicy(**fields))
    await quiet()


async def test_a_guaranteed_slice_goes_to_another_node_and_is_told_so(house: House) -> None:
    """Placed again with the reason, then in force under its new generation; it is not told ready twice."""
    assert await put(house) == "n1"
    await lose(house, "n1")
    assert await nodes(house) == ["n2"]
    assert told(house) == [("slice.placed", 1), ("slice.ready", 1), ("slice.placed", 2), ("slice.resized", 2)]
    again = house.said("slice.placed.s1")[-1]
    assert again.decision.summary.startswith("node n1: its lease ended and nobody renewed it; fcsp on L4 of node n2")


async def test_nothing_is_placed_elsewhere_before_the_lease_and_a_margin_are_over(house: House) -> None:
    """Until then the node may be running it."""
    await put(house)
    await lose(house, "n1", 38)
    assert await nodes(house) == ["n1"]
    assert (await ledger(house, "n2")).devices == {}


async def test_a_node_that_comes_back_does_not_run_it_again(house: House) -> None:
    """What it had is gone from its ledger, and what it holds is charged until it has confirmed that."""
    await put(house)
    await lose(house, "n1")
    assert "s1" in (await ledger(house, "n1")).held["n1-l4"]
    await house.enforcers["n1"].renew()
    assert house.enforcers["n1"].running() == set()
    await house.settle()
    assert house.enforcers["n1"].running() == set()
    assert house.enforcers["n2"].running() == {"s1"}
    now = await ledger(house, "n1")
    assert (now.devices, now.held, now.fenced) == ({}, {}, {})


@pytest.mark.parametrize(
    ("tier", "choice", "stays"),
    [
        (Tier.SPOT, NodeLoss.BURST, False),
        (Tier.BURST, NodeLoss.BURST, True),
        (Tier.BURST, NodeLoss.GUARANTEED, False),
        (Tier.GUARANTEED, NodeLoss.GUARANTEED, True),
        (Tier.GUARANTEED, NodeLoss.LOST, False),
    ],
)
async def test_who_is_placed_elsewhere_is_the_pools_policy(house: House, tier: Tier, choice: NodeLoss, stays: bool) -> None:
    """By tier; a spot slice never is."""
    await policy(house, on_node_loss=choice)
    node = await put(house, tier=tier)
    await lose(house, node)
    found = await record(house)
    assert found.phase is (Phase.PLACED if stays else Phase.LOST)
    assert [tag for tag, _ in told(house)].count("slice.lost") == (0 if stays else 1)


async def test_without_room_it_waits_as_long_as_the_policy_says_and_is_lost_then(house: House) -> None:
    """It is queued and told so; its one end is lost, not rejected."""
    await policy(house, loss_queue_s=20.0)
    first, second = await put(house, gib=20), await put(house, gib=20, id_="s2")
    assert {first, second} == {"n1", "n2"}
    await lose(house, first)
    assert (await record(house)).phase is Phase.QUEUED
    await lose(house, first, 25)
    [lost] = house.said("slice.lost.s1")
    assert lost.message.startswith(f"node {first}: its lease ended and nobody renewed it; no other place: vram_bytes")
    assert [tag for tag, _ in told(house)] == ["slice.placed", "slice.ready", "slice.queued", "slice.lost"]


async def test_one_that_waits_is_placed_when_there_is_room_again(house: House) -> None:
    """On the node that it was lost from, too: with what is new there."""
    await policy(house, loss_queue_s=600.0)
    first, _ = await put(house, gib=20), await put(house, gib=20, id_="s2")
    await lose(house, first)
    await house.enforcers[first].renew()
    await house.settle()
    await house.pass_time(2)
    await house.settle()
    found = await record(house)
    assert (found.phase, await nodes(house)) == (Phase.PLACED, [first])
    assert told(house)[-1] == ("slice.resized", found.generation)


async def test_one_that_waits_can_be_released(house: House) -> None:
    """Its end is told as lost, which it is: nobody can say that every byte of it is free."""
    await policy(house, loss_queue_s=600.0)
    first, _ = await put(house, gib=20), await put(house, gib=20, id_="s2")
    await lose(house, first)
    await house.send(ReleaseSlice(id="s1"))
    assert (await record(house)).phase is Phase.LOST
    assert [tag for tag, _ in told(house)][-1] == "slice.lost"


async def test_it_keeps_what_it_was_resized_to_and_its_control_word(house: House) -> None:
    """Not what was once requested."""
    await put(house)
    await house.send(ResizeSlice(id="s1", vram_bytes=14 * GIB, share_ppm=300_000))
    await house.send(ControlSlice(id="s1", control=Control.THROTTLE))
    await lose(house, "n1")
    found = await record(house)
    assert [(each.node, each.vram_bytes, each.share_ppm) for each in found.placements] == [("n2", 14 * GIB, 300_000)]
    assert found.control is Control.THROTTLE


async def test_its_quota_is_charged_once(house: House) -> None:
    """What is still held for it on the lost node is its own."""
    await house.bus.policy.put("tenant.t1", TenantPolicy(quota=TenantQuota(slices=1, vram_bytes=10 * GIB)))
    await quiet()
    await put(house)
    await lose(house, "n1")
    assert await nodes(house) == ["n2"]
    holdings = await house.bus.state.get("tenant.t1", TenantHoldings)
    assert holdings is not None
    assert {id_: each.vram_bytes for id_, each in holdings.value.holdings.items()} == {"s1": 10 * GIB}


async def test_it_can_lose_its_second_node_too(house: House) -> None:
    """Each time it is placed again, and ready stays its one answer."""
    await put(house)
    await lose(house, "n1")
    await house.enforcers["n1"].renew()
    await house.settle()
    await lose(house, "n2")
    assert await nodes(house) == ["n1"]
    assert [tag for tag, _ in told(house)].count("slice.ready") == 1
    assert told(house)[-1] == ("slice.resized", 3)


async def test_a_place_that_does_not_hold_it_is_given_up_for_another_and_not_called_a_failure(house: House) -> None:
    """A slice that was ready ends as lost, never as failed."""
    await put(house)
    house.enforcers["n2"].broken.add("n2-l4")
    await policy(house, loss_queue_s=5.0)
    await lose(house, "n1", 60)
    assert (await record(house)).phase is Phase.LOST
    assert {tag for tag, _ in told(house)} & {"slice.failed", "slice.rejected"} == set()


@pytest.mark.parametrize("writes", range(1, 8))
async def test_a_planner_that_dies_in_the_middle_leaves_a_successor_the_rest(house: House, writes: int) -> None:
    """Wherever it stopped, the slice is on the other node in the end, once."""
    await put(house)
    await lose(house, "n1", 39)
    house.planners[0][0].budget = writes
    await lose(house, "n1", 6)
    await house.stop_planners()
    await house.start_planner(Rig(house.bus))
    await lose(house, "n1", 25)
    assert await nodes(house) == ["n2"]
    assert [tag for tag, _ in told(house)].count("slice.ready") == 1
    assert told(house)[-1][0] == "slice.resized"
    assert [tag for tag, _ in told(house)].count("slice.lost") == 0


@pytest.mark.parametrize("spare", [True, False])
async def test_a_gang_over_nodes_is_placed_again_whole_or_not_at_all(spare: bool) -> None:
    """With a third node on it and one that is left; without, it waits and holds nothing."""
    house = House()
    for name in ("n1", "n2", "n3")[: 3 if spare else 2]:
        await house.add_node(Inventory(node=name, pool="default", boot_id="b1", devices=(l4(f"{name}-l4"),)))
    await house.start_planner()
    await house.send(replace(ask("g", 10, devices=2, nodes=2, mode=Mode.FCSP), share_ppm=200_000))
    lost, *_ = await nodes(house, "g")
    await lose(house, lost, 50)
    found = await record(house, "g")
    try:
        if spare:
            assert sorted(await nodes(house, "g")) == sorted({"n1", "n2", "n3"} - {lost})
            assert told(house, "g")[-1] == ("slice.resized", found.generation)
        else:
            assert (found.phase, found.placements) == (Phase.QUEUED, ())
            assert [(await ledger(house, name)).devices for name in ("n1", "n2")] == [{}, {}]
    finally:
        await house.stop_planners()
