"""What is free in a fleet, as arrays that the kernel reads and changes.

Invariant: what was taken and given back leaves the board as it was; the version of a node grows with every change, and no cache
that was filled before is right about it any more.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from mica.packing._binding import ffi, lib
from mica.packing._errors import PackingError

Ints = NDArray[np.int32]
NODE_DEVICES_MAX: int = lib.MICA_PACKING_DEVICES_MAX
WHOLE_PPM = 1_000_000


class Node(Struct, frozen=True):
    """A node without anything on it: ``devices`` are the kind and the memory (MiB) of each."""

    cpu_milli: int
    memory_mib: int
    devices: tuple[tuple[int, int], ...] = ()


class Spot(Struct, frozen=True):
    """Where something is: a node, and its devices counted within the node."""

    node: int
    devices: tuple[int, ...] = ()


class Board:
    """A fleet. Nodes are numbered in the order given, which is also the one that decides ties."""

    def __init__(self, nodes: Sequence[Node], kinds: int) -> None:
        """Start with empty nodes. Raises PackingError: a node with too many devices, or of a kind that is not there."""
        devices = [device for node in nodes for device in node.devices]
        _check(nodes, devices, kinds)
        self.kinds = kinds
        self.first: Ints = np.cumsum([0, *(len(node.devices) for node in nodes)], dtype=np.int32)
        self.kind: NDArray[np.int16] = np.array([kind for kind, _ in devices], dtype=np.int16)
        self.vram_whole_mib: Ints = np.array([vram_mib for _, vram_mib in devices], dtype=np.int32)
        self.cpu_milli: Ints = np.array([node.cpu_milli for node in nodes], dtype=np.int32)
        self.memory_mib: Ints = np.array([node.memory_mib for node in nodes], dtype=np.int32)
        self.vram_mib: Ints = self.vram_whole_mib.copy()
        self.share_ppm: Ints = np.full(len(devices), WHOLE_PPM, dtype=np.int32)
        self.version: NDArray[np.uint32] = np.ones(len(nodes), dtype=np.uint32)
        self.struct = self._bind()

    def copy(self) -> "Board":
        """A board of its own with the same on it."""
        other = object.__new__(Board)
        other.kinds, other.first, other.kind, other.vram_whole_mib = self.kinds, self.first, self.kind, self.vram_whole_mib
        other.cpu_milli, other.memory_mib = self.cpu_milli.copy(), self.memory_mib.copy()
        other.vram_mib, other.share_ppm, other.version = self.vram_mib.copy(), self.share_ppm.copy(), self.version.copy()
        other.struct = other._bind()
        return other

    def follow(self, other: "Board", node: int) -> None:
        """Have on that node what the other board has there."""
        devices = slice(self.first[node], self.first[node + 1])
        self.cpu_milli[node], self.memory_mib[node] = other.cpu_milli[node], other.memory_mib[node]
        self.vram_mib[devices], self.share_ppm[devices] = other.vram_mib[devices], other.share_ppm[devices]
        self.version[node] += np.uint32(1)

    def bound_by(self, other: "Board", node: int) -> None:
        """Have no more free on that node than the other board has there."""
        devices = slice(self.first[node], self.first[node + 1])
        self.cpu_milli[node] = min(self.cpu_milli[node], other.cpu_milli[node])
        self.memory_mib[node] = min(self.memory_mib[node], other.memory_mib[node])
        np.minimum(self.vram_mib[devices], other.vram_mib[devices], out=self.vram_mib[devices])
        np.minimum(self.share_ppm[devices], other.share_ppm[devices], out=self.share_ppm[devices])
        self.version[node] += np.uint32(1)

    @property
    def nodes(self) -> int:
        """How many there are."""
        return len(self.cpu_milli)

    @property
    def devices(self) -> int:
        """How many there are, on all nodes."""
        return len(self.kind)

    def freest(self) -> tuple[list[int], list[int]]:
        """Of every kind the device with the most free memory, and the one with the most free compute: the first of equals.

        Numbers of devices on the board, -1 for a kind that none is of.
        """
        found = ffi.new("int32_t[]", 2 * self.kinds)
        lib.mica_packing_freest(self.struct.pointer, found, found + self.kinds)
        both = ffi.unpack(found, 2 * self.kinds)
        return both[: self.kinds], both[self.kinds :]

    def _bind(self) -> "_Bound":
        return _Bound(
            "struct mica_packing_board *",
            {"nodes": self.nodes, "kinds": self.kinds},
            {
                "first": ("int32_t[]", self.first), "cpu_milli": ("int32_t[]", self.cpu_milli),
                "memory_mib": ("int32_t[]", self.memory_mib), "version": ("uint32_t[]", self.version),
                "vram_mib": ("int32_t[]", self.vram_mib), "share_ppm": ("int32_t[]", self.share_ppm),
                "vram_whole_mib": ("int32_t[]", self.vram_whole_mib), "kind": ("int16_t[]", self.kind),
            },
        )  # fmt: skip


class _Bound:
    """A C struct whose arrays are numpy's: it keeps them alive."""

    def __init__(self, cdecl: str, values: dict[str, object], arrays: "dict[str, tuple[str, NDArray[np.generic]]]") -> None:
        self._kept = [ffi.from_buffer(ctype, array) for ctype, array in arrays.values()]
        self.pointer = ffi.new(cdecl, values | dict(zip(arrays, self._kept, strict=True)))


def _check(nodes: Sequence[Node], devices: Sequence[tuple[int, int]], kinds: int) -> None:
    for number, node in enumerate(nodes):
        if len(node.devices) > NODE_DEVICES_MAX:
            raise PackingError(f"node {number}: got {len(node.devices)} devices, allowed: at most {NODE_DEVICES_MAX}")
    for kind, vram_mib in devices:
        if not 0 <= kind < kinds or not 0 < vram_mib < 1 << 24:
            raise PackingError(
                f"a device: got kind {kind} with {vram_mib} MiB, allowed: kinds below {kinds}, 1 to {(1 << 24) - 1} MiB"
            )
