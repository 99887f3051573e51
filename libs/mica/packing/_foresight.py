"""Placing with foresight: keep places for what is expected, and let it take them.

Every few hundred arrivals the work that is still expected, by the mix that was learned so far, is packed onto a copy of the
board, large and constrained pieces first. Whatever then arrives takes a place that was kept for its shape; else the best one by
the measure that takes none of the places kept for others; else the best one there is. Short-sighted scores can not see that a
piece which fits anywhere should leave the few places that another one needs.

Invariant: nothing that fits somewhere is refused: places are kept by preference, never by force. Looking changes nothing; what
was looked at and then taken is said by ``took``. Deterministic for a seed.
"""

import random
from collections import deque
from collections.abc import Iterable
from enum import StrEnum

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

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


class Why(StrEnum):
    """What speaks for a place."""

    KEPT = "kept"
    """It was kept for such work."""
    BESIDE = "beside"
    """It takes none of the places that are kept for other work."""
    BEST = "best"
    """It costs the least of what is left, for the work that is expected."""


class Look(Struct, frozen=True):
    """A place, and what speaks for it."""

    spot: Spot
    why: Why


class Draft(Struct, frozen=True):
    """A look ahead that is being worked out, on boards of its own: ``fill`` may run beside everything else."""

    mix: Mix
    expected: list[Shape]
    packer: Packer

    def fill(self) -> dict[Shape, deque[Spot]]:
        """Where what is expected would go."""
        slots: dict[Shape, deque[Spot]] = {}
        for shape, spot in zip(self.expected, self.packer.fill(self.expected), strict=True):
            if spot is not None:
                slots.setdefault(shape, deque()).append(spot)
        return slots


class Foresighted:
    """A packer that plans. Boards that see parts of one stream of work share a ``learner``."""

    def __init__(
        self, board: Board, settings: Settings, foresight: Foresight, seed: int = 0, learner: Learner | None = None
    ) -> None:
        self.board = board
        self._learner = learner if learner is not None else Learner()
        self.packer = Packer(board, self._mix(), settings)
        self._foresight = foresight
        self._draw = random.Random(seed)  # noqa: S311 - ties among what is planned, not a secret
        self._slots: dict[Shape, deque[Spot]] = {}
        self._planned: Packer | None = None
        self._capacity_milli = 1000 * board.devices
        self._came = 0
        self._next = 0

    def arrive(self, shape: Shape) -> Spot | None:
        """Where the next piece of work goes; it is put there. None: it fits nowhere."""
        self.saw(shape)
        if self.due:
            self.plan()
        found = self.look(shape)
        if found is None:
            return None
        self.took(shape, found.spot)
        self.packer.take(shape, found.spot)
        return found.spot

    def saw(self, shape: Shape) -> None:
        """A piece of work came, wherever it goes."""
        self._learner.saw(shape)
        self._came += 1

    @property
    def due(self) -> bool:
        """Whether it is time to look ahead again."""
        begun = self._learner.demand_milli >= self._foresight.begin * self._capacity_milli
        return begun and self._came >= self._next

    def look(self, shape: Shape) -> Look | None:
        """Where it would go, or None: it fits nowhere."""
        spot = self._kept(shape)
        if spot is not None:
            return Look(spot, Why.KEPT)
        if self._planned is not None:
            spot = self._planned.choose(shape)
            if spot is not None and self.packer.fits(shape, spot):
                return Look(spot, Why.BESIDE)
        spot = self.packer.choose(shape)
        return Look(spot, Why.BEST) if spot is not None else None

    def took(self, shape: Shape, spot: Spot) -> None:
        """It went there: the place is kept for nobody any more."""
        slots = self._slots.get(shape)
        for kept in slots or ():
            if kept.node == spot.node and (shape.devices != 1 or kept.devices == spot.devices):
                assert slots is not None
                slots.remove(kept)
                return
        if self._planned is not None and self._planned.fits(shape, spot):
            self._planned.take(shape, spot)

    def came(self, shape: Shape, spot: Spot) -> None:
        """A piece of work came, and went there; the caller sees to the board."""
        self.saw(shape)
        self.took(shape, spot)

    def plan(self) -> None:
        """Look ahead: learn the mix, and keep places for what is expected."""
        draft = self.draft()
        self.adopt(draft, draft.fill())

    def draft(self) -> Draft:
        """Begin to look ahead."""
        self._next = self._came + self._foresight.every
        mix = self._mix()
        return Draft(mix, self._expected(), Packer(self.board.copy(), mix, self.packer.settings))

    def adopt(self, draft: Draft, slots: dict[Shape, deque[Spot]]) -> None:
        """Keep the places that were found."""
        self.packer.look_ahead_to(draft.mix)
        self._slots, self._planned = slots, draft.packer

    def _mix(self) -> Mix:
        return Mix(typical(self._learner.counts), self.board.kinds)

    def _kept(self, shape: Shape) -> Spot | None:
        """The first place that was kept for it and still has room; those that have none are forgotten."""
        slots = self._slots.get(shape)
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
        learner, foresight = self._learner, self._foresight
        if not learner.demand_milli:
            return []
        stands = self._capacity_milli - int(self.board.share_ppm.sum()) // 1000
        until = max(foresight.full * self._capacity_milli, stands + foresight.beyond * self._capacity_milli)
        pieces = (until - stands) / (learner.demand_milli / learner.arrivals)
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
        devices = np.bincount(self.board.kind, minlength=self.board.kinds) / max(1, self.board.devices)
        return {shape: self._turn(shape, devices) for shape in shapes}

    def _turn(self, shape: Shape, devices: NDArray[np.float64]) -> float:
        if not shape.devices:
            return 9
        allowed: float = sum(part for kind, part in enumerate(devices.tolist()) if shape.allows(kind))
        if shape.devices > 1:
            turn = 1 - 0.01 * shape.devices
        elif shape.milli >= 1000:
            turn = 2.0
        else:
            turn = 3.0 if shape.milli > self._foresight.small_milli else 6.0
        return turn - 100 * (1 - allowed)
