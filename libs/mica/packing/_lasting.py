"""Placing what comes and goes: by a mix that is weighed by how much of the fleet each shape holds for how long.

By number nearly all that comes may be small and gone in minutes, while most of the fleet is held by the few that stay for days. A
mix that counts pieces gives the last empty nodes to the former. So a shape weighs here what it would hold were nobody refused:
arrivals x mean stay x devices; the stay is learned from who has left and who is there.

Invariant: nothing that fits somewhere is refused. Deterministic; the caller tells the time.
"""

from collections import Counter, defaultdict

from mica.packing._board import Board, Spot
from mica.packing._mix import Mix, typical
from mica.packing._packer import Packer, Settings
from mica.packing._shape import Shape

EVERY = 400
"""Arrivals between two looks at what was learned."""
PART = 0.99
"""Of what is held: shapes beyond are not looked for room for."""
BELIEF = 3.0
"""So many stays does it take to believe those of a shape as much as those of all shapes with as many devices."""
UNKNOWN_S = 60.0
"""How long work is taken to stay before anything was seen."""


class Lasting:
    """A packer that learns what stays."""

    def __init__(self, board: Board, settings: Settings) -> None:
        self.board = board
        self._packer = Packer(board, Mix({}, board.kinds), settings)
        self._arrivals: Counter[Shape] = Counter()
        self._stays: dict[Shape, _Stays] = defaultdict(_Stays)
        self._standing: dict[int, tuple[Shape, Spot, float]] = {}
        self._next = 0

    def arrive(self, key: int, shape: Shape, now_s: float) -> Spot | None:
        """Where the next piece of work goes; it is put there. None: it fits nowhere."""
        self._arrivals[shape] += 1
        if self._arrivals.total() > self._next:
            self._next = self._arrivals.total() - 1 + EVERY
            self._packer.look_ahead_to(Mix(typical(self.held(now_s), PART), self.board.kinds))
        return self.place(key, shape, now_s)

    def place(self, key: int, shape: Shape, now_s: float) -> Spot | None:
        """The same for what came before, and was counted then."""
        spot = self._packer.choose(shape)
        if spot is not None:
            self._packer.take(shape, spot)
            self._standing[key] = shape, spot, now_s
        return spot

    def depart(self, key: int, now_s: float) -> None:
        """It is no longer there."""
        shape, spot, since_s = self._standing.pop(key)
        self._packer.give(shape, spot)
        self._stays[shape].add(now_s - since_s)

    def held(self, now_s: float) -> dict[Shape, float]:
        """What each shape that needs devices would hold were nobody refused: thousandths of a device, times seconds."""
        stays = {shape: seen.copy() for shape, seen in self._stays.items()}
        for shape, _, since_s in self._standing.values():
            stays.setdefault(shape, _Stays()).add(now_s - since_s)
        alike: dict[int, _Stays] = defaultdict(_Stays)
        for shape, seen in stays.items():
            alike[shape.devices].merge(seen)
        return {
            shape: count
            * shape.demand_milli
            * stays.get(shape, _Stays()).mean_s(alike[shape.devices].mean_s(UNKNOWN_S, 1.0), BELIEF)
            for shape, count in self._arrivals.items()
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
