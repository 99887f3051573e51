"""One placement after the other, by one rule.

Invariant: ``choose`` changes nothing on the board; equal boards, mixes and shapes give equal spots.
"""

from enum import IntEnum
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from mica.packing._binding import ffi, lib
from mica.packing._board import NODE_DEVICES_MAX, Board, Spot, _Bound
from mica.packing._mix import Mix
from mica.packing._shape import Shape

NOWHERE: Final = -(1 << 31)
"""The score of a node on which something does not fit."""
SHAPES_KNOWN: Final = 256
"""Of so many shapes what is known of every node is kept; of those that were not looked at for longest it is forgotten."""


class Rule(IntEnum):
    """How nodes are told apart: by what they are good for afterwards, or as two peers do."""

    VALUE = lib.MICA_PACKING_VALUE
    FGD = lib.MICA_PACKING_FGD
    BEST_FIT = lib.MICA_PACKING_BEST_FIT


class Settings(Struct, frozen=True, kw_only=True):
    """``grain_milli``: choices that are as good as one another to so many thousandths of a device are ties.

    ``cpu_per_milli``: how much CPU (milli) goes with a free thousandth of a device, for work that needs no device.
    ``node_cpu_milli``, ``node_devices``: the largest node, of which best fit counts its parts.
    """

    rule: Rule = Rule.VALUE
    grain_milli: int = 120
    cpu_per_milli: int = 12
    node_cpu_milli: int = 128_000
    node_devices: int = 8


class Known:
    """A shape as the kernel reads it, and what is known of every node about it."""

    def __init__(self, shape: Shape, board: Board) -> None:
        nodes = board.nodes
        needs = [shape.needs(kind) or (-1, 0) for kind in range(board.kinds)]
        self._shape = _Bound(
            "struct mica_packing_shape *",
            {"cpu_milli": shape.cpu_milli, "memory_mib": shape.memory_mib, "devices": shape.devices},
            {
                "vram_mib": ("int32_t[]", np.array([vram_mib for vram_mib, _ in needs], dtype=np.int32)),
                "share_ppm": ("int32_t[]", np.array([share_ppm for _, share_ppm in needs], dtype=np.int32)),
            },
        )
        self.version: NDArray[np.uint32] = np.zeros(nodes, dtype=np.uint32)
        self.score: NDArray[np.int32] = np.empty(nodes, dtype=np.int32)
        self.device: NDArray[np.int16] = np.empty(nodes, dtype=np.int16)
        self._cache = _Bound(
            "struct mica_packing_cache *",
            {},
            {
                "version": ("uint32_t[]", self.version), "score": ("int32_t[]", self.score),
                "device": ("int16_t[]", self.device),
            },
        )  # fmt: skip

    def take_over(self, other: "Known") -> None:
        """Know what another one does, of the same shape."""
        self.version[:], self.score[:], self.device[:] = other.version, other.score, other.device

    @property
    def shape(self) -> "object":
        """For the kernel."""
        return self._shape.pointer

    @property
    def cache(self) -> "object":
        """For the kernel."""
        return self._cache.pointer


class Packer:
    """A board, a rule and the mix that it looks ahead to."""

    def __init__(self, board: Board, mix: Mix, settings: Settings) -> None:
        self.board = board
        self.mix = mix
        self.settings = settings
        self._policy = ffi.new(
            "struct mica_packing_policy *",
            {
                "rule": int(settings.rule), "grain_milli": settings.grain_milli, "cpu_per_milli": settings.cpu_per_milli,
                "node_cpu_milli": settings.node_cpu_milli, "node_devices": settings.node_devices,
            },
        )  # fmt: skip
        self._known: dict[Shape, Known] = {}
        self.forgotten = 0
        """How often something that was known was given up."""
        self._devices = ffi.new("int16_t[]", NODE_DEVICES_MAX)

    @property
    def rules(self) -> tuple[object, object]:
        """The mix and the policy as the kernel reads them; for the modules of this library."""
        return self.mix.pointer, self._policy

    def shapes(self) -> list[Shape]:
        """Those that were looked at."""
        return list(self._known)

    def look_ahead_to(self, mix: Mix) -> None:
        """Expect another mix from now on."""
        self.mix = mix
        for known in self._known.values():
            known.version[:] = 0

    def take_over(self, other: "Packer") -> None:
        """Expect the same mix as another packer, and know what it does of every node that is as it was there."""
        self.look_ahead_to(other.mix)
        for shape in other.shapes():
            self.known(shape).take_over(other.known(shape))

    def on(self, board: Board) -> "Packer":
        """The same on another board."""
        return Packer(board, self.mix, self.settings)

    def choose(self, shape: Shape) -> Spot | None:
        """Where the shape goes best, or None: nowhere."""
        known = self.known(shape)
        node = lib.mica_packing_choose(
            self.board.struct.pointer, self.mix.pointer, self._policy, known.shape, known.cache, self._devices
        )
        if node == lib.MICA_PACKING_NOWHERE:
            return None
        return Spot(node, tuple(self._devices[0 : shape.devices]))

    def room(self, shape: Shape) -> "tuple[NDArray[np.bool_], NDArray[np.bool_]] | None":
        """By device, whether one member of the shape has room there, and by node, whether all of them have; None: on no node.

        On a node they may be of several kinds, which ``choose`` does not look at.
        """
        room, able = np.empty(self.board.devices, dtype=np.bool_), np.empty(self.board.nodes, dtype=np.bool_)
        found = lib.mica_packing_room(
            self.board.struct.pointer, self.known(shape).shape, ffi.from_buffer("bool[]", room), ffi.from_buffer("bool[]", able)
        )
        return (room, able) if found else None

    def scores(self, shape: Shape) -> NDArray[np.int32]:
        """By node, how good it is for the shape; ``NOWHERE`` where it does not fit. Valid until the board changes."""
        self.choose(shape)
        return self.known(shape).score

    def gain(self, shape: Shape, spot: Spot) -> float:
        """V with the shape on exactly that spot, where it fits, less V now, in thousandths of a device.

        Below 0: so much of what is free becomes useless to the work that is expected.
        """
        self._devices[0 : len(spot.devices)] = spot.devices
        found = lib.mica_packing_gain(
            self.board.struct.pointer, self.mix.pointer, self._policy, self.known(shape).shape, spot.node, self._devices
        )
        return float(found) / lib.MICA_PACKING_SCALE

    def on_node(self, shape: Shape, node: int) -> tuple[int, Spot] | None:
        """How good it would be on that node, and on which of its devices; None: it does not fit there."""
        score = lib.mica_packing_score(
            self.board.struct.pointer, self.mix.pointer, self._policy, self.known(shape).shape, node, self._devices
        )
        return None if score == NOWHERE else (score, Spot(node, tuple(self._devices[0 : shape.devices])))

    def fits(self, shape: Shape, spot: Spot) -> bool:
        """Whether there is room for it on exactly those devices."""
        self._devices[0 : len(spot.devices)] = spot.devices
        return bool(lib.mica_packing_fits(self.board.struct.pointer, self.known(shape).shape, spot.node, self._devices))

    def take(self, shape: Shape, spot: Spot) -> None:
        """Put it there."""
        self._devices[0 : len(spot.devices)] = spot.devices
        lib.mica_packing_take(self.board.struct.pointer, self.known(shape).shape, spot.node, self._devices)

    def give(self, shape: Shape, spot: Spot) -> None:
        """Take it away from there."""
        self._devices[0 : len(spot.devices)] = spot.devices
        lib.mica_packing_give(self.board.struct.pointer, self.known(shape).shape, spot.node, self._devices)

    def value(self, node: int) -> float:
        """V of a node, in thousandths of a device; see ``native/packing/packing.h``."""
        rule = int(self.settings.rule)
        return float(lib.mica_packing_value(self.board.struct.pointer, self.mix.pointer, rule, node)) / lib.MICA_PACKING_SCALE

    def fill(self, shapes: list[Shape]) -> list[Spot | None]:
        """Put all of them, one after the other; of a spot on several devices only the first one is told."""
        distinct = list(dict.fromkeys(shapes))
        number = {shape: index for index, shape in enumerate(distinct)}
        known = [self.known(shape) for shape in distinct]
        count = len(shapes)
        structs = ffi.new("struct mica_packing_shape[]", [each.shape[0] for each in known])  # type: ignore[index]
        caches = ffi.new("struct mica_packing_cache[]", [each.cache[0] for each in known])  # type: ignore[index]
        which = np.array([number[shape] for shape in shapes], dtype=np.int32)
        node, device = np.empty(count, dtype=np.int32), np.empty(count, dtype=np.int16)
        lib.mica_packing_fill(
            self.board.struct.pointer, self.mix.pointer, self._policy, structs, caches, ffi.from_buffer("int32_t[]", which),
            count, ffi.from_buffer("int32_t[]", node), ffi.from_buffer("int16_t[]", device),
        )  # fmt: skip
        return [
            Spot(at, (each,) if shape.devices else ()) if at >= 0 else None
            for shape, at, each in zip(shapes, node.tolist(), device.tolist(), strict=True)
        ]

    def known(self, shape: Shape) -> Known:
        """The shape as the kernel reads it, with what is remembered of each node; for the modules of this library."""
        known = self._known.pop(shape, None)
        if known is None:
            known = Known(shape, self.board)
            if len(self._known) >= SHAPES_KNOWN:
                del self._known[next(iter(self._known))]
                self.forgotten += 1
        self._known[shape] = known
        return known
