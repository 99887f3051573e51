"""What is learned of how long work stays, and what that is good for."""

import pytest

from mica.packing import Board, Lasting, Mix, Node, Packer, Settings, Shape, Spot, typical

SMALL = Shape(1000, 1, 1, 500, 500_000)
LARGE = Shape(1000, 1, 2, 1000, 1_000_000)
NO_DEVICE = Shape(1000, 1)


def board(nodes: int) -> Board:
    """Nodes with two devices each."""
    return Board([Node(64_000, 1000, ((0, 1000), (0, 1000)))] * nodes, 1)


def test_a_shape_weighs_what_it_holds_for_how_long() -> None:
    """Two small pieces that stayed 100 s and 200 s, and one large one that is there for 1,000 s: 0.5 x 2 x mean, and 2 x mean."""
    lasting = Lasting(board(3), Settings())
    lasting.arrive(0, LARGE, 0)
    lasting.arrive(1, SMALL, 0)
    lasting.arrive(2, SMALL, 0)
    lasting.depart(1, 100)
    lasting.depart(2, 200)
    lasting.arrive(3, NO_DEVICE, 500)
    small_s = (300 + 3 * (300 + 60) / 3) / 5
    large_s = (1000 + 3 * (1000 + 60) / 2) / 4
    assert lasting.held(1000) == pytest.approx({LARGE: 2000 * large_s, SMALL: 2 * 500 * small_s})


def test_what_was_refused_counts_by_how_long_its_like_stays() -> None:
    """Otherwise what does not fit would be forgotten, and never fit."""
    lasting = Lasting(board(1), Settings())
    assert lasting.arrive(0, LARGE, 0) is not None
    other = Shape(2000, 1, 2, 1000, 1_000_000)
    assert lasting.arrive(1, other, 0) is None
    assert lasting.held(600)[other] == pytest.approx(2000 * (600 + 60) / 2)


def test_what_waited_is_counted_once_and_stays_from_when_it_was_placed() -> None:
    """It came at 0 s, was placed at 50 s and left at 60 s: a stay of 10 s."""
    lasting = Lasting(board(1), Settings())
    lasting.arrive(0, LARGE, 0)
    assert lasting.arrive(1, LARGE, 0) is None
    lasting.depart(0, 50)
    assert lasting.place(1, LARGE, 50) == Spot(0, (0, 1))
    lasting.depart(1, 60)
    assert lasting.held(60)[LARGE] == pytest.approx(2 * 2000 * (60 + 3 * (60 + 60) / 3) / 5)


def test_rare_work_that_stays_keeps_its_node_from_frequent_work_that_does_not() -> None:
    """Of an empty node and one with a small piece on it, the next small piece takes the second. By number it takes the first."""
    lasting = Lasting(board(2), Settings())
    lasting.arrive(0, LARGE, 0)
    lasting.arrive(1, SMALL, 0)
    for key in range(2, 500):
        lasting.arrive(key, SMALL, key)
        lasting.depart(key, key + 1)
    lasting.depart(0, 100_000)
    by_number = Packer(lasting.board.copy(), Mix(typical({SMALL: 499, LARGE: 1}), 1), Settings())
    for key in range(500, 900):
        spot = lasting.arrive(key, SMALL, 100_000)
        assert spot is not None
        lasting.depart(key, 100_001)
    assert spot.node == 1
    control = by_number.choose(SMALL)
    assert control is not None
    assert control.node == 0
