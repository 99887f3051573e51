"""Gangs against trying every set: on nodes of every shape, whatever is free, the planner's decision is a best-connected set."""

import random
import sys
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "planner"))

from gang_nodes import GIB, NODES, odd_nodes

from mica.bench._gang_oracle import best_by_force, measure
from mica.events import Inventory, Mode, Observed, ObservedSlice, ObservedState, RequestSlice
from mica.planner.domain import gangs
from mica.planner.domain.fleet import Fleet
from mica.planner.domain.gangs import Offer
from mica.planner.domain.placing import Ask, Pins, Placed, Unplaced, decide
from mica.planner.domain.sizing import Size
from mica.topology import Connections, from_inventory


def fleet_of(inventory: Inventory, used_gib: dict[str, int]) -> Fleet:
    """The node alone, with so much held on its devices."""
    fleet = Fleet()
    node = fleet.node(inventory.node)
    node.take_inventory(inventory)
    devices = {
        id_: {
            f"held-{id_}": ObservedSlice(
                generation=1, state=ObservedState.LIVE, mode=Mode.FCSP, vram_bytes=gib * GIB, share_ppm=gib * 10_000
            )
        }
        for id_, gib in used_gib.items()
        if gib
    }
    node.take_observed(Observed(node=inventory.node, boot_id="b1", lease_until=10, devices=devices))
    return fleet


def decide_gang(fleet: Fleet, members: int, gib: int = 40) -> Placed | Unplaced:
    request = RequestSlice(tenant="t", id="g", vram_bytes=gib * GIB, devices=members)
    return decide(fleet, Ask(id="g", request=request, size=Size(gib * GIB, None), pins=Pins(now_ns=1), members=members))


def taken(outcome: Placed | Unplaced) -> list[str]:
    return [each.device_id for each in outcome.placements] if isinstance(outcome, Placed) else []


def check(inventory: Inventory, free: set[str], members: int) -> None:
    topology = from_inventory(inventory)
    used = {device.id: 0 if device.id in free else 80 for device in inventory.devices}
    chosen = taken(decide_gang(fleet_of(inventory, used), members))
    best = best_by_force(topology, free, members)
    assert (measure(topology, chosen) if chosen else None) == best, (chosen, best)
    assert set(chosen) <= free


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("members", [2, 3, 4])
def test_a_gang_lands_on_a_best_connected_set(name: str, members: int) -> None:
    """In every state of a node of every shape; of 16 devices in many."""
    inventory = NODES[name]
    ids = [device.id for device in inventory.devices]
    dice = random.Random(f"{name} {members}")
    states = [dice.sample(ids, dice.randint(1, len(ids))) for _ in range(40)]
    for free in [ids, *states]:
        check(inventory, set(free), members)


@settings(max_examples=80, deadline=None)
@given(odd_nodes(), st.sets(st.integers(0, 6), min_size=2), st.integers(2, 5))
def test_a_gang_lands_on_a_best_connected_set_of_any_node(inventory: Inventory, free: set[int], members: int) -> None:
    """Also where links are unequal, unknown or missing."""
    check(inventory, {device.id for device in inventory.devices if device.index in free}, members)


def test_the_oracle_tells_the_best_set_from_the_tightest() -> None:
    """A control: devices taken by how well they fit alone miss the best-connected set."""
    inventory = NODES["pcie-tree"]
    topology = from_inventory(inventory)
    ids = [device.id for device in inventory.devices]
    assert measure(topology, [ids[1], ids[2]]) != best_by_force(topology, ids[1:6], 2)
    assert measure(topology, [ids[0], ids[4]]) != best_by_force(topology, ids, 2)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["pcie-tree", "cube-mesh", "ring", "nvswitch"]), st.data())
def test_of_equally_connected_sets_the_tightest_is_taken(name: str, data: st.DataObject) -> None:
    """The worst fit of its members is as good as can be, then the next; and then the best sets of 8, 4 and 2 are left."""
    inventory = NODES[name]
    topology = from_inventory(inventory)
    connections = Connections(topology)
    ids = [device.id for device in inventory.devices]
    ranks = {id_: (data.draw(st.integers(0, 2)),) for id_ in ids}
    members = data.draw(st.integers(2, 4))
    choice = gangs.choose(connections, [Offer(id_, ranks[id_]) for id_ in ids], members)
    assert choice is not None
    best = max(connections.score(each) for each in combinations(ids, members))
    equal = [each for each in combinations(ids, members) if connections.score(each) == best]
    tightest = min(sorted((ranks[id_] for id_ in each), reverse=True) for each in equal)
    assert list(choice.ranks) == tightest

    def left(one: tuple[str, ...]) -> list[object]:
        rest = [id_ for id_ in ids if id_ not in one]
        found = (max((connections.score(each) for each in combinations(rest, size)), default=None) for size in gangs.LATER)
        return [(each is not None, each or ()) for each in found]

    fitting = [each for each in equal if sorted((ranks[id_] for id_ in each), reverse=True) == tightest]
    assert left(choice.device_ids) == max(left(each) for each in fitting)  # type: ignore[type-var]


def test_a_choice_is_the_same_whatever_the_order_of_the_offers() -> None:
    """Ties end at the devices' order on the node, so that replicas of the planner choose alike."""
    connections = Connections(from_inventory(NODES["dgx2"]))
    offers = [Offer(device.id, (0,)) for device in NODES["dgx2"].devices]
    choice = gangs.choose(connections, offers, 4)
    assert choice is not None
    assert choice == gangs.choose(connections, offers[::-1], 4)
    assert choice.device_ids == tuple(f"n1-d{index:02}" for index in range(4))


def test_more_devices_than_can_be_tried_are_still_chosen_well() -> None:
    """On 24 devices in a chain of unequal links a gang is grown; it is no worse than the first devices in order."""
    from gang_nodes import node

    from mica.events import LinkKind

    inventory = node(24, {(i, i + 1): (LinkKind.XE_LINK, 1 + i % 5, 10 + i) for i in range(23)})
    topology = from_inventory(inventory)
    connections = Connections(topology)
    offers = [Offer(device.id, (0,)) for device in inventory.devices]
    choice = gangs.choose(connections, offers, 12)
    assert choice is not None
    assert choice.score >= connections.score([each.device_id for each in offers[:12]])


def test_the_decision_says_why_this_set() -> None:
    """How many of how many devices, what joins them, and what was wrong with the others."""
    outcome = decide_gang(fleet_of(NODES["nvswitch"], {}), 4)
    assert isinstance(outcome, Placed)
    assert "4 of 8 devices, all pairs NV18, 450 GB/s each way" in outcome.decision.summary
    outcome = decide_gang(fleet_of(NODES["hccs"], {"n1-d00": 50}), 4)
    assert taken(outcome) == ["n1-d04", "n1-d05", "n1-d06", "n1-d07"]
    assert isinstance(outcome, Placed)
    reasons = {each.device_id: each.reason for each in outcome.decision.rejected}
    assert reasons["n1-d01"] == "fits, but the gang would be connected less well with it"


def test_of_several_nodes_the_one_with_the_best_connected_set_is_taken() -> None:
    """Also where another node's devices fit more tightly."""
    fleet = fleet_of(NODES["nvswitch"], {})
    from gang_nodes import node

    other = node(4, {}, name="n0")
    state = fleet.node("n0")
    state.take_inventory(other)
    held = ObservedSlice(generation=1, state=ObservedState.LIVE, mode=Mode.FCSP, vram_bytes=40 * GIB, share_ppm=400_000)
    devices = {device.id: {f"held-{device.id}": held} for device in other.devices}
    state.take_observed(Observed(node="n0", boot_id="b1", lease_until=10, devices=devices))
    outcome = decide_gang(fleet, 2)
    assert isinstance(outcome, Placed)
    assert {each.node for each in outcome.placements} == {"n1"}
