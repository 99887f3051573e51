"""The index against looking at every device: on random fleets, after random lives, it finds a place wherever the rule has one."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_fleets import GIB, HAPPENINGS, World, gang_nodes, nodes, on_boards
from msgspec import structs

from mica.events import Mode, RequestSlice
from mica.planner.domain import cells, index, partitions, pools, sorts
from mica.planner.domain.admission import inadmissible
from mica.planner.domain.asks import Ask
from mica.planner.domain.index import Index
from mica.planner.domain.ledgers import entries_of
from mica.planner.domain.nodes import NodeState
from mica.planner.domain.packing import Fit
from mica.planner.domain.placing import Placed, Unplaced, decide, decide_among, fit_for
from mica.planner.domain.ranking import rank
from mica.planner.domain.sizing import Size

Step = tuple[str, int]
steps = st.lists(st.tuples(st.sampled_from(["ask"] * 9 + list(HAPPENINGS)), st.integers(0, 9999)), min_size=12, max_size=30)
DEEP = settings(max_examples=120, deadline=None)


def by_index_alone(world: World, ask: Ask) -> Placed | Unplaced:
    """What the index finds, where nothing is looked at beside it."""
    with patch.object(Index, "nearest", lambda *_: []):
        return decide(world.fleet, ask)


def check_ask(world: World, ask: Ask) -> Placed | None:
    """The index finds a place if, and only if, some device is one, in the strongest mode, and the books allow it."""
    found = by_index_alone(world, ask)
    exact = decide_among(world.fleet, ask, world.fleet.devices())
    outcome = decide(world.fleet, ask)
    assert isinstance(found, Placed) == isinstance(exact, Placed), (ask, found, exact)
    assert isinstance(outcome, Placed) == isinstance(exact, Placed), (ask, outcome, exact)
    if isinstance(exact, Unplaced):
        assert isinstance(outcome, Unplaced)
        assert (outcome.refusal, outcome.possible) == (exact.refusal, exact.possible)
        return None
    assert isinstance(outcome, Placed)
    assert isinstance(found, Placed)
    assert found.placements == outcome.placements
    assert {each.mode for each in outcome.placements} == {exact.placements[0].mode}
    assert len({(each.node, each.device_id) for each in outcome.placements}) == ask.members
    for name in {each.node for each in outcome.placements}:
        assert inadmissible(world.node(name), ask.id, {}, entries_of(world.record(ask, outcome), name)) is None
    if ask.members > 1:
        assert connected(world, outcome) == connected(world, exact)
    elif not ask.affinity.wished:
        check_preferred(world, ask, outcome, exact)
    return outcome


def check_preferred(world: World, ask: Ask, outcome: Placed, exact: Placed) -> None:
    """In hardware it is as good by all that counts; in software, in one cell, it switches no more and loses no stronger mode."""
    ranks = []
    for each in (outcome.placements[0], exact.placements[0]):
        node = world.node(each.node)
        claims = node.devices[each.device_id]
        result = fit_for(node, claims, ask, each.mode)
        assert isinstance(result, Fit)
        ranks.append(rank(node, claims, result, ask))
    if outcome.placements[0].mode is Mode.HARDWARE:
        assert ranks[0] == ranks[1]
    elif len(list(world.fleet.index.cells(ask))) == 1 and not world.fleet.index.large:
        assert ranks[0][:4] == ranks[1][:4]


def connected(world: World, outcome: Placed) -> object:
    """How well the worst connected part of a gang is connected."""
    by_node: dict[str, list[str]] = {}
    for each in outcome.placements:
        by_node.setdefault(each.node, []).append(each.device_id)
    return min(world.node(name).connections.score(ids) for name, ids in by_node.items())


def check_boards(world: World) -> None:
    """The index that has followed all changes has what one that begins now would have; nodes that are closed may have less."""
    followed, begun = on_boards(world.fleet, world.pins), on_boards(world.anew(), world.pins)
    shut = {name for name, node in world.fleet.nodes.items() if node.closed}
    for name in followed.keys() | begun.keys():
        if name not in shut:
            assert followed.get(name) == begun.get(name), name


def live(world: World, life: list[Step]) -> None:
    """One step after the other, with everything checked after each."""
    for what, seed in life:
        dice = random.Random(seed)
        if what == "ask":
            ask = world.ask(dice)
            outcome = check_ask(world, ask)
            if outcome is not None:
                world.reserve(ask, outcome)
        else:
            world.happen(what, dice)
        check_boards(world)


@DEEP
@given(nodes, steps)
def test_the_index_finds_a_place_wherever_there_is_one(kinds: list[list[str]], life: list[Step]) -> None:
    """In the strongest mode that any device gives; it refuses for the same reason, and always has what the documents say."""
    live(World(kinds), life)


@DEEP
@given(gang_nodes, steps)
def test_gangs_are_found_and_are_connected_as_well_as_can_be(kinds: list[list[str]], life: list[Step]) -> None:
    """The same on nodes that have several devices of a kind."""
    live(World(kinds), life)


@contextmanager
def cramped(room: dict[str, int]) -> Iterator[None]:
    """Cells, tables and memories as small as that."""
    where = {"CELL_NODES": pools, "NODE_DEVICES_MAX": cells, "FULL_MAX": cells, "ROOM": sorts, "REMEMBERED": sorts,
             "SHAPES_MAX": index, "LOOKED_MAX": index, "OPENINGS_MAX": partitions}  # fmt: skip
    patches = [patch.object(where[name], name, value) for name, value in room.items()]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()


@pytest.mark.parametrize(
    "room",
    [
        {"CELL_NODES": 2},
        {"CELL_NODES": 1, "ROOM": 1},
        {"NODE_DEVICES_MAX": 2},
        {"SHAPES_MAX": 2, "OPENINGS_MAX": 2, "FULL_MAX": 1, "LOOKED_MAX": 1, "REMEMBERED": 2},
    ],
    ids=lambda room: " ".join(room).lower(),
)
def test_where_room_is_small_the_index_finds_the_same(room: dict[str, int]) -> None:
    """Several cells in a pool, more sorts than the tables had room for, nodes that no board holds, memories that are full."""

    @settings(max_examples=40, deadline=None)
    @given(nodes, steps)
    def lives(kinds: list[list[str]], life: list[Step]) -> None:
        live(World(kinds), life)

    with cramped(room):
        lives()


def deaf_to(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index does not hear of one kind of change."""
    plain = getattr(NodeState, change)

    def unheard(node: NodeState, *args: object, **more: object) -> None:
        hears, node._touched = node._touched, lambda *_: None
        plain(node, *args, **more)
        node._touched = hears

    monkeypatch.setattr(NodeState, change, unheard)


@pytest.mark.parametrize("change", ["take_inventory", "take_ledger", "take_observed", "reserve"])
def test_an_index_that_misses_one_kind_of_change_is_caught(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The controls: what it has differs from the documents within a few lives."""
    worlds = [World([["h100", "l4"], ["l4", "odd"]]) for _ in range(60)]
    deaf_to(change, monkeypatch)
    with pytest.raises(AssertionError):
        live_all(worlds)


def test_an_index_that_misses_policies_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control for what no document of a node says."""
    worlds = [World([["h100-switchable", "h100-whole"], ["h100-switchable", "l4"]]) for _ in range(60)]
    monkeypatch.setattr(pools.Pools, "policies_changed", lambda _: None)
    with pytest.raises(AssertionError):
        live_all(worlds)


def live_all(worlds: list[World]) -> None:
    """A life for each in which slices come, are seen, leave, and are seen to have left."""
    course = ["ask", "ask", "ask", "enter", "enter", "observe", "observe", "leave", "leave", "observe", "observe", "give_up"]
    for seed, world in enumerate(worlds):
        on_boards(world.fleet, world.pins)
        dice = random.Random(seed)
        live(world, [(what, dice.randint(0, 9999)) for what in [*course, "inventory", *course, "policy", "ask"]])


def test_a_shelf_that_remembers_too_long_that_it_is_full_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: where something came free, a shape that had no place has to be looked at again."""
    monkeypatch.setattr(cells.Shelf, "is_full_for", lambda shelf, shape: shape in shelf._full)
    world = World([["l4"]])
    request = RequestSlice(tenant="t", id="s1", vram_bytes=20 * GIB)
    ask = Ask(id="s1", request=request, size=Size(20 * GIB, None), pins=world.pins, members=1)
    first = check_ask(world, ask)
    assert first is not None
    world.reserve(ask, first)
    other = structs.replace(ask, id="s2")
    assert check_ask(world, other) is None
    world.fleet.unreserve("s1", first.placements)
    with pytest.raises(AssertionError):
        check_ask(world, other)
