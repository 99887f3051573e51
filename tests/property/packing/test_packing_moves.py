"""Moves: nothing is lost or oversold, the budget holds, and one relocation is found wherever there is one."""

from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mica.packing import (
    Board,
    Budget,
    Foresight,
    Foresighted,
    Mix,
    Move,
    Mover,
    Moving,
    Node,
    Packer,
    PackingError,
    Settings,
    Shape,
    Spot,
    typical,
)

KINDS = 2
MIB = 1000
ARRAYS = ("cpu_milli", "memory_mib", "vram_mib", "share_ppm")

nodes = st.lists(
    st.builds(
        Node,
        st.sampled_from([4000, 8000, 16_000]),
        st.just(65_536),
        st.lists(st.tuples(st.integers(0, KINDS - 1), st.just(MIB)), min_size=1, max_size=3).map(tuple),
    ),
    min_size=2,
    max_size=4,
)
shapes = st.builds(
    lambda cpu, devices, tenths, kinds: Shape(cpu, 100, devices, 100 * tenths, 100_000 * tenths, kinds),
    st.sampled_from([0, 1000, 3000, 6000]),
    st.sampled_from([1, 1, 1, 2]),
    st.integers(1, 10),
    st.sampled_from([None, None, frozenset({0}), frozenset({1})]),
)
streams = st.lists(st.one_of(shapes, st.builds(Shape, st.sampled_from([1000, 4000]), st.just(100))), min_size=4, max_size=30)


def moving_on(fleet: list[Node], budget: Budget, every: int = 3) -> Moving[int]:
    """A packer that moves, on an empty fleet."""
    board = Board(fleet, KINDS)
    return Moving(Foresighted(board, Settings(), Foresight(every=every, soonest=1), 0), budget)


def free(board: Board) -> dict[str, list[int]]:
    """What is free, by what it is."""
    return {name: getattr(board, name).tolist() for name in ARRAYS}


def held(fleet: list[Node], mover: Mover[int]) -> dict[str, list[int]]:
    """What would be free with all residents, each where it is said to stand, on an empty fleet."""
    packer = Packer(Board(fleet, KINDS), Mix({}, KINDS), Settings())
    for key in mover.residents:
        packer.take(*mover.residents[key])
    return free(packer.board)


@settings(deadline=None)
@given(nodes, streams, st.lists(st.integers(0, 99), max_size=30), st.sampled_from([0.05, 0.3, 1.0]))
def test_moves_lose_nobody_oversell_nothing_and_keep_to_the_budget(
    fleet: list[Node], stream: list[Shape], leaving: list[int], part: float
) -> None:
    """After every arrival and departure the board is what those who stand leave of it."""
    moving = moving_on(fleet, Budget(part=part, worth_milli=25))
    standing: dict[int, Shape] = {}
    for number, shape in enumerate(stream):
        spot, moves = moving.arrive(number, shape)
        if spot is not None:
            standing[number] = shape
        assert spot is not None or not moves
        assert moving.moved <= part * moving.placed
        if number < len(leaving) and leaving[number] in standing:
            del standing[leaving[number]]
            moving.depart(leaving[number])
        board = free(moving.mover.packer.board)
        assert board == held(fleet, moving.mover)
        assert min(value for values in board.values() for value in values) >= 0
        assert {key: moving.mover.residents[key][0] for key in moving.mover.residents} == standing


def test_a_move_that_is_done_by_half_is_caught_by_that() -> None:
    """The control: who is given back to the board, and is still said to stand there, makes the two differ."""
    fleet = [Node(16_000, 65_536, ((0, MIB),)), Node(16_000, 65_536, ((0, MIB),))]
    moving = moving_on(fleet, Budget())
    shape = Shape(1000, 100, 1, 500, 500_000)
    spot, _ = moving.arrive(0, shape)
    assert spot is not None
    moving.mover.packer.give(shape, spot)
    assert free(moving.mover.packer.board) != held(fleet, moving.mover)


@settings(deadline=None)
@given(nodes, streams)
def test_without_a_budget_it_is_the_packer_that_does_not_move(fleet: list[Node], stream: list[Shape]) -> None:
    """Every piece of work goes to the same spot."""
    moving = moving_on(fleet, Budget(part=0.0))
    plain = moving_on(fleet, Budget()).foresighted
    for number, shape in enumerate(stream):
        spot, moves = moving.arrive(number, shape)
        assert (spot, moves) == (plain.arrive(shape), ())
    assert moving.moved == 0


def fits_without(board: Board, shape: Shape, node: int, gone: tuple[Shape, Spot] | None = None) -> bool:
    """Whether there is room on the node, by the rules alone, with one resident of it away."""
    cpu, memory = int(board.cpu_milli[node]), int(board.memory_mib[node])
    if gone is not None:
        cpu, memory = cpu + gone[0].cpu_milli, memory + gone[0].memory_mib
    able: Counter[int] = Counter()
    for index, device in enumerate(range(board.first[node], board.first[node + 1])):
        back = gone[0] if gone is not None and index in gone[1].devices else Shape(0, 0)
        vram, share, kind = int(board.vram_mib[device]), int(board.share_ppm[device]), int(board.kind[device])
        if shape.allows(kind) and vram + back.vram_mib >= shape.vram_mib and share + back.share_ppm >= shape.share_ppm:
            able[kind] += 1
    return cpu >= shape.cpu_milli and memory >= shape.memory_mib and max(able.values(), default=0) >= shape.devices


def one_relocation_is_enough(mover: Mover[int], shape: Shape) -> bool:
    """By trying all: somebody can go to another node, and the shape fits where it was."""
    board = mover.packer.board
    for key in mover.residents:
        resident, spot = mover.residents[key]
        elsewhere = any(fits_without(board, resident, node) for node in range(board.nodes) if node != spot.node)
        if elsewhere and fits_without(board, shape, spot.node, (resident, spot)):
            return True
    return False


def full_mover(fleet: list[Node], stream: list[Shape]) -> Mover[int]:
    """A fleet with what fits of a stream, and no foresight."""
    packer = Packer(Board(fleet, KINDS), Mix(typical(Counter(stream), 1.0), KINDS), Settings())
    standing = {}
    for number, shape in enumerate(stream):
        spot = packer.choose(shape)
        if spot is not None:
            packer.take(shape, spot)
            standing[number] = (shape, spot)
    return Mover(packer, standing)


@settings(deadline=None)
@given(nodes, streams, shapes)
def test_one_relocation_is_found_wherever_there_is_one(fleet: list[Node], stream: list[Shape], shape: Shape) -> None:
    """By brute force on small fleets: what is found can be done, and where one move to another node would do, one is found."""
    mover = full_mover(fleet, stream)
    assume(mover.packer.choose(shape) is None)
    before = free(mover.packer.board)
    enough, room = one_relocation_is_enough(mover, shape), mover.room_for(shape, 4)
    assert free(mover.packer.board) == before
    assert mover.room_for(shape, 0) is None
    assert room is None or room.spot.node in {move.origin.node for move in room.moves}
    if enough:
        assert room is not None
        assert len(room.moves) == 1
    if room is not None:
        mover.carry_out(room.moves)
        assert mover.packer.fits(shape, room.spot)
        assert free(mover.packer.board) == held(fleet, mover)


def test_the_oracle_sees_what_a_search_that_may_not_move_misses() -> None:
    """The control: a case with exactly one way out, which a search for no moves answers wrongly."""
    fleet = [Node(16_000, 65_536, ((0, MIB),)), Node(16_000, 65_536, ((1, MIB),))]
    mover = full_mover(fleet, [Shape(1000, 100, 1, 500, 500_000)])
    bound = Shape(1000, 100, 1, MIB, 1_000_000, frozenset({0}))
    assert one_relocation_is_enough(mover, bound)
    assert mover.room_for(bound, 0) is None
    assert mover.room_for(bound, 1) is not None


def test_two_change_places_where_no_single_move_would_do() -> None:
    """A whole device is free, but no CPU beside it: the one with much CPU and the one with little change nodes."""
    fleet = [Node(8000, 65_536, ((0, MIB),) * 2), Node(7000, 65_536, ((0, MIB),))]
    mover = full_mover(fleet, [])
    for node, cpu_milli in ((0, 7000), (1, 3000)):
        shape = Shape(cpu_milli, 100, 1, MIB, 1_000_000)
        mover.packer.take(shape, Spot(node, (0,)))
        mover.residents.add(node, shape, Spot(node, (0,)))
    wanted = Shape(4000, 100, 1, MIB, 1_000_000)
    assert not one_relocation_is_enough(mover, wanted)
    assert mover.room_for(wanted, 1) is None
    room = mover.room_for(wanted, 2)
    assert room is not None
    assert room.spot.node == 0
    assert {(move.key, move.to.node) for move in room.moves} == {(0, 1), (1, 0)}


@settings(deadline=None)
@given(nodes, streams)
def test_proposals_gain_what_they_say_and_can_all_be_done(fleet: list[Node], stream: list[Shape]) -> None:
    """Looking changes nothing; each move raises V of the fleet by its gain; there are never more than asked for."""
    mover = full_mover(fleet, stream)
    for key in list(mover.residents)[::2]:
        mover.packer.give(*mover.residents.remove(key))
    before = free(mover.packer.board)
    moves = mover.proposals(3)
    assert free(mover.packer.board) == before
    assert len(moves) <= 3
    assert sorted((move.gain_milli for move in moves), reverse=True) == [move.gain_milli for move in moves]
    for move in moves:
        value = sum(mover.packer.value(node) for node in range(mover.packer.board.nodes))
        mover.carry_out([move])
        gained = sum(mover.packer.value(node) for node in range(mover.packer.board.nodes)) - value
        assert gained == pytest.approx(move.gain_milli, abs=0.01)
        assert move.gain_milli >= 1
    assert free(mover.packer.board) == held(fleet, mover)


def test_a_move_from_where_nobody_stands_is_refused() -> None:
    """One line, and the board is as it was."""
    mover = full_mover([Node(16_000, 65_536, ((0, MIB),))], [Shape(1000, 100, 1, 500, 500_000)])
    before = free(mover.packer.board)
    with pytest.raises(PackingError, match="a move of 0: got from Spot"):
        mover.carry_out([Move(0, Spot(0, (5,)), Spot(0, (0,)), 1.0)])
    assert free(mover.packer.board) == before


@settings(deadline=None)
@given(nodes, streams, st.integers(0, 30), st.integers(0, 30))
def test_a_plan_may_be_adopted_when_the_board_has_changed_since(
    fleet: list[Node], stream: list[Shape], look_at: int, adopt_at: int
) -> None:
    """A plan that another thread took long to make: nothing is oversold, and nothing that fits is refused."""
    foresighted = moving_on(fleet, Budget(), every=10**6).foresighted
    board, placed, plan = foresighted.board, [], None
    for number, shape in enumerate(stream):
        if number == look_at:
            plan = foresighted.look().plan()
        if number >= adopt_at and plan is not None:
            foresighted.adopt(plan)
            plan = None
        foresighted.expect(shape)
        able = any(fits_without(board, shape, node) for node in range(board.nodes))
        spot = foresighted.place(shape)
        assert (spot is not None) == able
        if spot is not None:
            placed.append((shape, spot))
        if number % 3 == 2 and placed:
            foresighted.depart(*placed.pop(0))
        assert min(value for values in free(board).values() for value in values) >= 0
    for shape, spot in placed:
        foresighted.depart(shape, spot)
    assert free(board) == free(Board(fleet, KINDS))
