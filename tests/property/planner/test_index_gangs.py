"""Gangs in fleets of differently connected nodes: however early the index ends its search, no set is connected better."""

from unittest.mock import patch

import pytest
from gang_nodes import GIB, NODES, odd_nodes
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mica.events import Health, Inventory, Mode, Observed, ObservedSlice, ObservedState, RequestSlice
from mica.planner.domain import placing
from mica.planner.domain.asks import Ask, Pins
from mica.planner.domain.fleet import Fleet
from mica.planner.domain.index import Index
from mica.planner.domain.placing import Placed, decide, decide_among
from mica.planner.domain.sizing import Size

PINS = Pins(now_ns=1)


def renamed(inventory: Inventory, name: str) -> Inventory:
    """The same on another node."""
    ids = {each.id: f"{name}-{each.index}" for each in inventory.devices}
    links = tuple(replace(each, a=ids[each.a], b=ids[each.b]) for each in inventory.links)
    return replace(inventory, node=name, devices=tuple(replace(e, id=ids[e.id]) for e in inventory.devices), links=links)


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    """Up to five nodes; on some devices is something, in one of two modes, and some are sick."""
    fleet = Fleet()
    for number, drawn in enumerate(draw(st.lists(odd_nodes(), min_size=2, max_size=5))):
        inventory = renamed(drawn, f"n{number}")
        health = [draw(st.sampled_from([Health.HEALTHY] * 4 + [Health.FAILED])) for _ in inventory.devices]
        devices = tuple(replace(each, health=said) for each, said in zip(inventory.devices, health, strict=True))
        node = fleet.node(inventory.node)
        node.take_inventory(replace(inventory, devices=devices))
        seen = {each.id: held(each.id, draw(st.sampled_from([0, 0, 20, 60]))) for each in devices}
        node.take_observed(Observed(node=node.name, boot_id="b", lease_until=9, devices=seen))
    return fleet


def held(device_id: str, gib: int) -> dict[str, ObservedSlice]:
    """So much held on a device: of the larger ones in time."""
    mode = Mode.TIMESLICE if gib > 20 else Mode.FCSP
    seen = ObservedSlice(generation=1, state=ObservedState.LIVE, mode=mode, vram_bytes=gib * GIB, share_ppm=gib * 10_000)
    return {f"held-{device_id}": seen} if gib else {}


def gang(members: int, nodes: int, gib: int, mode: Mode | None) -> Ask:
    request = RequestSlice(tenant="t", id="g", vram_bytes=gib * GIB, devices=members, nodes=nodes, mode=mode)
    return Ask(id="g", request=request, size=Size(gib * GIB, None), pins=PINS, members=members)


def connected(fleet: Fleet, outcome: Placed) -> object:
    """How well the part of a gang is connected that is connected worst."""
    by_node: dict[str, list[str]] = {}
    for each in outcome.placements:
        by_node.setdefault(each.node, []).append(each.device_id)
    return min(fleet.node(name).connections.score(ids) for name, ids in by_node.items())


asks = st.builds(
    lambda each, nodes, gib, mode: gang(each * nodes, nodes, gib, mode),
    st.sampled_from([2, 3]),
    st.sampled_from([1, 1, 2]),
    st.sampled_from([15, 40]),
    st.sampled_from([None, Mode.TIMESLICE]),
)


def check(fleet: Fleet, ask: Ask, spare: int) -> None:
    """The index alone finds a set wherever there is one, and none is connected better."""
    exact = decide_among(fleet, ask, fleet.devices())
    with patch.object(placing, "SPARE_NODES", spare), patch.object(Index, "nearest", lambda *_: []):
        found = decide(fleet, ask)
    assert isinstance(found, Placed) == isinstance(exact, Placed)
    if isinstance(found, Placed) and isinstance(exact, Placed):
        assert connected(fleet, found) == connected(fleet, exact)


@settings(max_examples=120, deadline=None)
@given(fleets(), asks, st.sampled_from([0, 1, 3]))
def test_no_set_is_connected_better_than_the_one_that_is_found(fleet: Fleet, ask: Ask, spare: int) -> None:
    """On sick devices, on devices carved in several modes, and with how few nodes the search may end."""
    check(fleet, ask, spare)


@settings(max_examples=60, deadline=None)
@given(fleets(), asks, st.data())
def test_devices_that_are_connected_anew_are_known_to_be(fleet: Fleet, ask: Ask, data: st.DataObject) -> None:
    """What was the best connection that there is does not end a search once a node has a better one."""
    check(fleet, ask, 0)
    name = data.draw(st.sampled_from(sorted(fleet.nodes)))
    inventory = renamed(data.draw(odd_nodes()), "new")
    was = fleet.node(name).inventory
    assert was is not None
    ids = [each.id for each in was.devices]
    at = {each.id: each.index for each in inventory.devices}
    links = tuple(
        replace(each, a=ids[at[each.a]], b=ids[at[each.b]]) for each in inventory.links if max(at[each.a], at[each.b]) < len(ids)
    )
    fleet.node(name).take_inventory(replace(was, links=links))
    check(fleet, ask, 0)


def test_a_search_that_takes_the_nodes_as_they_come_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: where the worst connected node is looked at first, another set is connected better."""
    fleet = Fleet()
    for name, shape in (("n1", "four-numa"), ("n2", "nvswitch")):
        fleet.node(name).take_inventory(renamed(NODES[shape], name))
        fleet.node(name).take_observed(Observed(node=name, boot_id="b", lease_until=9))
    check(fleet, gang(4, 1, 15, None), 0)
    plain = Index.gang_nodes
    monkeypatch.setattr(Index, "gang_nodes", lambda index, ask, mode, enough: plain(index, ask, mode, enough)[::-1])
    monkeypatch.setattr(placing, "_connected", lambda _: max(score for score, _ in plain(fleet.index, ask, Mode.FCSP, 9)))
    ask = gang(4, 1, 15, None)
    with pytest.raises(AssertionError):
        check(fleet, ask, 0)
