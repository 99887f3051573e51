"""The kernel against rules written out in plain Python, on random fleets."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica.packing import Board, Foresight, Foresighted, Mix, Node, Packer, Rule, Settings, Shape, Spot, typical

KINDS = 2
MIB = 1000

nodes = st.lists(
    st.builds(
        Node,
        st.sampled_from([0, 4000, 16_000, 64_000]),
        st.sampled_from([0, 4096, 65_536]),
        st.lists(st.tuples(st.integers(0, KINDS - 1), st.sampled_from([500, MIB, 3000])), max_size=4).map(tuple),
    ),
    min_size=1,
    max_size=6,
)
shapes = st.one_of(
    st.builds(Shape, st.integers(0, 9000), st.integers(0, 9000)),
    st.builds(
        Shape,
        st.integers(0, 9000),
        st.integers(0, 9000),
        st.integers(1, 3),
        st.integers(1, MIB),
        st.integers(0, 1000).map(lambda milli: milli * 1000),
        st.one_of(st.none(), st.frozensets(st.integers(0, KINDS - 1), min_size=1)),
    ),
)
streams = st.lists(shapes, min_size=1, max_size=40)


def has_room(board: Board, shape: Shape, device: int) -> bool:
    """Whether a device has what the shape takes of each."""
    return (
        shape.allows(int(board.kind[device]))
        and board.vram_mib[device] >= shape.vram_mib
        and board.share_ppm[device] >= shape.share_ppm
    )


def could_hold(board: Board, shape: Shape) -> set[int]:
    """The nodes that the rules leave: CPU, memory, and enough devices of one kind."""
    found = set()
    for node in range(board.nodes):
        devices = range(board.first[node], board.first[node + 1])
        able = Counter(int(board.kind[device]) for device in devices if has_room(board, shape, device))
        enough = max(able.values(), default=0) >= shape.devices
        if enough and board.cpu_milli[node] >= shape.cpu_milli and board.memory_mib[node] >= shape.memory_mib:
            found.add(node)
    return found


def often(free: int, need: int) -> float:
    """How often a need goes into what is free; none of it without end."""
    return free // need if need else math.inf


def value(board: Board, weights: dict[Shape, float], node: int) -> float:
    """V as its definition has it; see native/packing/packing.h."""
    devices = range(board.first[node], board.first[node + 1])
    milli = {
        d: (int(board.vram_mib[d]) * 1000 // int(board.vram_whole_mib[d]) + int(board.share_ppm[d]) // 1000) // 2 for d in devices
    }
    if sum(milli.values()) == 0:
        return 0.0
    total = -float(sum(milli.values()))
    for shape, weight in weights.items():
        able = [d for d in devices if shape.devices and has_room(board, shape, d)]
        fit = [min(often(board.vram_mib[d], shape.vram_mib), often(board.share_ppm[d], shape.share_ppm)) for d in able]
        sets = (sum(fit) if shape.devices == 1 else len(able)) / max(1, shape.devices)
        hosted = min(often(board.cpu_milli[node], shape.cpu_milli), often(board.memory_mib[node], shape.memory_mib))
        if sets >= 1 and hosted >= 1:
            total += weight * sum(milli[d] for d in able) * min(1.0, hosted / sets)
    return total


def put(packer: Packer, stream: list[Shape]) -> list[tuple[Shape, Spot]]:
    """Place one after the other what fits."""
    placed = []
    for shape in stream:
        spot = packer.choose(shape)
        if spot is not None:
            packer.take(shape, spot)
            placed.append((shape, spot))
    return placed


def packer_of(fleet: list[Node], stream: list[Shape], rule: Rule = Rule.VALUE) -> tuple[Packer, dict[Shape, float]]:
    """A packer that expects what comes."""
    weights = typical(Counter(stream), 1.0)
    return Packer(Board(fleet, KINDS), Mix(weights, KINDS), Settings(rule=rule, grain_milli=1)), weights


@given(nodes, streams)
def test_the_measure_is_what_its_definition_says(fleet: list[Node], stream: list[Shape]) -> None:
    """On empty nodes and on full ones; a term of each shape may be cut by 1/1024 of a thousandth, and is a float."""
    packer, weights = packer_of(fleet, stream)
    put(packer, stream[::2])
    for node in range(packer.board.nodes):
        assert packer.value(node) == pytest.approx(value(packer.board, weights, node), abs=0.02 + 0.001 * len(weights), rel=1e-5)


@given(nodes, streams, st.sampled_from(Rule))
def test_nothing_is_oversold_and_nothing_that_fits_is_refused(fleet: list[Node], stream: list[Shape], rule: Rule) -> None:
    """Whatever the rule: a spot has room, and there is none only where no node could hold it."""
    packer, _ = packer_of(fleet, stream, rule)
    board = packer.board
    for shape in stream:
        spot, able = packer.choose(shape), could_hold(board, shape)
        assert (spot is None) == (not able), (shape, able)
        if spot is None:
            continue
        assert spot.node in able
        assert len(set(spot.devices)) == shape.devices
        assert packer.fits(shape, spot)
        packer.take(shape, spot)
        assert min(board.vram_mib.tolist() + board.share_ppm.tolist() + board.cpu_milli.tolist() + board.memory_mib.tolist()) >= 0


@given(nodes, streams)
def test_what_is_taken_and_given_back_leaves_no_trace(fleet: list[Node], stream: list[Shape]) -> None:
    """The board is as it was."""
    packer, _ = packer_of(fleet, stream)
    before = packer.board.copy()
    for shape, spot in put(packer, stream):
        packer.give(shape, spot)
    for name in ("vram_mib", "share_ppm", "cpu_milli", "memory_mib"):
        assert getattr(packer.board, name).tolist() == getattr(before, name).tolist()


def best(packer: Packer, shape: Shape) -> int | None:
    """The node that is best when every node is scored anew: the first of those with the highest score."""
    scores = [packer.on_node(shape, node) for node in range(packer.board.nodes)]
    fitting = [(-found[0], node) for node, found in enumerate(scores) if found is not None]
    return min(fitting)[1] if fitting else None


@given(nodes, streams)
def test_what_was_remembered_of_a_node_is_never_out_of_date(fleet: list[Node], stream: list[Shape]) -> None:
    """Scores that are kept between choices choose what scores made anew would."""
    packer, _ = packer_of(fleet, stream)
    for shape in stream:
        for other in stream[:3]:
            spot = packer.choose(other)
            assert (spot.node if spot is not None else None) == best(packer, other)
        put(packer, [shape])


def test_a_board_that_changes_behind_the_kernel_is_caught_by_that() -> None:
    """The control: a change that leaves the version as it was makes the remembered scores wrong."""
    fleet = [Node(64_000, 65_536, ((0, MIB),)), Node(64_000, 65_536, ((0, MIB),))]
    shape = Shape(1000, 1000, 1, MIB, 1_000_000)
    packer, _ = packer_of(fleet, [shape])
    assert packer.choose(shape) == Spot(0, (0,))
    packer.board.share_ppm[0] = 0
    assert packer.choose(shape) == Spot(0, (0,))
    assert best(packer, shape) == 1


@settings(deadline=None)
@given(nodes, streams, st.integers(1, 5), st.integers(0, 3))
def test_foresight_oversells_nothing_and_refuses_nothing_that_fits(
    fleet: list[Node], stream: list[Shape], every: int, seed: int
) -> None:
    """Places that are kept are a preference."""
    board = Board(fleet, KINDS)
    packer = Foresighted(board, Settings(), Foresight(every=every, begin=0.0), seed)
    for shape in stream:
        able = could_hold(board, shape)
        spot = packer.arrive(shape)
        assert (spot is None) == (not able)
        assert spot is None or spot.node in able
        assert min(board.vram_mib.tolist() + board.share_ppm.tolist() + board.cpu_milli.tolist() + board.memory_mib.tolist()) >= 0


def test_foresight_keeps_the_only_place_for_what_fits_nowhere_else() -> None:
    """Work that may go anywhere leaves the one device of a kind that half of all work needs; without foresight it does not."""
    fleet = [Node(64_000, 65_536, ((0, MIB),) * 2), Node(64_000, 65_536, ((1, MIB),) * 2)]
    bound = Shape(100, 100, 1, MIB, 1_000_000, frozenset({0}))
    free = Shape(100, 100, 1, MIB, 1_000_000)

    def placed(begin: float) -> int:
        board = Board(fleet, KINDS)
        packer = Foresighted(board, Settings(), Foresight(every=1, begin=begin, beyond=0.5), 1)
        return sum(packer.arrive(shape) is not None for shape in (bound, free, free, bound))

    assert placed(begin=0.0) == 4
    assert placed(begin=9.0) == 3
