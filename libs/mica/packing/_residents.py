"""Who stands where, as the kernel's lists: one of each node, over arrays that grow.

Invariant: every resident is in the list of exactly one node; who came and left again leaves nothing behind.
"""

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from mica.packing._board import Spot, _Bound
from mica.packing._shape import Shape

K = TypeVar("K", bound=Hashable)
N = TypeVar("N", bound=np.generic)
_NOBODY = -1


class Residents(Generic[K]):
    """Residents of a board, by the names their caller gives them."""

    def __init__(self, nodes: int) -> None:
        self._head = np.full(nodes, _NOBODY, dtype=np.int32)
        self._of: dict[K, tuple[int, Shape, Spot]] = {}
        self._key: list[K | None] = []
        self._free: list[int] = []
        self._number: dict[Shape, int] = {}
        self._next = self._node = self._shape = np.empty(0, dtype=np.int32)
        self._devices: NDArray[np.uint64] = np.empty(0, dtype=np.uint64)
        self._grow(64)

    def __len__(self) -> int:
        return len(self._of)

    def __iter__(self) -> Iterator[K]:
        return iter(self._of)

    def __getitem__(self, key: K) -> tuple[Shape, Spot]:
        """What it is and where it stands."""
        _, shape, spot = self._of[key]
        return shape, spot

    @property
    def shapes(self) -> list[Shape]:
        """Every shape that there was, in the order of the kernel's numbers."""
        return list(self._number)

    def number(self, shape: Shape) -> int:
        """The kernel's number of a shape."""
        return self._number.setdefault(shape, len(self._number))

    def key(self, place: int) -> K:
        """The name of a resident that the kernel names by its place in the arrays."""
        key = self._key[place]
        assert key is not None
        return key

    def place(self, key: K) -> int:
        """Where in the arrays it is."""
        return self._of[key][0]

    def add(self, key: K, shape: Shape, spot: Spot) -> None:
        """It stands there from now on."""
        if not self._free:
            self._grow(2 * len(self._key))
        place = self._free.pop()
        self._of[key], self._key[place] = (place, shape, spot), key
        self._node[place], self._shape[place] = spot.node, self.number(shape)
        self._devices[place] = sum(1 << device for device in spot.devices)
        self._next[place], self._head[spot.node] = self._head[spot.node], place

    def remove(self, key: K) -> tuple[Shape, Spot]:
        """It stands nowhere from now on; where it stood."""
        place, shape, spot = self._of.pop(key)
        before, at = _NOBODY, int(self._head[spot.node])
        while at != place:
            before, at = at, int(self._next[at])
        if before == _NOBODY:
            self._head[spot.node] = self._next[place]
        else:
            self._next[before] = self._next[place]
        self._key[place] = None
        self._free.append(place)
        return shape, spot

    def _grow(self, size: int) -> None:
        before = len(self._key)
        self._next, self._node, self._shape = (_longer(each, size) for each in (self._next, self._node, self._shape))
        self._devices = _longer(self._devices, size)
        self._free += range(size - 1, before - 1, -1)
        self._key += [None] * (size - before)
        self.struct = _Bound(
            "struct mica_packing_residents *",
            {},
            {
                "head": ("int32_t[]", self._head), "next": ("int32_t[]", self._next), "node": ("int32_t[]", self._node),
                "shape": ("int32_t[]", self._shape), "devices": ("uint64_t[]", self._devices),
            },
        )  # fmt: skip


def _longer(array: NDArray[N], size: int) -> NDArray[N]:
    longer = np.zeros(size, dtype=array.dtype)
    longer[: len(array)] = array
    return longer
