"""Nobody allocates more than the bound: on fleets so small that every way of placing can be tried."""

import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mica.bench._bound_programme import Prices, Programme
from mica.packing import Node, Shape

MEMORY_MIB = 1000
nodes = st.builds(
    Node,
    st.sampled_from([4000, 8000]),
    st.sampled_from([MEMORY_MIB // 2, MEMORY_MIB]),
    st.lists(st.sampled_from([(0, MEMORY_MIB), (1, MEMORY_MIB)]), max_size=2).map(tuple),
)
shapes = st.builds(
    lambda cpu, memory, devices, milli, kinds: Shape(
        cpu, memory, devices, milli if devices else 0, 1000 * milli if devices else 0, kinds if devices else None
    ),
    st.sampled_from([0, 1000, 3000]),
    st.sampled_from([0, 200, 600]),
    st.integers(0, 2),
    st.sampled_from([190, 300, 400, 600, 810, 1000]),
    st.sampled_from([None, frozenset({0}), frozenset({1})]),
)
fleets = st.lists(nodes, min_size=1, max_size=2)
works = st.lists(shapes, max_size=5)
MIXED = Node(8000, MEMORY_MIB, ((0, MEMORY_MIB),))
TWO_SIZES = [Shape(0, 0, 1, 600, 600_000), Shape(0, 0, 1, 400, 400_000)]


def most(fleet: list[Node], work: list[Shape]) -> int:
    """What can be allocated at most, found by trying everything: each piece nowhere, or on any devices of any node."""
    free = [[node.cpu_milli, node.memory_mib, *(1000 for _ in node.devices)] for node in fleet]

    def tried(number: int) -> int:
        if number == len(work):
            return 0
        shape, best = work[number], tried(number + 1)
        for node, left in zip(fleet, free, strict=True):
            allowed = [2 + i for i, (kind, _) in enumerate(node.devices) if shape.allows(kind) and left[2 + i] >= shape.milli]
            if left[0] < shape.cpu_milli or left[1] < shape.memory_mib:
                continue
            for devices in combinations(allowed, shape.devices):
                _charge(left, shape, devices, -1)
                best = max(best, shape.demand_milli + tried(number + 1))
                _charge(left, shape, devices, 1)
        return best

    return tried(0)


def _charge(left: list[int], shape: Shape, devices: tuple[int, ...], sign: int) -> None:
    left[0] += sign * shape.cpu_milli
    left[1] += sign * shape.memory_mib
    for device in devices:
        left[device] += sign * shape.milli


@settings(deadline=None, max_examples=150)
@given(fleets, works)
@example([MIXED], TWO_SIZES)
def test_no_way_of_placing_gets_past_the_bound(fleet: list[Node], work: list[Shape]) -> None:
    """The optimum by brute force is at most the bound, which is at most all that was asked for and all there is."""
    bound = Programme(fleet, work).bound_milli(Counter(work))
    assert most(fleet, work) <= bound + 1e-6
    assert bound <= sum(shape.demand_milli for shape in work) + 1e-6
    assert bound <= 1000 * sum(len(node.devices) for node in fleet) + 1e-6


@settings(deadline=None, max_examples=100)
@given(fleets, works, st.data())
def test_any_prices_prove_a_bound(fleet: list[Node], work: list[Shape], data: st.DataObject) -> None:
    """Weak duality: a solver that errs makes the bound looser, never wrong."""
    alike = len(set(fleet))
    places = sum(len({kind for kind, _ in node.devices}) for node in set(fleet))
    sizes = len({shape.milli for shape in work if shape.devices})

    def drawn(*dimensions: int) -> NDArray[np.float64]:
        count = math.prod(dimensions)
        return np.array(data.draw(st.lists(st.floats(0, 2), min_size=count, max_size=count))).reshape(dimensions)

    prices = Prices(drawn(alike), drawn(alike), drawn(places, sizes))
    assert most(fleet, work) <= Programme(fleet, work).proven_milli(Counter(work), prices) + 1e-6


def test_control_a_bound_that_misses_patterns_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """With patterns of equal pieces alone, 0.6 and 0.4 of a device are not seen to fit together."""

    def equal_pieces(self: Programme, pieces: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[tuple[int, ...]]]:
        _, found = true_patterns(self, pieces)
        return (pieces * [1000 // size for size in (400, 600)]).max(axis=1), found

    true_patterns = Programme._best_patterns
    monkeypatch.setattr(Programme, "_best_patterns", equal_pieces)
    assert Programme([MIXED], TWO_SIZES).bound_milli(Counter(TWO_SIZES)) < most([MIXED], TWO_SIZES) == 1000


def test_a_fleet_that_work_can_not_use_has_no_bound_above_zero() -> None:
    """No device, no work that needs one, or none of an allowed kind: nothing can be allocated."""
    piece = TWO_SIZES[0]
    elsewhere = Shape(0, 0, 1, 600, 600_000, frozenset({1}))
    assert Programme([Node(1, 1)], [piece]).bound_milli({piece: 1}) == 0
    assert Programme([MIXED], [Shape(1, 1)]).bound_milli({Shape(1, 1): 1}) == 0
    assert Programme([MIXED], [elsewhere]).bound_milli({elsewhere: 3}) == pytest.approx(0)
