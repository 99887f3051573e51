"""Placing with foresight: keep places for what is expected, and let it take them.

Every few hundred arrivals the work that is still expected, by the mix that was learned so far, is packed onto a copy of the
board, large and constrained pieces first. Whatever then arrives takes a place that was kept for its shape; else the best one by
the measure that takes none of the places kept for others; else the best one there is. Short-sighted scores can not see that a
piece which fits anywhere should leave the few places that another one needs.

Invariant: nothing that fits somewhere is refused: places are kept by preference, never by force. Deterministic for a seed.
"""

import random
from collections import deque
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from mica.packing._board import Board, Spot
from mica.packing._learner import Learner
from mica.packing._mix import Mix
from mica.packing._packer import Packer, Settings
from mica.packing._shape import Shape


class Foresight(Struct, frozen=True, kw_only=True):
    """When and how far is looked ahead.

    ``every``: arrivals between two plans, at most; as long as little was learned it is ``soon`` of what has arrived, and at
    least ``soonest`` arrivals. ``begin``: the part of the capacity that has arrived before the first one. ``full``: up to
    which part of the capacity work is expected, and ``beyond`` at least so much more. ``small_milli``: parts of a device up to
    which size are packed last of all that need one. ``large_first``: how strictly other parts are packed in the order of their
    size, against chance: 0 not at all. ``fleeting``: where so many have left for each that came since the last plan, no places
    are kept.
    """

    every: int = 700
    soon: float = 0.2
    soonest: int = 40
    begin: float = 0.0
    full: float = 0.98
    beyond: float = 0.05
    small_milli: int = 190
    large_first: float = 0.5
    fleeting: float = 0.25


WARM: Final = 64
"""Of so many shapes every node is looked at with the new mix before it counts; of others when they come."""


class Why(StrEnum):
    """What speaks for a place."""

    KEPT = "kept"
    """It was kept for such work."""
    BESIDE = "beside"
    """It takes none of the places that are kept for other work."""
    BEST = "best"
    """It costs the least of what is left, for the work that is expected."""


class Seen(Struct, frozen=True):
    """A place, and what speaks for it."""

    spot: Spot
    why: Why


class Outlook(Struct, frozen=True):
    """What a plan is made of, and nothing that changes while it is made."""

    packer: Packer
    expected: list[Shape]
    known: Sequence[Shape]
    version: NDArray[np.uint32]

    def plan(self) -> "Plan":
        """Look at every node, then pack what is expected; the kernel lets go of the interpreter meanwhile. Once."""
        for shape in self.known:
            self.packer.choose(shape)
        packer = self.packer.on(self.packer.board.copy())
        packer.take_over(self.packer)
        slots: dict[Shape, deque[Spot]] = {}
        for shape, spot in zip(self.expected, packer.fill(self.expected), strict=True):
            if spot is not None:
                slots.setdefault(shape, deque()).append(spot)
        return Plan(packer, slots, self.packer, self.version)


class Plan(Struct, frozen=True):
    """Places that are kept: by shape, and on a board on which they are taken. ``fresh`` knows the nodes as they were before."""

    packer: Packer
    slots: dict[Shape, deque[Spot]]
    fresh: Packer
    version: NDArray[np.uint32]


class Kept(Struct, frozen=True):
    """What is left of a plan that was adopted."""

    packer: Packer
    slots: dict[Shape, deque[Spot]]


class Foresighted:
    """A packer that plans. Boards that see parts of one stream of work share a ``learner``."""

    def __init__(
        self, board: Board, settings: Settings, foresight: Foresight, seed: int = 0, learner: Learner | None = None
    ) -> None:
        self.board = board
        self.learner = learner if learner is not None else Learner()
        self.packer = Packer(board, Mix({}, board.kinds), settings)
        self._capacity_milli = 1000 * board.devices
        self._foresight = foresight
        self._draw = random.Random(seed)  # noqa: S311 - ties among what is planned, not a secret
        self._plan: Kept | None = None
        self._came = self._next = 0
        self._seen = (0, 0)
        """Arrivals and departures when it was last looked ahead."""

    def arrive(self, shape: Shape, now_s: float = 0.0) -> Spot | None:
        """Where the next piece of work goes; it is put there. None: it fits nowhere."""
        self.learn(shape, now_s)
        return self.place(shape)

    def learn(self, shape: Shape, now_s: float = 0.0) -> None:
        """Expect more of it, and plan when it is time to, all at once."""
        self.expect(shape)
        if self.is_due:
            self.adopt(self.look(now_s).plan())

    def expect(self, shape: Shape) -> None:
        """Learn that such a piece of work came."""
        self.learner.saw(shape)
        self._came += 1

    def place(self, shape: Shape) -> Spot | None:
        """Where a piece of work goes; it is put there. None: it fits nowhere."""
        found = self.peek(shape)
        if found is None:
            return None
        self.took(shape, found.spot)
        self.packer.take(shape, found.spot)
        return found.spot

    def peek(self, shape: Shape) -> Seen | None:
        """Where it would go, or None: it fits nowhere."""
        spot = self._kept(shape)
        if spot is not None:
            return Seen(spot, Why.KEPT)
        if self._plan is not None:
            spot = self._plan.packer.choose(shape)
            if spot is not None and self.packer.fits(shape, spot):
                return Seen(spot, Why.BESIDE)
        spot = self.packer.choose(shape)
        return Seen(spot, Why.BEST) if spot is not None else None

    def took(self, shape: Shape, spot: Spot) -> None:
        """It goes there: the place is kept for nobody any more. The caller sees to the board."""
        if self._plan is None:
            return
        slots = self._plan.slots.get(shape)
        for kept in slots or ():
            if kept.node == spot.node and (shape.devices != 1 or kept.devices == spot.devices):
                assert slots is not None
                slots.remove(kept)
                return
        if self._plan.packer.fits(shape, spot):
            self._plan.packer.take(shape, spot)

    def take(self, shape: Shape, spot: Spot) -> None:
        """Put a piece of work there, where it fits."""
        self.packer.take(shape, spot)

    def depart(self, shape: Shape, spot: Spot) -> None:
        """A piece of work is no longer there."""
        self.packer.give(shape, spot)
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
        begun = self.learner.demand_milli >= self._foresight.begin * self._capacity_milli
        return begun and self._came >= self._next

    def look(self, now_s: float = 0.0) -> Outlook:
        """Look ahead: a copy of the board, and what is expected by the mix that was learned.

        Where much leaves, places are not kept: what was empty when they were is not, and other places have come free.
        """
        foresight, learner = self._foresight, self.learner
        self._next = self._came + min(foresight.every, max(foresight.soonest, int(foresight.soon * self._came)))
        came, left = learner.arrivals - self._seen[0], learner.departures - self._seen[1]
        self._seen = learner.arrivals, learner.departures
        expected = self._expected() if left < foresight.fleeting * came else []
        packer = Packer(self.board.copy(), Mix(learner.typical(now_s), self.board.kinds), self.packer.settings)
        usual = [shape for shape, _ in learner.counts.most_common(WARM)]
        return Outlook(packer, expected, usual, self.board.version.copy())

    def adopt(self, plan: Plan) -> None:
        """Keep the places of a plan. Where the board has changed since it was looked at, they are wishes that hold nothing."""
        self.packer.take_over(plan.fresh)
        self._plan = Kept(plan.packer, plan.slots) if plan.slots else None
        self.rearranged(np.flatnonzero(plan.version != self.board.version).tolist())

    def _kept(self, shape: Shape) -> Spot | None:
        """The first place that was kept for it and still has room; those that have none are forgotten."""
        slots = self._plan.slots.get(shape) if self._plan is not None else None
        while slots:
            spot = slots[0]
            if shape.devices < 2 and self.packer.fits(shape, spot):
                return spot
            found = self.packer.on_node(shape, spot.node) if shape.devices > 1 else None
            if found is not None:
                return found[1]
            slots.popleft()
        return None

    def _expected(self) -> list[Shape]:
        """What is still to come, in the order in which it is packed; nothing while nothing came that needs a device."""
        learner, foresight = self.learner, self._foresight
        if not learner.demand_milli:
            return []
        standing = self._capacity_milli - int(self.board.share_ppm.sum()) // 1000
        until = max(foresight.full * self._capacity_milli, standing + foresight.beyond * self._capacity_milli)
        pieces = (until - standing) / (learner.demand_milli / learner.arrivals)
        expected: list[Shape] = []
        carried = self._draw.random()
        for shape, count in learner.counts.items():
            carried += pieces * count / learner.arrivals
            expected += [shape] * int(carried)
            carried -= int(carried)
        turns = self._turns(learner.counts)
        keyed = [(turns[shape] + self._draw.random(), number) for number, shape in enumerate(expected)]
        return [expected[number] for _, number in sorted(keyed)]

    def _turns(self, shapes: Iterable[Shape]) -> dict[Shape, float]:
        """The lower, the earlier it is packed: what can go to few devices first, then what is large."""
        parts = (np.bincount(self.board.kind, minlength=self.board.kinds) / max(1, self.board.devices)).tolist()
        return {shape: self._turn(shape, parts) for shape in shapes}

    def _turn(self, shape: Shape, parts: Sequence[float]) -> float:
        """``parts``: by kind, its part of all devices."""
        if not shape.devices:
            return 9
        allowed = sum(part for kind, part in enumerate(parts) if shape.allows(kind))
        if shape.devices > 1:
            turn = 1 - 0.01 * shape.devices
        elif shape.milli >= 1000:
            turn = 2.0
        else:
            large = shape.milli > self._foresight.small_milli
            turn = 3.0 + self._foresight.large_first * (1 - shape.milli / 1000) if large else 6.0
        return turn - 100 * (1 - allowed)
