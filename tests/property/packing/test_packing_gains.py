"""What a choice costs, what a packer takes over from another, and shapes that need another amount on every kind of device."""

from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica.packing import Board, Mix, Mover, Node, Packer, Settings, Shape, Spot, _packer

KINDS = 3
ARRAYS = ("vram_mib", "share_ppm", "cpu_milli", "memory_mib")

nodes = st.lists(
    st.builds(
        Node,
        st.sampled_from([4000, 16_000]),
        st.sampled_from([4096, 65_536]),
        st.lists(st.tuples(st.integers(0, KINDS - 1), st.sampled_from([500, 1000, 3000])), min_size=1, max_size=4).map(tuple),
    ),
    min_size=1,
    max_size=4,
)
needs = st.one_of(st.none(), st.tuples(st.integers(1, 1200), st.integers(0, 1000).map(lambda milli: milli * 1000)))
shapes = st.builds(
    lambda cpu, devices, table: Shape(cpu, 100, devices, 500, 500_000, by_kind=table),
    st.sampled_from([0, 1000, 3000]),
    st.sampled_from([1, 1, 1, 2]),
    st.tuples(*[needs] * KINDS).filter(any),
)
streams = st.lists(shapes, min_size=2, max_size=12)


def packer_of(fleet: list[Node], stream: list[Shape]) -> Packer:
    """A packer that expects what comes."""
    weights = dict.fromkeys(stream, 1 / len(set(stream)))
    return Packer(Board(fleet, KINDS), Mix(weights, KINDS), Settings(grain_milli=1))


def put(packer: Packer, stream: list[Shape]) -> list[tuple[Shape, Spot]]:
    """Place one after the other what fits."""
    placed = []
    for shape in stream:
        spot = packer.choose(shape)
        if spot is not None:
            packer.take(shape, spot)
            placed.append((shape, spot))
    return placed


def spots(board: Board, shape: Shape) -> list[Spot]:
    """Every spot on one or two devices of a node."""
    found = []
    for node in range(board.nodes):
        count = int(board.first[node + 1] - board.first[node])
        if shape.devices == 1:
            found += [Spot(node, (one,)) for one in range(count)]
        else:
            found += [Spot(node, (one, other)) for one in range(count) for other in range(one + 1, count)]
    return found


@settings(deadline=None)
@given(nodes, streams, shapes)
def test_a_gain_is_what_the_measure_says_after_less_what_it_said_before(
    fleet: list[Node], stream: list[Shape], shape: Shape
) -> None:
    """On every spot where the shape fits; and looking at it changes nothing."""
    packer = packer_of(fleet, [*stream, shape])
    put(packer, stream[::2])
    for spot in spots(packer.board, shape):
        if not packer.fits(shape, spot):
            continue
        before, gain = packer.value(spot.node), packer.gain(shape, spot)
        assert packer.value(spot.node) == before
        packer.take(shape, spot)
        assert packer.value(spot.node) - before == pytest.approx(gain, abs=0.05, rel=1e-4)
        packer.give(shape, spot)


def room(board: Board, shape: Shape, node: int, device: int) -> bool:
    """Whether a device has what the shape takes on its kind."""
    at = int(board.first[node]) + device
    need = shape.by_kind[int(board.kind[at])]
    return need is not None and board.vram_mib[at] >= need[0] and board.share_ppm[at] >= need[1]


@settings(deadline=None)
@given(nodes, streams)
def test_a_shape_takes_of_every_kind_what_it_needs_there(fleet: list[Node], stream: list[Shape]) -> None:
    """It fits exactly where there is room for that; that much is less afterwards, and there again when it is given back."""
    packer = packer_of(fleet, stream)
    board = packer.board
    for shape in stream:
        for spot in spots(board, shape):
            alike = len({int(board.kind[int(board.first[spot.node]) + each]) for each in spot.devices}) == 1
            hosted = board.cpu_milli[spot.node] >= shape.cpu_milli and board.memory_mib[spot.node] >= shape.memory_mib
            if alike:
                fits = hosted and all(room(board, shape, spot.node, each) for each in spot.devices)
                assert packer.fits(shape, spot) == fits
        chosen = packer.choose(shape)
        if chosen is None:
            continue
        before = {name: getattr(board, name).copy() for name in ARRAYS}
        packer.take(shape, chosen)
        for device in chosen.devices:
            at = int(board.first[chosen.node]) + device
            taken = int(before["vram_mib"][at] - board.vram_mib[at]), int(before["share_ppm"][at] - board.share_ppm[at])
            assert taken == shape.by_kind[int(board.kind[at])]
        packer.give(shape, chosen)
        assert all((getattr(board, name) == before[name]).all() for name in ARRAYS)
        packer.take(shape, chosen)


def test_a_kind_that_the_table_does_not_reach_is_not_taken() -> None:
    """A board with more kinds than a shape knew of offers none of the new ones to it."""
    board = Board([Node(1000, 1000, ((2, 1000),)), Node(1000, 1000, ((0, 1000),))], KINDS)
    packer = Packer(board, Mix({}, KINDS), Settings())
    shape = Shape(0, 0, 1, 100, 1000, by_kind=((100, 1000),))
    assert packer.choose(shape) == Spot(1, (0,))
    assert not packer.fits(shape, Spot(0, (0,)))


@settings(deadline=None)
@given(nodes, streams, st.integers(0, 12))
def test_what_is_taken_over_from_another_packer_chooses_as_what_is_worked_out_anew(
    fleet: list[Node], stream: list[Shape], changed: int
) -> None:
    """Also where the board has changed since the other one looked at it."""
    other = packer_of(fleet, stream)
    put(other, stream[: len(stream) // 2])
    for shape in stream:
        other.choose(shape)
    packer = other.on(other.board.copy())
    packer.take_over(other)
    for shape in stream[:changed]:
        spot = packer.choose(shape)
        if spot is not None:
            packer.take(shape, spot)
    fresh = Packer(packer.board, other.mix, other.settings)
    for shape in stream:
        assert packer.choose(shape) == fresh.choose(shape)


def test_what_is_taken_over_onto_a_board_that_was_changed_in_silence_is_caught_by_that() -> None:
    """The control: without a new version the scores that were taken over hold, and are wrong."""
    shape = Shape(0, 0, 1, 1000, 1_000_000)
    other = packer_of([Node(1000, 1000, ((0, 1000),)), Node(1000, 1000, ((0, 1000),))], [shape])
    other.choose(shape)
    packer = other.on(other.board.copy())
    packer.board.vram_mib[0] = 0
    packer.take_over(other)
    assert packer.choose(shape) == Spot(0, (0,))
    assert Packer(packer.board, other.mix, other.settings).choose(shape) == Spot(1, (0,))


@settings(deadline=None, max_examples=50)
@given(nodes, streams, shapes)
def test_moves_are_the_same_when_the_packer_forgets_shapes(fleet: list[Node], stream: list[Shape], shape: Shape) -> None:
    """With room for two shapes what residents need is forgotten all the time, and worked out again."""

    def moves(known: int) -> object:
        with patch.object(_packer, "SHAPES_KNOWN", known):
            packer = packer_of(fleet, stream)
            mover = Mover(packer, dict(enumerate(put(packer, stream))))
            first = mover.proposals(3), mover.room_for(shape, 2)
            for other in stream:
                packer.choose(other)
            second = mover.proposals(3), mover.room_for(shape, 2)
            assert first == second
            return second, packer.forgotten

    (most, never), (few, often) = moves(512), moves(2)
    assert most == few
    assert never == 0
    assert often or len({*stream, shape}) <= 2
