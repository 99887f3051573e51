"""What is learned of how long work stays, and what that is good for."""

import pytest

from mica.packing import Board, Budget, Foresight, Foresighted, Learner, Mix, Moving, Node, Packer, Settings, Shape, typical

SMALL = Shape(1000, 1, 1, 500, 500_000)
LARGE = Shape(1000, 1, 2, 1000, 1_000_000)
NO_DEVICE = Shape(1000, 1)


def board(nodes: int) -> Board:
    """Nodes with two devices each."""
    return Board([Node(64_000, 1000, ((0, 1000), (0, 1000)))] * nodes, 1)


def moving(nodes: int) -> Moving[int]:
    """Who places with foresight, and moves nothing."""
    return Moving(Foresighted(board(nodes), Settings(), Foresight()), Budget(part=0.0))


def test_as_long_as_nothing_leaves_arrivals_count() -> None:
    """Three in four are small."""
    learner = Learner()
    for shape in (SMALL, SMALL, LARGE, SMALL):
        learner.saw(shape)
    assert learner.typical(1000) == {SMALL: 0.75, LARGE: 0.25}


def test_a_shape_weighs_what_it_holds_for_how_long() -> None:
    """Two small pieces that stayed 100 s and 200 s, and one large one that is there for 1,000 s: 0.5 x 2 x mean, and 2 x mean."""
    learner = Learner()
    for key, shape in enumerate((LARGE, SMALL, SMALL)):
        learner.saw(shape)
        learner.stands(key, shape, 0)
    learner.left(1, 100)
    learner.left(2, 200)
    learner.saw(NO_DEVICE)
    small_s = (300 + 3 * (300 + 60) / 3) / 5
    large_s = (1000 + 3 * (1000 + 60) / 2) / 4
    assert learner.held(1000) == pytest.approx({LARGE: 2000 * large_s, SMALL: 2 * 500 * small_s})


def test_what_was_refused_counts_by_how_long_its_like_stays() -> None:
    """Otherwise what does not fit would be forgotten, and never fit."""
    learner = Learner()
    learner.saw(LARGE)
    learner.stands(0, LARGE, 0)
    other = Shape(2000, 1, 2, 1000, 1_000_000)
    learner.saw(other)
    assert learner.held(600)[other] == pytest.approx(2000 * (600 + 60) / 2)


def test_what_waited_is_counted_once_and_stays_from_when_it_was_placed() -> None:
    """It came at 0 s, was placed at 50 s and left at 60 s: a stay of 10 s."""
    here = moving(1)
    here.arrive(0, LARGE, 0)
    assert here.arrive(1, LARGE, 0)[0] is None
    here.depart(0, 50)
    assert here.place(1, LARGE, 50)[0] is not None
    here.depart(1, 60)
    assert here.foresighted.learner.held(60)[LARGE] == pytest.approx(2 * 2000 * (60 + 3 * (60 + 60) / 3) / 5)


def test_rare_work_that_stays_keeps_its_node_from_frequent_work_that_does_not() -> None:
    """Of an empty node and one with a small piece on it, the next small piece takes the second. By number it takes the first."""
    here = moving(2)
    here.arrive(0, LARGE, 0)
    here.arrive(1, SMALL, 0)
    for key in range(2, 500):
        here.arrive(key, SMALL, key)
        here.depart(key, key + 1)
    here.depart(0, 100_000)
    by_number = Packer(here.foresighted.board.copy(), Mix(typical({SMALL: 499, LARGE: 1}), 1), Settings())
    for key in range(500, 1300):
        spot, _ = here.arrive(key, SMALL, 100_000)
        assert spot is not None
        here.depart(key, 100_001)
    assert spot.node == 1
    control = by_number.choose(SMALL)
    assert control is not None
    assert control.node == 0
