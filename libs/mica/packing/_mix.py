"""What is expected to come: shapes and how often each was seen.

Invariant: a mix is a snapshot; learning goes on beside it. Typical shapes are the most frequent ones that together are 95 % of
what was seen, as in FGD (Weng et al., USENIX ATC'23, section 4.1).
"""

import math
from collections.abc import Mapping

import numpy as np

from mica.packing._binding import lib
from mica.packing._board import _Bound
from mica.packing._errors import PackingError
from mica.packing._shape import Shape

TYPICAL = 0.95
SHAPES_MAX: int = lib.MICA_PACKING_SHAPES_MAX


def typical(counts: Mapping[Shape, float], part: float = TYPICAL) -> dict[Shape, float]:
    """The most frequent shapes that make up ``part`` of all, each with its part of those; ties by what they ask."""
    total, seen = sum(counts.values()), 0.0
    chosen: dict[Shape, float] = {}
    for shape, count in sorted(counts.items(), key=_by_count):
        if len(chosen) == SHAPES_MAX or seen >= part * total:
            break
        chosen[shape] = count
        seen += count
    return {shape: count / seen for shape, count in chosen.items()}


class Mix:
    """Shapes with their weights, as the kernel reads them. Shapes without devices weigh, and are not looked for room for."""

    def __init__(self, weights: Mapping[Shape, float], kinds: int, *, with_memory: bool = True) -> None:
        """Take ``weights`` of typical shapes, with the sum 1; without memory, as FGD counts. Raises PackingError: too many."""
        shapes = [shape for shape in weights if shape.devices]
        if len(shapes) > SHAPES_MAX:
            raise PackingError(f"a mix: got {len(shapes)} shapes, allowed: at most {SHAPES_MAX}")
        needs = [[shape.needs(kind) or (math.inf, math.inf) for shape in shapes] for kind in range(kinds)]
        self.weights = dict(weights)
        self._bound = _Bound(
            "struct mica_packing_mix *",
            {"shapes": len(shapes)},
            {
                "weight": _floats([weights[shape] * lib.MICA_PACKING_SCALE for shape in shapes]),
                "cpu_milli": _floats([shape.cpu_milli for shape in shapes]),
                "memory_mib": _floats([shape.memory_mib if with_memory else 0 for shape in shapes]),
                "devices": _floats([shape.devices for shape in shapes]),
                "vram_mib": _floats([vram_mib for kind in needs for vram_mib, _ in kind]),
                "share_ppm": _floats([share_ppm for kind in needs for _, share_ppm in kind]),
            },
        )

    @property
    def pointer(self) -> object:
        """For the kernel."""
        return self._bound.pointer


def _floats(values: "list[float] | list[int]") -> "tuple[str, np.typing.NDArray[np.float32]]":
    return "float[]", np.array(values, dtype=np.float32)


def _by_count(item: tuple[Shape, float]) -> tuple[float, ...]:
    shape, count = item
    kinds = sorted(shape.kinds) if shape.kinds is not None else [-1]
    amounts = [amount for each in shape.by_kind for amount in each or (-1, -1)]
    return (-count, -shape.cpu_milli, -shape.milli, -shape.devices, -shape.vram_mib, -shape.memory_mib, *kinds, *amounts)
