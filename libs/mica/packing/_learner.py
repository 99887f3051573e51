"""What is learned of the work: how often each shape comes, and how long it stays.

By number nearly all that comes may be small and gone in minutes, while most of the fleet is held by the few that stay for days: a
mix that counts pieces gives the last empty nodes to the former. So once work leaves, a shape weighs what it would hold were
nobody refused: arrivals x mean stay x compute. As long as nothing leaves that is not known, and arrivals count.

Invariant: pure; the caller tells the time, in seconds.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping
from typing import Final

from mica.packing._mix import TYPICAL, typical
from mica.packing._shape import Shape

HELD: Final = 0.99
"""The part of all that is held that typical shapes hold, where that is what counts."""
BELIEF: Final = 3.0
"""So many stays does it take to believe those of a shape as much as those of all shapes with as many devices."""
UNKNOWN_S: Final = 60.0
"""How long work is taken to stay before anything was seen."""


class Learner:
    """Counts what comes and what leaves."""

    def __init__(self) -> None:
        self.counts: Counter[Shape] = Counter()
        self.arrivals = self.departures = self.demand_milli = 0
        self._stays: dict[Shape, _Stays] = defaultdict(_Stays)
        self._standing: dict[Hashable, tuple[Shape, float]] = {}

    def saw(self, shape: Shape) -> None:
        """One more came."""
        self.counts[shape] += 1
        self.arrivals += 1
        self.demand_milli += shape.demand_milli

    def stands(self, key: Hashable, shape: Shape, now_s: float) -> None:
        """It has a place."""
        self._standing[key] = shape, now_s

    def left(self, key: Hashable, now_s: float) -> None:
        """It is no longer there."""
        found = self._standing.pop(key, None)
        if found is not None:
            self._stays[found[0]].add(now_s - found[1])
            self.departures += 1

    def typical(self, now_s: float) -> dict[Shape, float]:
        """The shapes to leave room for, with the sum 1."""
        return typical(self.held(now_s), HELD) if self.departures else typical(self.counts, TYPICAL)

    def held(self, now_s: float) -> Mapping[Shape, float]:
        """What each shape that needs devices would hold were nobody refused: thousandths of a device, times seconds."""
        stays = {shape: seen.copy() for shape, seen in self._stays.items()}
        for shape, since_s in self._standing.values():
            stays.setdefault(shape, _Stays()).add(now_s - since_s)
        alike: dict[int, _Stays] = defaultdict(_Stays)
        for shape, seen in stays.items():
            alike[shape.devices].merge(seen)
        usual = {devices: seen.mean_s(UNKNOWN_S, 1.0) for devices, seen in alike.items()}
        return {
            shape: count * shape.demand_milli * stays.get(shape, _Stays()).mean_s(usual.get(shape.devices, UNKNOWN_S), BELIEF)
            for shape, count in self.counts.items()
            if shape.demand_milli
        }


class _Stays:
    """How often, and how long in all."""

    def __init__(self, seen: int = 0, sum_s: float = 0.0) -> None:
        self.seen, self.sum_s = seen, sum_s

    def copy(self) -> "_Stays":
        return _Stays(self.seen, self.sum_s)

    def add(self, stay_s: float) -> None:
        self.seen += 1
        self.sum_s += stay_s

    def merge(self, other: "_Stays") -> None:
        self.seen += other.seen
        self.sum_s += other.sum_s

    def mean_s(self, before_s: float, belief: float) -> float:
        """With so many stays of ``before_s`` added."""
        return (self.sum_s + belief * before_s) / (self.seen + belief)
