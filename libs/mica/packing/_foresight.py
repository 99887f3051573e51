"""Placing with foresight: keep places for what is expected, and let it take them.

Every few hundred arrivals the work that is still expected, by the mix that was learned so far, is packed onto a copy of the
board, large and constrained pieces first. Whatever then arrives takes a place that was kept for its shape; else the best one by
the measure that takes none of the places kept for others; else the best one there is. Short-sighted scores can not see that a
piece which fits anywhere should leave the few places that another one needs.

Invariant: nothing that fits somewhere is refused: places are kept by preference, never by force. Deterministic for a seed.
"""

import random
from collections import deque
from collections.abc import Mapping

from msgspec import Struct

from mica.packing._board import Board, Spot
from mica.packing._mix import Learner, Mix, typical
from mica.packing._packer import Packer, Settings
from mica.packing._shape import Shape


class Foresight(Struct, frozen=True, kw_only=True):
    """When and how far is looked ahead.

    ``every``: arrivals between two plans. ``begin``: the part of the capacity that has arrived before the first one. ``full``:
    up to which part of the capacity work is expected, and ``beyond`` at least so much more. ``small_milli``: pieces of a device
    up to which size are packed last of all that need one.
    """

    every: int = 400
    begin: float = 0.01
    full: float = 0.98
    beyond: float = 0.05
    small_milli: int = 190


class Foresighted:
    """A packer that plans."""

    def __init__(
        self, board: Board, kinds_milli: Mapping[int, int], settings: Settings, foresight: Foresight, seed: int = 0
    ) -> None:
        """``kinds_milli``: the capacity of each kind of device, in thousandths of one."""
        self.board = board
        self.packer = Packer(board, Mix({}, board.kinds), settings)
        self._kinds_milli = kinds_milli
        self._capacity_milli = sum(kinds_milli.values())
        self._foresight = foresight
        self._settings = settings
        self._draw = random.Random(seed)  # noqa: S311 - ties among what is planned, not a secret
        self._learner = Learner()
        self._slots: dict[Shape, deque[Spot]] = {}
        self._planned: Packer | None = None
        self._arrived_milli = 0
        self._next = 0

    def arrive(self, shape: Shape) -> Spot | None:
        """Where the next piece of work goes; it is put there. None: it fits nowhere."""
        self._learner.saw(shape)
        self._arrived_milli += shape.demand_milli
        if self._learner.arrivals >= self._next and self._arrived_milli >= self._foresight.begin * self._capacity_milli:
            self._next = self._learner.arrivals + self._foresight.every
            self.plan()
        spot = self._kept(shape) or self._beside(shape) or self.packer.choose(shape)
        if spot is not None:
            self.packer.take(shape, spot)
        return spot

    def _beside(self, shape: Shape) -> Spot | None:
        """The best place that takes none of those that are kept for others."""
        if self._planned is None:
            return None
        spot = self._planned.choose(shape)
        if spot is None or not self.packer.fits(shape, spot):
            return None
        self._planned.take(shape, spot)
        return spot

    def plan(self) -> None:
        """Look ahead: learn the mix, and keep places for what is expected."""
        self.packer.look_ahead_to(Mix(typical(self._learner.counts), self.board.kinds))
        expected = self._expected()
        packer = self.packer.on(self.board.copy())
        self._slots, self._planned = {}, packer
        for shape, spot in zip(expected, packer.fill(expected), strict=True):
            if spot is not None:
                self._slots.setdefault(shape, deque()).append(spot)

    def _kept(self, shape: Shape) -> Spot | None:
        slots = self._slots.get(shape)
        while slots:
            spot = slots.popleft()
            if shape.devices < 2 and self.packer.fits(shape, spot):
                return spot
            found = self.packer.on_node(shape, spot.node) if shape.devices > 1 else None
            if found is not None:
                return found[1]
        return None

    def _expected(self) -> list[Shape]:
        """What is still to come, in the order in which it is packed; nothing while nothing came that needs a device."""
        learner, foresight = self._learner, self._foresight
        if not self._arrived_milli:
            return []
        until = max(foresight.full * self._capacity_milli, self._arrived_milli + foresight.beyond * self._capacity_milli)
        pieces = (until - self._arrived_milli) / (self._arrived_milli / learner.arrivals)
        expected: list[Shape] = []
        carried = self._draw.random()
        for shape, count in learner.counts.items():
            carried += pieces * count / learner.arrivals
            expected += [shape] * int(carried)
            carried -= int(carried)
        keyed = [(self._turn(shape) + self._draw.random(), number) for number, shape in enumerate(expected)]
        return [expected[number] for _, number in sorted(keyed)]

    def _turn(self, shape: Shape) -> float:
        """The lower, the earlier it is packed: what can go to few devices first, then what is large."""
        if not shape.devices:
            return 9
        allowed = 1.0
        if shape.kinds is not None:
            allowed = sum(milli for kind, milli in self._kinds_milli.items() if kind in shape.kinds) / self._capacity_milli
        if shape.devices > 1:
            turn = 1 - 0.01 * shape.devices
        elif shape.milli >= 1000:
            turn = 2.0
        else:
            turn = 3.0 if shape.milli > self._foresight.small_milli else 6.0
        return turn - 100 * (1 - allowed)
