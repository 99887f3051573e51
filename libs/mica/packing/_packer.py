"""One placement after the other, by one rule.

Invariant: ``choose`` changes nothing on the board; equal boards, mixes and shapes give equal spots.
"""

from enum import IntEnum

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from mica.packing._binding import ffi, lib
from mica.packing._board import NODE_DEVICES_MAX, Board, Spot, _Bound
from mica.packing._mix import Mix
from mica.packing._shape import Shape


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
        needs = [(shape.vram_mib if shape.allows(kind) else -1) for kind in range(board.kinds)]
        self._shape = _Bound(
            "struct mica_packing_shape *",
            {"cpu_milli": shape.cpu_milli, "memory_mib": shape.memory_mib, "devices": shape.devices},
            {
                "vram_mib": ("int32_t[]", np.array(needs, dtype=np.int32)),
                "share_ppm": ("int32_t[]", np.full(board.kinds, shape.share_ppm, dtype=np.int32)),
            },
        )
        self.version: NDArray[np.uint32] = np.zeros(nodes, dtype=np.uint32)
        self.score: NDArray[np.int32] = np.empty(nodes, dtype=np.int32)
        self._cache = _Bound(
            "struct mica_packing_cache *",
            {},
            {
                "version": ("uint32_t[]", self.version), "score": ("int32_t[]", self.score),
                "device": ("int16_t[]", np.empty(nodes, dtype=np.int16)),
            },
        )  # fmt: skip

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
        self._mix = mix
        self._settings = settings
        self._policy = ffi.new(
            "struct mica_packing_policy *",
            {
                "rule": int(settings.rule), "grain_milli": settings.grain_milli, "cpu_per_milli": settings.cpu_per_milli,
                "node_cpu_milli": settings.node_cpu_milli, "node_devices": settings.node_devices,
            },
        )  # fmt: skip
        self._known: dict[Shape, Known] = {}
        self._devices = ffi.new("int16_t[]", NODE_DEVICES_MAX)

    @property
    def rules(self) -> tuple[object, object]:
        """The mix and the policy as the kernel reads them; for the modules of this library."""
        return self._mix.pointer, self._policy

    def look_ahead_to(self, mix: Mix) -> None:
        """Expect another mix from now on."""
        self._mix = mix
        for known in self._known.values():
            known.version[:] = 0

    def on(self, board: Board) -> "Packer":
        """The same on another board."""
        return Packer(board, self._mix, self._settings)

    def choose(self, shape: Shape) -> Spot | None:
        """Where the shape goes best, or None: nowhere."""
        known = self.known(shape)
        node = lib.mica_packing_choose(
            self.board.struct.pointer, self._mix.pointer, self._policy, known.shape, known.cache, self._devices
        )
        if node == lib.MICA_PACKING_NOWHERE:
            return None
        return Spot(node, tuple(self._devices[0 : shape.devices]))

    def on_node(self, shape: Shape, node: int) -> tuple[int, Spot] | None:
        """How good it would be on that node, and on which of its devices; None: it does not fit there."""
        score = lib.mica_packing_score(
            self.board.struct.pointer, self._mix.pointer, self._policy, self.known(shape).shape, node, self._devices
        )
        return None if score == -(1 << 31) else (score, Spot(node, tuple(self._devices[0 : shape.devices])))

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
        rule = int(self._settings.rule)
        return float(lib.mica_packing_value(self.board.struct.pointer, self._mix.pointer, rule, node)) / lib.MICA_PACKING_SCALE

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
            self.board.struct.pointer, self._mix.pointer, self._policy, structs, caches, ffi.from_buffer("int32_t[]", which),
            count, ffi.from_buffer("int32_t[]", node), ffi.from_buffer("int16_t[]", device),
        )  # fmt: skip
        return [
            Spot(at, (each,) if shape.devices else ()) if at >= 0 else None
            for shape, at, each in zip(shapes, node.tolist(), device.tolist(), strict=True)
        ]

    def known(self, shape: Shape) -> Known:
        """The shape as the kernel reads it, with what is remembered of each node; for the modules of this library."""
        known = self._known.get(shape)
        if known is None:
            known = self._known[shape] = Known(shape, self.board)
        return known
