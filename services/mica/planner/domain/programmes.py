"""A small integer programme, written row by row. Invariant: equal programmes give equal answers unless time or nodes run out."""

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from mica.slo_packing import solver

INFINITY: Final = float("inf")
NODES_MAX: Final = 20_000
"""Nodes of the search tree: they count the same on every machine, seconds do not."""

HALF: Final = 0.5

Row = Mapping[int, float]
"""Coefficients by column."""


class Answer(Struct, frozen=True):
    """The columns that are 1, and the least that the objective can be; not ``found``: there is no solution, or none in time."""

    ones: frozenset[int]
    bound: float
    found: bool


class Programme:
    """Least objective subject to rows; every column lies within [0, 1]."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._highs = solver(limit_s)
        self._highs.setOptionValue("mip_max_nodes", NODES_MAX)
        self._columns = 0
        self._rows = 0
        self._whole: list[int] = []

    def column(self, cost: float = 0.0, *, whole: bool = True) -> int:
        """One more column, 0 or 1, or anything between where it need not be ``whole``."""
        self._highs.addCol(cost, 0.0, 1.0, 0, [], [])
        if whole:
            self._whole.append(self._columns)
        self._columns += 1
        return self._columns - 1

    def at_most(self, limit: float, row: Row) -> int:
        """One more row, and its number."""
        self._highs.addRow(-INFINITY, limit, len(row), list(row), list(row.values()))
        self._rows += 1
        return self._rows - 1

    def change_limit(self, row: int, limit: float) -> None:
        """Another limit for a row."""
        self._highs.changeRowBounds(row, -INFINITY, limit)

    def solve(self) -> Answer:
        """The best answer that was found, with its bound."""
        from highspy import HighsVarType

        highs = self._highs
        while self._whole:
            highs.changeColIntegrality(self._whole.pop(), HighsVarType.kInteger)
        highs.setOptionValue("time_limit", highs.getRunTime() + self._limit_s)
        highs.run()
        info = highs.getInfo()
        if not info.primal_solution_status:
            return Answer(frozenset(), info.mip_dual_bound, found=False)
        values = highs.getSolution().col_value
        ones = frozenset(column for column, each in enumerate(values) if each > HALF)
        return Answer(ones, info.mip_dual_bound, found=True)

    @property
    def seconds(self) -> float:
        """What the solver has taken so far."""
        return float(self._highs.getRunTime())


def total(terms: Iterable[tuple[Row, float]]) -> dict[int, float]:
    """The weighted sum of rows."""
    row: dict[int, float] = {}
    for part, weight in terms:
        for column, coefficient in part.items():
            row[column] = row.get(column, 0.0) + coefficient * weight
    return row
