"""How much of a fleet anybody could allocate: an upper bound, by a linear programme over the patterns of a device.

Owns the programme. What it assumes: work is divisible; CPU and host memory are summed over all nodes that are alike; of a device
only compute counts. Whole are the devices: each carries one pattern, some pieces that together are at most one device. Every
policy keeps to these, so that none gets past the bound, however it chooses, refuses or moves.

    most sum(demand)  such that  per shape: as many as have come, at most
                                 per kind of node: CPU and memory of its nodes, at most
                                 per kind of node and size of piece: pieces that the patterns of its devices have, at most

Invariant: what is returned holds by the prices of CPU, memory and pieces alone, checked here by weak duality: an error of the
solver makes it looser, never wrong. Patterns are made as they pay (column generation; Gilmore and Gomory, 1961).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import gcd
from typing import TYPE_CHECKING, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from mica.bench._errors import BenchError
from mica.packing import Node, Shape

if TYPE_CHECKING:
    from highspy import Highs, HighsLp

WHOLE: Final = 1000
CLOSE: Final = 1e-6
"""Of the bound: the programme and its dual are not brought closer to one another."""
ROUNDS: Final = 200
Floats = NDArray[np.float64]


class Prices(Struct, frozen=True):
    """What a thousandth of a core, a MiB and a piece of each size cost, in thousandths of a device; by kind of node, or place."""

    cpu: Floats
    memory: Floats
    pieces: Floats


class Programme:
    """The bound of one fleet for the shapes that may come. Patterns that were found stay for the next demand."""

    def __init__(self, nodes: Sequence[Node], shapes: Sequence[Shape]) -> None:
        """``shapes`` without devices, or of nothing of a device, are left out: nothing is allocated to them."""
        self.shapes = tuple(shape for shape in dict.fromkeys(shapes) if shape.demand_milli)
        classes = Counter(nodes)
        self._nodes = np.array(list(classes.values()), dtype=float)
        self._cpu = np.array([node.cpu_milli for node in classes], dtype=float)
        self._memory = np.array([node.memory_mib for node in classes], dtype=float)
        places = [(number, kind, count) for number, node in enumerate(classes) for kind, count in _by_kind(node)]
        self._class = np.array([number for number, _, _ in places], dtype=int)
        self._devices = np.array([count * self._nodes[number] for number, _, count in places])
        self._sizes = sorted({shape.milli for shape in self.shapes})
        self._size = np.array([self._sizes.index(shape.milli) for shape in self.shapes], dtype=int)
        self._asks = np.array([(shape.cpu_milli, shape.memory_mib, shape.devices) for shape in self.shapes], dtype=float).reshape(
            -1, 3
        )
        alike = list(classes)
        self._may = np.array(
            [[_may(shape, alike[number], kind) for shape in self.shapes] for number, kind, _ in places], dtype=bool
        ).reshape(len(places), len(self.shapes))
        self._patterns: set[tuple[int, tuple[int, ...]]] = {
            (place, tuple(WHOLE // size if each == number else 0 for each in range(len(self._sizes))))
            for place in range(len(places))
            for number, size in enumerate(self._sizes)
        }

    def bound_milli(self, wanted: Mapping[Shape, float]) -> float:
        """Thousandths of a device that can be allocated at most when ``wanted`` (how many of each shape) has come.

        The mean over several moments is bounded by that of the mean of what has come: the bound is concave in it.
        """
        if not self.shapes or not len(self._devices):
            return 0.0
        highs = self._master(self._counts(wanted))
        best = np.inf
        for _ in range(ROUNDS):
            highs.run()
            prices, devices = self._prices(highs)
            worth, found = self._best_patterns(prices.pieces)
            best = min(best, self.proven_milli(wanted, prices))
            fresh = {(place, found[place]) for place in np.flatnonzero(worth > devices + 1e-7).tolist()} - self._patterns
            if not fresh or best - highs.getInfo().objective_function_value <= CLOSE * best:
                break
            for place, pattern in sorted(fresh):
                highs.addCol(0.0, 0.0, np.inf, *_entries(self._pattern_column(place, pattern)))
            self._patterns |= fresh
        return float(best)

    def proven_milli(self, wanted: Mapping[Shape, float], prices: Prices) -> float:
        """What these prices prove, whatever they are, as long as none is below 0.

        Nobody can get more than what all CPU, memory and devices are worth, these in their best pattern, and what each piece of
        work then brings beyond its cost where that is most.
        """
        worth, _ = self._best_patterns(prices.pieces)
        cpu, memory, devices = self._asks.T
        cost = np.outer(prices.cpu[self._class], cpu) + np.outer(prices.memory[self._class], memory)
        cost += prices.pieces[:, self._size] * devices
        beyond = np.where(self._may, self._demand() - cost, 0.0).max(axis=0, initial=0.0)
        stock = self._nodes * (self._cpu * prices.cpu + self._memory * prices.memory)
        return float(stock.sum() + self._devices @ worth + self._counts(wanted) @ beyond)

    def _counts(self, wanted: Mapping[Shape, float]) -> Floats:
        return np.array([wanted.get(shape, 0.0) for shape in self.shapes])

    def _demand(self) -> Floats:
        return np.array([shape.demand_milli for shape in self.shapes], dtype=float)

    def _best_patterns(self, pieces: Floats) -> tuple[Floats, list[tuple[int, ...]]]:
        """By place, what the best pattern is worth at these prices, and which one it is: an unbounded knapsack."""
        unit = gcd(WHOLE, *self._sizes)
        steps = [size // unit for size in self._sizes]
        worth = np.zeros((WHOLE // unit + 1, len(pieces)))
        taken = np.full(worth.shape, -1)
        for room in range(1, len(worth)):
            worth[room] = worth[room - 1]
            for number, step in enumerate(steps):
                if step <= room:
                    gain = worth[room - step] + pieces[:, number]
                    better = gain > worth[room] + 1e-12
                    worth[room][better], taken[room][better] = gain[better], number
        return worth[-1], [self._pattern(taken[:, place], steps) for place in range(len(pieces))]

    def _pattern(self, taken: NDArray[np.int_], steps: Sequence[int]) -> tuple[int, ...]:
        pattern, room = [0] * len(steps), len(taken) - 1
        while room:
            number = int(taken[room])
            if number < 0:
                room -= 1
            else:
                pattern[number] += 1
                room -= steps[number]
        return tuple(pattern)

    def _master(self, counts: Floats) -> "Highs":
        """The programme with the patterns found so far. Rows: shapes, CPU, memory, devices, pieces."""
        from mica.slo_packing.quiet import QuietHighs

        columns = [
            (float(self.shapes[shape].demand_milli), self._work_column(place, shape))
            for place, shape in np.argwhere(self._may).tolist()
        ]
        columns += [(0.0, self._pattern_column(*each)) for each in sorted(self._patterns)]
        limits = np.concatenate(
            [counts, self._nodes * self._cpu / WHOLE, self._nodes * self._memory / WHOLE, self._devices,
             np.zeros(len(self._devices) * len(self._sizes))]
        )  # fmt: skip
        highs = QuietHighs()
        highs.setOptionValue("threads", 1)
        highs.passModel(_model(columns, limits))
        return highs

    def _rows(self) -> tuple[int, int, int, int]:
        """Where CPU, memory, devices and pieces begin."""
        cpu = len(self.shapes)
        memory = cpu + len(self._cpu)
        devices = memory + len(self._cpu)
        return cpu, memory, devices, devices + len(self._devices)

    def _work_column(self, place: int, shape: int) -> dict[int, float]:
        cpu, memory, _, pieces = self._rows()
        asks, number = self.shapes[shape], int(self._class[place])
        return {
            shape: 1.0,
            cpu + number: asks.cpu_milli / WHOLE,
            memory + number: asks.memory_mib / WHOLE,
            pieces + place * len(self._sizes) + int(self._size[shape]): float(asks.devices),
        }

    def _pattern_column(self, place: int, pattern: Sequence[int]) -> dict[int, float]:
        _, _, devices, pieces = self._rows()
        begin = pieces + place * len(self._sizes)
        return {devices + place: 1.0} | {begin + number: -float(count) for number, count in enumerate(pattern) if count}

    def _prices(self, highs: "Highs") -> tuple[Prices, Floats]:
        """The programme's prices, none below 0, and what a device is worth by them."""
        from highspy import HighsModelStatus

        if highs.getModelStatus() != HighsModelStatus.kOptimal:
            raise BenchError(f"bound: got no solution ({highs.modelStatusToString(highs.getModelStatus())}), allowed: an optimum")
        dual = np.abs(np.array(highs.getSolution().row_dual))
        cpu, memory, devices, pieces = self._rows()
        by_size = dual[pieces:].reshape(len(self._devices), len(self._sizes))
        return Prices(dual[cpu:memory] / WHOLE, dual[memory:devices] / WHOLE, by_size), dual[devices:pieces]


def _model(columns: Sequence[tuple[float, Mapping[int, float]]], limits: Floats) -> "HighsLp":
    """The most of what the columns bring (their first), with every row at most at its limit."""
    from highspy import HighsLp, MatrixFormat, ObjSense

    lp = HighsLp()
    lp.num_col_, lp.num_row_, lp.sense_ = len(columns), len(limits), ObjSense.kMaximize
    lp.col_cost_ = np.array([brings for brings, _ in columns])
    lp.col_lower_, lp.col_upper_ = np.zeros(len(columns)), np.full(len(columns), np.inf)
    lp.row_lower_, lp.row_upper_ = np.full(len(limits), -np.inf), limits
    lp.a_matrix_.format_ = MatrixFormat.kColwise
    lp.a_matrix_.start_ = np.cumsum([0, *(len(column) for _, column in columns)])
    lp.a_matrix_.index_ = np.array([row for _, column in columns for row in column])
    lp.a_matrix_.value_ = np.array([value for _, column in columns for value in column.values()], dtype=float)
    return lp


def _by_kind(node: Node) -> Iterator[tuple[int, int]]:
    yield from sorted(Counter(kind for kind, _ in node.devices).items())


def _may(shape: Shape, node: Node, kind: int) -> bool:
    return (
        shape.allows(kind)
        and shape.devices <= len(node.devices)
        and shape.cpu_milli <= node.cpu_milli
        and shape.memory_mib <= node.memory_mib
    )


def _entries(column: Mapping[int, float]) -> tuple[int, NDArray[np.int32], Floats]:
    return len(column), np.array(list(column), dtype=np.int32), np.array(list(column.values()), dtype=float)
