"""The best-connected sets of a topology, by trying all of them. Invariant: shares nothing with the planner but ``closeness``."""

from collections.abc import Iterable, Sequence
from itertools import combinations, permutations

from mica.topology import Topology, closeness

Measure = tuple[object, ...]
"""The weakest link of the best ring, then bytes/s, lanes and ranks of all pairs: the greater, the better."""


def measure(topology: Topology, ids: Sequence[str]) -> Measure:
    """How well a set is connected. Time grows with the factorial of its size."""
    near = {frozenset(pair): closeness(topology, *pair) for pair in combinations(ids, 2)}
    first, *others = ids
    rings = ([first, *order] for order in permutations(others))
    ring = max(min(near[frozenset(pair)] for pair in zip(each, [*each[1:], first], strict=True)) for each in rings)
    pairs = near.values()
    return ring, sum(p.bytes_per_s for p in pairs), sum(p.lanes for p in pairs), sum(p.rank for p in pairs)


def best_by_force(topology: Topology, free: Iterable[str], members: int) -> Measure | None:
    """The measure of the best ``members`` of the free devices; None: there are fewer."""
    return max((measure(topology, ids) for ids in combinations(sorted(free), members)), default=None)
