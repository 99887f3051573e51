"""Placing with foresight: keep places for what is expected, and let it take them.

Every few hundred arrivals the work that is still expected, by the mix that was learned so far, is packed onto a copy of the
board, large and constrained pieces first. Whatever then arrives takes a place that was kept for its shape; else the best one by
the measure that takes none of the places kept for others; else the best one there is. Short-sighted scores can not see that a
piece which fits anywhere should leave the few places that another one needs.

Invariant: nothing that fits somewhere is refused: places are kept by preference, never by force. Deterministic for a seed.
"""

import random
from collections import deque
from collections.abc import Iterable, Mapping

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from mica.packing._board import Board, Spot
from mica.packing._mix import Learner, Mix, typical
from mica.packing._packer import Packer, Settings
from mica.packing._shape import Shape


class Foresight(Struct, frozen=True, kw_only=True):
    """When and how far is looked ahead.

    ``every``: arrivals between two plans, at most; as long as little was learned it is ``soon`` of what has arrived, and at
    least ``soonest`` arrivals. ``begin``: the part of the capacity that has arrived before the first one. ``full``: up to
    which part of the capacity work is expected, and ``beyond`` at least so much more. ``small_milli``: parts of a device up to
    which size are packed last of all that need one. ``large_first``: how strictly other parts are packed in the order of their
    size, against chance: 0 not at all.
    """

    every: int = 700
    soon: float = 0.2
    soonest: int = 40
    begin: float = 0.0
    full: float = 0.98
    beyond: float = 0.05
    small_milli: int = 190
    large_first: float = 0.5


class Outlook(Struct, frozen=True):
    """What a plan is made of, and nothing that changes while it is made."""

    packer: Packer
    expected: list[Shape]
    version: NDArray[np.uint32]

    def plan(self) -> "Plan":
        """Pack what is expected; the kernel lets go of the interpreter meanwhile. Once: the packer is used up."""
        slots: dict[Shape, deque[Spot]] = {}
        for shape, spot in zip(self.expected, self.packer.fill(self.expected), strict=True):
            if spot is not None:
                slots.setdefault(shape, deque()).append(spot)
        return Plan(self.packer, slots, self.version)


class Plan(Struct, frozen=True):
    """Places that are kept: by shape, and on a board on which they are taken."""

    packer: Packer
    slots: dict[Shape, deque[Spot]]
    version: NDArray[np.uint32]


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
        self._draw = random.Random(seed)  # noqa: S311 - ties among what is planned, not a secret
        self._learner = Learner()
        self._plan: Plan | None = None
        self._arrived_milli = self._standing_milli = 0
        self._next = 0

    def arrive(self, shape: Shape) -> Spot | None:
        """Where the next piece of work goes; it is put there. None: it fits nowhere."""
        self.learn(shape)
        return self.place(shape)

    def learn(self, shape: Shape) -> None:
        """Expect more of it, and plan when it is time to, all at once."""
        self.expect(shape)
        if self.is_due:
            self.adopt(self.look().plan())

    def expect(self, shape: Shape) -> None:
        """Learn that such a piece of work came."""
        self._learner.saw(shape)
        self._arrived_milli += shape.demand_milli

    def place(self, shape: Shape) -> Spot | None:
        """Where a piece of work goes; it is put there. None: it fits nowhere."""
        spot = self._kept(shape) or self._beside(shape) or self.packer.choose(shape)
        if spot is not None:
            self.take(shape, spot)
        return spot

    def take(self, shape: Shape, spot: Spot) -> None:
        """Put a piece of work there, where it fits."""
        self.packer.take(shape, spot)
        self._standing_milli += shape.demand_milli

    def depart(self, shape: Shape, spot: Spot) -> None:
        """A piece of work is no longer there."""
        self.packer.give(shape, spot)
        self._standing_milli -= shape.demand_milli
        if self._plan is not None:
            self._plan.packer.give(shape, spot)
            self._plan.packer.board.bound_by(self.board, spot.node)

    def rearranged(self, nodes: Iterable[int]) -> None:
        """What stands on those nodes has changed by other hands than these: nothing is kept there until the next plan."""
        if self._plan is not None:
            for node in nodes:
                self._plan.packer.board.follow(self.board, node)

    @property
    def is_due(self) -> bool:
        """Whether enough has arrived since the last look ahead for another."""
        return self._learner.arrivals >= self._next and self._arrived_milli >= self._foresight.begin * self._capacity_milli

    def look(self) -> Outlook:
        """Look ahead: a copy of the board, and what is expected by the mix that was learned."""
        foresight, arrivals = self._foresight, self._learner.arrivals
        self._next = arrivals + min(foresight.every, max(foresight.soonest, int(foresight.soon * arrivals)))
        self.packer.look_ahead_to(Mix(typical(self._learner.counts), self.board.kinds))
        return Outlook(self.packer.on(self.board.copy()), self._expected(), self.board.version.copy())

    def adopt(self, plan: Plan) -> None:
        """Keep the places of a plan. Where the board has changed since it was looked at, they are wishes that hold nothing."""
        self._plan = plan
        self.rearranged(np.flatnonzero(plan.version != self.board.version).tolist())

    def _beside(self, shape: Shape) -> Spot | None:
        """The best place that takes none of those that are kept for others."""
        if self._plan is None:
            return None
        spot = self._plan.packer.choose(shape)
        if spot is None or not self.packer.fits(shape, spot):
            return None
        self._plan.packer.take(shape, spot)
        return spot

    def _kept(self, shape: Shape) -> Spot | None:
        slots = self._plan.slots.get(shape) if self._plan is not None else None
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
        standing = self._standing_milli
        until = max(foresight.full * self._capacity_milli, standing + foresight.beyond * self._capacity_milli)
        pieces = (until - standing) / (self._arrived_milli / learner.arrivals)
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
            large = shape.milli > self._foresight.small_milli
            turn = 3.0 + self._foresight.large_first * (1 - shape.milli / 1000) if large else 6.0
        return turn - 100 * (1 - allowed)
