"""Slices that want to be near another, and replicas that want to be apart."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from planner_house import House, Rig, ask, quiet

sys.path.insert(0, str(Path(__file__).parents[2] / "property" / "planner"))
from gang_nodes import every_pair, node

from mica.events import Ledger, LinkKind, MoveSlice, Phase, Reach, SliceExplained, SliceRecord
from mica.planner.domain import admission

WHOLE = 79


@pytest.fixture
async def pair() -> AsyncIterator[House]:
    """Two nodes of four devices in two linked pairs, one planner."""
    house = House()
    links = {(0, 1): (LinkKind.NVLINK, 4, 100), (2, 3): (LinkKind.NVLINK, 4, 100)}
    for name in ("n1", "n2"):
        await house.add_node(node(4, links, name=name))
    await house.start_planner()
    yield house
    await house.stop_planners()


async def record(house: House, id_: str) -> SliceRecord:
    entry = await house.bus.state.get(f"slice.{id_}", SliceRecord)
    assert entry is not None
    return entry.value


async def placed(house: House, id_: str, gib: int, **more: Any) -> str:
    """The device of a slice that is asked for, or the field that stands in its way."""
    await house.send(ask(id_, gib, **more))
    found = await record(house, id_)
    return found.placements[0].device_id if found.phase is Phase.PLACED else f"{found.field}: {found.allowed}"


async def test_a_guardrail_is_on_the_device_of_its_model_while_there_is_room(pair: House) -> None:
    """Then on the one that is linked to it, then on its node; and the decision says which."""
    assert await placed(pair, "other", 70) == "n1-d00"
    assert await placed(pair, "llm", 50) == "n1-d01"
    assert await placed(pair, "guard", 20, near="llm") == "n1-d01"
    assert "slice llm is on the same device" in (await record(pair, "guard")).decision.summary  # type: ignore[union-attr]
    assert await placed(pair, "second", 9, near="llm") == "n1-d01"
    assert await placed(pair, "third", 30, near="llm") == "n1-d02"
    assert await placed(pair, "rest", 9, near="third") == "n1-d02"
    assert "slice third is on the same device" in (await record(pair, "rest")).decision.summary  # type: ignore[union-attr]


async def test_the_best_linked_device_is_the_next_best_place(pair: House) -> None:
    """A full device leaves its neighbour over the link."""
    assert await placed(pair, "llm", WHOLE) == "n1-d00"
    assert await placed(pair, "guard", 20, near="llm") == "n1-d01"
    assert "slice llm is on the same node, NV4 away" in (await record(pair, "guard")).decision.summary  # type: ignore[union-attr]


async def test_near_within_is_a_must(pair: House) -> None:
    """The answer names the field and where the other slice is not."""
    await placed(pair, "llm", WHOLE)
    assert (await placed(pair, "g1", 20, near="llm", near_within=Reach.DEVICE)).startswith("vram_bytes: at most 1")
    assert await placed(pair, "g2", 20, near="llm", near_within=Reach.NODE) == "n1-d01"
    for number in (1, 2, 3):
        await placed(pair, f"full{number}", 60, near="llm", near_within=Reach.NODE)
    assert (await placed(pair, "g3", 70, near="llm", near_within=Reach.NODE)).startswith("vram_bytes: at most")


async def test_the_slice_to_be_near_must_be_placed_and_the_tenants_own(pair: House) -> None:
    """Nobody learns where another tenant's slices are, and a typo is answered."""
    await placed(pair, "llm", 10, tenant="t2")
    allowed = "near: the id of a slice of tenant t1 that is placed"
    assert await placed(pair, "a", 1, near="llm") == allowed
    assert await placed(pair, "b", 1, near="nobody") == allowed
    assert await placed(pair, "c", 1, near="c") == "near: another slice"
    assert await placed(pair, "d", 1, near_within=Reach.NODE) == "near_within: nothing, where near names no slice"


async def test_replicas_are_on_different_devices(pair: House) -> None:
    """Spread over nodes first; when every device has one, the next is refused, though it would only like to be apart itself."""
    devices = [await placed(pair, f"r{number}", 10, apart="web") for number in range(8)]
    assert len(set(devices)) == 8
    assert [device[:2] for device in devices[:4]] == ["n1", "n2", "n1", "n2"]
    refused = await placed(pair, "r8", 10, apart="web")
    assert refused == "apart: another slice of group web is on this device"
    assert (await placed(pair, "soft", 10, apart="web", apart_strict=False)).startswith("apart:")
    assert await placed(pair, "other", 10, apart="api") == "n1-d00"
    assert await placed(pair, "foreign", 10, apart="web", tenant="t2") == "n1-d00"


async def test_replicas_that_only_prefer_it_are_spread_evenly(pair: House) -> None:
    """One on every device before any has two."""
    devices = [await placed(pair, f"r{number}", 10, apart="web", apart_strict=False) for number in range(12)]
    assert len(set(devices[:8])) == 8
    assert len(set(devices[8:])) == 4
    said = (await record(pair, "r8")).decision
    assert said is not None
    assert "of group web 1 on the same device" in said.summary


async def test_replicas_can_be_on_different_nodes(pair: House) -> None:
    """A third has nowhere to go."""
    asked = {"apart": "web", "apart_within": Reach.NODE}
    assert [(await placed(pair, f"r{number}", 10, **asked))[:2] for number in range(2)] == ["n1", "n2"]
    assert await placed(pair, "r2", 10, **asked) == "apart: another slice of group web is on this node"
    await pair.send(ask("g", 10, devices=2, **asked))
    assert (await record(pair, "g")).field == "apart"


async def test_a_gang_keeps_apart_from_the_others_of_its_group_not_from_itself(pair: House) -> None:
    """Its members are of one slice."""
    asked = {"apart": "web", "apart_within": Reach.NODE, "devices": 2}
    for name in ("g1", "g2"):
        await pair.send(ask(name, 10, **asked))
    nodes = [{each.node for each in (await record(pair, name)).placements} for name in ("g1", "g2")]
    assert nodes == [{"n1"}, {"n2"}]


async def test_a_slice_is_not_moved_to_one_of_its_group(pair: House) -> None:
    """Neither by name nor by choice."""
    await placed(pair, "r0", 10, apart="web")
    await placed(pair, "r1", 10, apart="web")
    await placed(pair, "r2", 10, apart="web")
    first, third = (await record(pair, "r0")).placements[0], (await record(pair, "r2")).placements[0]
    assert first.node == third.node == "n1"
    await pair.send(MoveSlice(id="r0", device_id=third.device_id))
    assert (await record(pair, "r0")).placements[0].device_id == first.device_id
    await pair.send(MoveSlice(id="r0"))
    assert (await record(pair, "r0")).placements[0].device_id not in (first.device_id, third.device_id)


async def test_explain_tells_what_keeps_a_replica_off_a_device(pair: House) -> None:
    """Each device with its reason, and the choice with what became of the wish."""
    from mica.events import ExplainSlice

    await placed(pair, "r0", 10, apart="web")
    sequence = await pair.send(ExplainSlice(request=ask("r1", 10, apart="web", apart_within=Reach.NODE)))
    [answer] = [each for each in pair.said("slice.explained.*") if isinstance(each, SliceExplained) and each.sequence == sequence]
    reasons = {each.device_id: each.reason for each in answer.candidates}
    assert reasons["n1-d03"] == "another slice of group web is on this node"
    assert "of group web none on the same device, none on the same node" in answer.summary


async def _two_replicas_place(seed: int) -> int:
    """How many devices have two of a group, when two planners place the group at the same time."""
    house = House()
    await house.add_node(node(4, every_pair(4, LinkKind.XGMI, 1, 64)))
    for number in (1, 2):
        await house.start_planner(Rig(house.bus, seed=seed + number, dawdle=6))
    for number in range(4):
        await house.bus.publish(ask(f"r{number}", 10, apart="web"))
        await quiet(seed % 3)
    await house.settle(6)
    entry = await house.bus.state.get("ledger.n1", Ledger)
    await house.stop_planners()
    assert entry is not None
    assert {id_ for slices in entry.value.devices.values() for id_ in slices} == {"r0", "r1", "r2", "r3"}
    return sum(len(slices) > 1 for slices in entry.value.devices.values())


async def test_two_planners_at_once_keep_a_group_apart() -> None:
    """The ledger is written by compare-and-set, and looked at once more for the group."""
    assert [await _two_replicas_place(seed) for seed in range(12)] == [0] * 12


async def test_without_the_last_look_two_planners_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A control: what each of them decided alone puts two on a device."""
    monkeypatch.setattr(admission, "too_near", lambda *_: None)
    assert sum([await _two_replicas_place(seed) for seed in range(12)]) > 0


async def test_a_gang_is_near_where_it_is_connected_as_well(pair: House) -> None:
    """Connection comes first, nearness decides between equals."""
    await placed(pair, "llm", 10, tenant="t1", pool="default")
    await pair.send(ask("g", 10, devices=2, near="llm"))
    found = await record(pair, "g")
    assert [each.device_id for each in found.placements] == ["n1-d00", "n1-d01"]
