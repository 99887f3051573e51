"""Which part of a device each of its slices has to itself, and by which mechanism of the driver's.

Invariants: pure; no two parts overlap, none is smaller than the slice's share, and a slice keeps its part while it fits.

MPS runs the work of several processes side by side, and lets a fatal fault of one end all of them: so only slices of one tenant
share a device by it, unless the policy says otherwise. Green contexts give whole groups of multiprocessors, but without MPS the
driver runs one process at a time all the same, and what the others' groups could do is wasted: so only where MPS is active.
A slice without a part shares the device by time, in turns.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct

from mica.enforcer.places import Place
from mica.enforcer.policy import Rules
from mica.events import PPM, Device, LedgerEntry, Mode, SpatialChoice
from mica.region import Limits, Spatial

PERCENT_PPM: Final = PPM // 100


class Part(Struct, frozen=True):
    """A part of a device: how it is given, how large it is, and where it begins."""

    kind: Spatial = Spatial.NONE
    ppm: int = 0
    offset_ppm: int = 0


NO_PART: Final = Part()


def part_in(limits: Limits | None) -> Part:
    """The part that a record gives."""
    return NO_PART if limits is None else Part(limits.spatial_kind, limits.spatial_ppm, limits.spatial_offset_ppm)


def least_group(capability: tuple[int, int] | None) -> int:
    """How many multiprocessors the smallest green context has; 0 where there are none.

    Source: CUDA driver API, cuDevSmResourceSplitByCount: at least 2 on compute capability 7, 4 on 8, 8 from 9 on.
    """
    if capability is None or capability < (7, 0):
        return 0
    return {7: 2, 8: 4}.get(capability[0], 8)


def parts(device: Device, rules: Rules, entries: Mapping[str, LedgerEntry], held: Mapping[str, Part]) -> dict[str, Part]:
    """By slice, its part of the device; a slice that is not in it has none.

    Args:
        entries: all that the ledger wants on the device, by slice.
        held: the parts in force, which stay where they are if they can.
    """
    kind = _mechanism(device, rules)
    if kind is Spatial.NONE or not (rules.mps_across_tenants or len({entry.tenant for entry in entries.values()}) == 1):
        return {}
    sharing = {id_: entry.share_ppm for id_, entry in entries.items() if entry.mode is Mode.FCSP and entry.window is None}
    if kind is Spatial.MPS:
        return {id_: Part(kind, _round_up(share, PERCENT_PPM)) for id_, share in sharing.items()}
    return dict(_green(device, sharing, held))


def whole(found: Mapping[Place, Part], wanted: Mapping[str, Mapping[str, LedgerEntry]]) -> dict[Place, Part]:
    """The parts of slices that have one on each of their devices: a process is a client of MPS everywhere or nowhere."""
    lacking = {id_ for device_id, entries in wanted.items() for id_ in entries if Place(device_id, id_) not in found}
    return {place: part for place, part in found.items() if place.slice_id not in lacking}


def _mechanism(device: Device, rules: Rules) -> Spatial:
    if not device.mps_pipe or rules.spatial is SpatialChoice.NONE:
        return Spatial.NONE
    if rules.spatial is not SpatialChoice.GREEN:
        return Spatial.MPS
    return Spatial.GREEN if device.green_contexts and _groups(device) else Spatial.NONE


def _groups(device: Device) -> int:
    """Into how many groups of the smallest size its multiprocessors can be split."""
    group = least_group(device.compute_capability)
    return device.multiprocessors // group if group else 0


def _green(device: Device, sharing: Mapping[str, int], held: Mapping[str, Part]) -> Iterator[tuple[str, Part]]:
    """First fit over the groups: those that stay first, then the others by name. What finds no room has no part."""
    groups = _groups(device)
    taken: list[range] = []
    wanted = {id_: -(-share * groups // PPM) for id_, share in sharing.items()}
    for id_ in sorted(wanted, key=lambda each: (not _stays(held.get(each), wanted[each], groups), each)):
        count = wanted[id_]
        old = held.get(id_)
        first = _first_of(old, groups) if old is not None and _stays(old, count, groups) else None
        place = range(first, first + count) if first is not None else _room(count, groups, taken)
        if place is not None and not _overlaps(place, taken):
            taken.append(place)
            yield id_, _part(place.start, count, groups)


def _stays(part: Part | None, count: int, groups: int) -> bool:
    """Whether a part in force lies on this device's groups, and has the size that is wanted."""
    return part is not None and part == _part(_first_of(part, groups), count, groups)


def _part(first: int, count: int, groups: int) -> Part:
    return Part(Spatial.GREEN, _edge(first + count, groups) - _edge(first, groups), _edge(first, groups))


def _first_of(part: Part, groups: int) -> int:
    return round(part.offset_ppm * groups / PPM)


def _edge(group: int, groups: int) -> int:
    """Where a group begins, in ppm of the device."""
    return group * PPM // groups


def _room(count: int, groups: int, taken: list[range]) -> range | None:
    places = (range(first, first + count) for first in range(groups - count + 1))
    return next((place for place in places if not _overlaps(place, taken)), None)


def _overlaps(place: range, taken: list[range]) -> bool:
    return any(place.start < other.stop and other.start < place.stop for other in taken)


def _round_up(value: int, step: int) -> int:
    return min(PPM, -(-value // step) * step)
