"""What can not be packed is told in one line, and what is typical."""

import re

import pytest

from mica.packing import NODE_DEVICES_MAX, Board, Mix, Node, PackingError, Shape, typical


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cpu_milli": -1, "memory_mib": 0}, "a shape's cpu_milli: got -1, allowed: 0 or more"),
        (
            {"cpu_milli": 0, "memory_mib": 0, "devices": 2},
            "a shape of 2 devices: got vram_mib 0 and share_ppm 0, allowed: more than 0 of one",
        ),
    ],
)
def test_a_shape_that_makes_no_sense(fields: dict[str, int], message: str) -> None:
    """What, what was given, what is allowed."""
    with pytest.raises(PackingError, match=re.escape(message)):
        Shape(**fields)


def test_a_node_with_too_many_devices_or_of_an_unknown_kind() -> None:
    """The kernel's arrays would not hold it."""
    with pytest.raises(PackingError, match=f"node 0: got {NODE_DEVICES_MAX + 1} devices, allowed: at most {NODE_DEVICES_MAX}"):
        Board([Node(1, 1, ((0, 1),) * (NODE_DEVICES_MAX + 1))], 1)
    with pytest.raises(PackingError, match="got kind 1 with 5 MiB, allowed: kinds below 1"):
        Board([Node(1, 1, ((1, 5),))], 1)


def test_a_mix_of_more_shapes_than_the_kernel_has_room_for() -> None:
    """Is refused before the kernel sees it; one less is not."""
    weights = {Shape(cpu, 1, 1, 1, 1000): 1 / 257 for cpu in range(257)}
    with pytest.raises(PackingError, match="a mix: got 257 shapes, allowed: at most 256"):
        Mix(weights, 1)
    weights.popitem()
    assert len(Mix(weights, 1).weights) == 256


def test_typical_is_the_shortest_list_that_makes_up_the_part() -> None:
    """The most frequent first, and each with its part of those."""
    often, seldom, once = (Shape(cpu, 1, 1, 1, 1000) for cpu in (1, 2, 3))
    assert typical({once: 1, often: 15, seldom: 4}) == {often: 15 / 19, seldom: 4 / 19}


def test_a_fleet_of_no_devices_and_a_mix_of_nothing() -> None:
    """Are no error: nothing with devices fits."""
    board = Board([Node(1000, 1000)], 1)
    assert (board.nodes, board.devices) == (1, 0)
    assert Mix({}, 1).weights == {}
