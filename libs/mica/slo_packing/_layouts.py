"""The ways to divide a device.

Invariant: instances of a layout share no memory slot, and together have no more compute slices than the device.
"""

from collections.abc import Iterator

from msgspec import Struct

from mica.hardware import HardwareProfile, Model
from mica.slo_packing._problem import SloPackingError


class Slot(Struct, frozen=True, order=True):
    """Room for an instance of ``size`` compute slices, at memory slot ``start``."""

    size: int
    start: int


Layout = tuple[Slot, ...]


def layouts_of(model: Model) -> tuple[Layout, ...]:
    """Every layout to which no instance can be added, one for each count of sizes.

    Of several profiles with as many compute slices the plain one with the least memory counts.

    Raises:
        SloPackingError: the model has no partitions that are made one by one.
    """
    plain: dict[int, HardwareProfile] = {}
    for each in model.profiles:
        if "+" not in each.name and "-" not in each.name and not each.layout:
            before = plain.get(each.compute_slices)
            if before is None or each.memory_bytes < before.memory_bytes:
                plain[each.compute_slices] = each
    if not plain:
        raise SloPackingError(f"device: got {model.key}, allowed: a model with partitions that are made one by one")
    found: dict[tuple[int, ...], Layout] = {}
    for layout in _extend((), 0, model, tuple(plain.values())):
        found.setdefault(tuple(sorted(slot.size for slot in layout)), layout)
    return tuple(layout for sizes, layout in sorted(found.items()) if not _inside_another(sizes, found))


def _extend(layout: Layout, mask: int, model: Model, profiles: tuple[HardwareProfile, ...]) -> Iterator[Layout]:
    """The layout and every one that starts with it; slots in ascending order, so that each comes once."""
    yield layout
    used = sum(slot.size for slot in layout)
    for profile in profiles:
        count = sum(slot.size == profile.compute_slices for slot in layout)
        if used + profile.compute_slices > model.compute_slices or count >= profile.max_instances:
            continue
        for start in profile.starts:
            own = ((1 << profile.size) - 1) << start
            if not mask & own and (not layout or start > layout[-1].start):
                yield from _extend((*layout, Slot(profile.compute_slices, start)), mask | own, model, profiles)


def _inside_another(sizes: tuple[int, ...], others: dict[tuple[int, ...], Layout]) -> bool:
    return any(other != sizes and all(other.count(size) >= sizes.count(size) for size in sizes) for other in others)
