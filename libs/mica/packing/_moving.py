"""Placing with foresight, and moving a little of what stands when something fits nowhere.

Invariant: at any time no more has been moved than the budget allows of what has been placed; without a budget this is
``Foresighted``. Whoever was placed and has not left stands somewhere.
"""

from typing import Generic

from msgspec import Struct

from mica.packing._board import Spot
from mica.packing._foresight import Foresighted
from mica.packing._mover import MOVES_MAX, Move, Mover
from mica.packing._residents import K
from mica.packing._shape import Shape


class Budget(Struct, frozen=True, kw_only=True):
    """How much may be moved, and for what.

    ``part``: moves, as a part of what has been placed. ``worth_milli``: a move must make room for at least so much,
    thousandths of a device. ``patience``: after a search in vain the same shape is tried again when so many have moved, or
    somebody has left.
    """

    part: float = 0.01
    worth_milli: int = 100
    patience: int = 8


class Moving(Generic[K]):
    """A packer that plans and moves."""

    def __init__(self, foresighted: Foresighted, budget: Budget) -> None:
        self.foresighted = foresighted
        self._budget = budget
        self.mover: Mover[K] = Mover(foresighted.packer)
        """Who stands where, and the search."""
        self._hopeless: dict[Shape, tuple[int, int]] = {}
        self.placed = self.moved = 0

    def arrive(self, key: K, shape: Shape, now_s: float = 0.0) -> tuple[Spot | None, tuple[Move[K], ...]]:
        """Learn of it, plan when it is time to, and place it; see ``place``."""
        self.foresighted.learn(shape, now_s)
        return self.place(key, shape, now_s)

    def place(self, key: K, shape: Shape, now_s: float = 0.0) -> tuple[Spot | None, tuple[Move[K], ...]]:
        """Where it goes, and what moves for it first; all of that is done. None: it fits nowhere, and nothing moves."""
        spot = self.foresighted.place(shape)
        moves: tuple[Move[K], ...] = ()
        if spot is None and shape.devices:
            spot, moves = self._make_room(shape)
        if spot is not None:
            self.mover.residents.add(key, shape, spot)
            self.foresighted.learner.stands(key, shape, now_s)
            self.placed += 1
        return spot, moves

    def depart(self, key: K, now_s: float = 0.0) -> None:
        """It is no longer there."""
        self.foresighted.learner.left(key, now_s)
        self.foresighted.depart(*self.mover.residents.remove(key))
        self._hopeless.clear()

    def _make_room(self, shape: Shape) -> tuple[Spot | None, tuple[Move[K], ...]]:
        left = int(self._budget.part * self.placed) - self.moved
        most = min(left, shape.demand_milli // self._budget.worth_milli, MOVES_MAX)
        tried, moved = self._hopeless.get(shape, (0, 0))
        if most <= tried and self.moved < moved + self._budget.patience:
            return None, ()
        room = self.mover.room_for(shape, most)
        if room is None:
            self._hopeless[shape] = most, self.moved
            return None, ()
        self.mover.carry_out(room.moves)
        self.foresighted.rearranged({spot.node for move in room.moves for spot in (move.origin, move.to)} | {room.spot.node})
        self.foresighted.take(shape, room.spot)
        self.foresighted.rearranged([room.spot.node])
        self.moved += len(room.moves)
        return room.spot, room.moves
