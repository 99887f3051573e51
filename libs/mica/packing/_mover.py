"""Moving what stands: to make room for what fits nowhere, and to leave more that is of use to what is expected.

Invariant: looking for moves changes nothing that can be seen; moves are a set (all of it leaves before any of it arrives), and
what is carried out loses nobody and oversells nothing. Equal boards, mixes and residents give equal moves.
"""

from collections.abc import Iterable, Mapping
from typing import Generic

from msgspec import Struct

from mica.packing._binding import ffi, lib
from mica.packing._board import Spot
from mica.packing._errors import PackingError
from mica.packing._packer import Known, Packer
from mica.packing._residents import K, Residents
from mica.packing._shape import Shape

MOVES_MAX: int = lib.MICA_PACKING_MOVES_MAX
STANDING_MAX: int = lib.MICA_PACKING_STANDING_MAX


class Move(Struct, Generic[K], frozen=True):
    """One resident's way. ``gain_milli``: of V of all nodes, thousandths of a device; of moves that are one set, the set's."""

    key: K
    origin: Spot
    to: Spot
    gain_milli: float


class Room(Struct, Generic[K], frozen=True):
    """Where a piece of work goes once these have moved."""

    spot: Spot
    moves: tuple[Move[K], ...]


class Mover(Generic[K]):
    """A packer's board with who stands on it."""

    def __init__(self, packer: Packer, standing: Mapping[K, tuple[Shape, Spot]] | None = None) -> None:
        """``standing``: who stands where already; the board has them."""
        self.packer = packer
        self.residents: Residents[K] = Residents(packer.board.nodes)
        for key, (shape, spot) in (standing or {}).items():
            self.residents.add(key, shape, spot)
        self._known = (0, 0)
        self._kept: list[Known] = []
        self._shapes = self._caches = ffi.NULL

    def room_for(self, shape: Shape, most: int) -> Room[K] | None:
        """The fewest moves, at most ``most``, that make room for what fits nowhere; None: there are none, or none were found."""
        number = self.residents.number(shape)
        found = ffi.new("struct mica_packing_rearrangement *")
        if most < 1 or not lib.mica_packing_make_room(self._fleet(), number, most, found):
            return None
        gain_milli = found.gain / lib.MICA_PACKING_SCALE
        moves = tuple(self._move(found.moves[i], gain_milli) for i in range(found.moves_count))
        return Room(_spot(found.node, found.devices), moves)

    def proposals(self, most: int, least_milli: float = 1.0) -> list[Move[K]]:
        """Moves of residents that gain at least so much each, the best first; each for itself and all in turn can be done."""
        chosen: list[Move[K]] = []
        touched: set[int] = set()
        for move in sorted(self._single(least_milli), key=lambda each: -each.gain_milli):
            if len(chosen) >= most:
                break
            if touched.isdisjoint(ends := {move.origin.node, move.to.node}):
                touched |= ends
                chosen.append(move)
        return chosen

    def carry_out(self, moves: Iterable[Move[K]]) -> None:
        """Have everyone who moves leave, then arrive. Raises PackingError: somebody is not where a move begins."""
        moves = tuple(moves)
        shapes = []
        for move in moves:
            shape, spot = self.residents[move.key]
            if spot != move.origin:
                raise PackingError(f"a move of {move.key}: got from {move.origin}, allowed: from {spot}, where it stands")
            shapes.append(shape)
        for shape, move in zip(shapes, moves, strict=True):
            self.residents.remove(move.key)
            self.packer.give(shape, move.origin)
        for shape, move in zip(shapes, moves, strict=True):
            self.packer.take(shape, move.to)
            self.residents.add(move.key, shape, move.to)

    def _single(self, least_milli: float) -> Iterable[Move[K]]:
        fleet, move = self._fleet(), ffi.new("struct mica_packing_move *")
        for key in self.residents:
            gain_milli = lib.mica_packing_best_move(fleet, self.residents.place(key), move) / lib.MICA_PACKING_SCALE
            if gain_milli >= least_milli:
                yield self._move(move, gain_milli)

    def _move(self, move: "object", gain_milli: float) -> Move[K]:
        key = self.residents.key(move.resident)  # type: ignore[attr-defined]
        _, origin = self.residents[key]
        return Move(key, origin, _spot(move.node, move.devices), gain_milli)  # type: ignore[attr-defined]

    def _fleet(self) -> object:
        shapes = self.residents.shapes
        if len(shapes) > STANDING_MAX:
            raise PackingError(f"residents: got {len(shapes)} different shapes, allowed: at most {STANDING_MAX}")
        if (len(shapes), self.packer.forgotten) != self._known:
            known = self._kept = [self.packer.known(shape) for shape in shapes]
            self._shapes = ffi.new("struct mica_packing_shape[]", [each.shape[0] for each in known])  # type: ignore[index]
            self._caches = ffi.new("struct mica_packing_cache[]", [each.cache[0] for each in known])  # type: ignore[index]
            self._known = len(shapes), self.packer.forgotten
        mix, policy = self.packer.rules
        return ffi.new(
            "struct mica_packing_fleet *",
            {
                "board": self.packer.board.struct.pointer, "mix": mix, "policy": policy, "shapes": self._shapes,
                "caches": self._caches, "residents": self.residents.struct.pointer,
            },
        )  # fmt: skip


def _spot(node: int, devices: int) -> Spot:
    return Spot(node, tuple(device for device in range(devices.bit_length()) if devices >> device & 1))
