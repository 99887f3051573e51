"""Which part of a device each of its slices has to itself, and by which mechanism of the driver's.

Invariants: pure; no two parts overlap, none is smaller than the slice's share, and a slice keeps its part while it fits.

MPS runs the work of several processes side by side, and lets a fatal fault of one end all of them: so only slices of one tenant
share a device by it, unless the policy says otherwise. Green contexts give whole groups of multiprocessors, but without MPS the
driver runs one process at a time all the same, and what the others' groups could do is wasted: so only where MPS is active.
Sub-devices of OpenCL need nothing of that: each is made by its process, of compute units that no other process is given. But they
are whole units, nobody else has those while they are idle, and some drivers' can't do all that the device can: so only where that
costs nobody anything, unless the policy says otherwise.
A slice without a part shares the device by time, in turns.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from mica.enforcer.places import Place
from mica.enforcer.placing import NO_PART, Part, Row, placed
from mica.enforcer.policy import Rules
from mica.events import PPM, Device, LedgerEntry, Mode, Runtime, SpatialChoice, Tier
from mica.region import Spatial

PERCENT_PPM: Final = PPM // 100


def least_group(capability: tuple[int, int] | None) -> int:
    """How many multiprocessors the smallest green context has; 0 where there are none.

    Source: CUDA driver API, cuDevSmResourceSplitByCount: at least 2 on compute capability 7, 4 on 8, 8 from 9 on.
    """
    if capability is None or capability < (7, 0):
        return 0
    return {7: 2, 8: 4}.get(capability[0], 8)


def divisible(device: Device) -> bool:
    """Whether any slice could have a part of the device."""
    return bool(device.mps_pipe) or _has_subdevices(device)


def parts(
    device: Device,
    rules: Rules,
    entries: Mapping[str, LedgerEntry],
    held: Mapping[str, Part],
    running: AbstractSet[str] = frozenset(),
) -> dict[str, Part]:
    """By slice, its part of the device; a slice that is not in it has none.

    Args:
        entries: all that the ledger wants on the device, by slice.
        held: the parts in force, which stay where they are if they can; those of slices that are on their way out, too.
        running: the slices that have processes on the device.
    """
    kind = _mechanism(device, rules)
    if kind is Spatial.SUBDEVICE:
        free = device.subdevices_whole and all(entry.tier is Tier.GUARANTEED for entry in entries.values())
        may = free or rules.spatial is SpatialChoice.SUBDEVICE
        return _subdevices(Row(kind, device.multiprocessors), entries, held, running) if may else {}
    if kind is Spatial.NONE or not (rules.mps_across_tenants or len({entry.tenant for entry in entries.values()}) == 1):
        return {}
    sharing = {id_: entry.share_ppm for id_, entry in entries.items() if _is_shared(entry)}
    if kind is Spatial.MPS:
        return {id_: Part(kind, _round_up(share, PERCENT_PPM)) for id_, share in sharing.items()}
    row = Row(kind, _groups(device))
    return dict(placed(row, {id_: -(-share * row.units // PPM) for id_, share in sharing.items()}, held))


def whole(found: Mapping[Place, Part], wanted: Mapping[str, Mapping[str, LedgerEntry]]) -> dict[Place, Part]:
    """The parts of slices that have one on each of their devices: a process is a client of MPS everywhere or nowhere.

    A sub-device is a matter of one device: either all that is on that has one, or nothing.
    """
    lacking = {id_ for device_id, entries in wanted.items() for id_ in entries if Place(device_id, id_) not in found}
    return {place: part for place, part in found.items() if part.kind is Spatial.SUBDEVICE or place.slice_id not in lacking}


def _mechanism(device: Device, rules: Rules) -> Spatial:
    if rules.spatial is SpatialChoice.NONE:
        return Spatial.NONE
    if device.mps_pipe and rules.spatial is not SpatialChoice.SUBDEVICE:
        if rules.spatial is not SpatialChoice.GREEN:
            return Spatial.MPS
        return Spatial.GREEN if device.green_contexts and _groups(device) else Spatial.NONE
    asked = rules.spatial in {SpatialChoice.AUTO, SpatialChoice.SUBDEVICE}
    return Spatial.SUBDEVICE if asked and _has_subdevices(device) else Spatial.NONE


def _is_shared(entry: LedgerEntry) -> bool:
    """Whether the slice shares the device at every moment."""
    return entry.mode is Mode.FCSP and entry.window is None


def _groups(device: Device) -> int:
    """Into how many groups of the smallest size its multiprocessors can be split."""
    group = least_group(device.compute_capability)
    return device.multiprocessors // group if group else 0


def _has_subdevices(device: Device) -> bool:
    return device.multiprocessors > 1 and device.subdevices_max > 1


def _subdevices(
    row: Row, entries: Mapping[str, LedgerEntry], held: Mapping[str, Part], running: AbstractSet[str]
) -> dict[str, Part]:
    """Parts for all, or turns for all: who has no part is on every unit of the device, and in everybody's.

    For the same reason nobody's programs may be outside of the part that their slice is to have: they stay where they started.
    """
    if not all(_is_shared(entry) and entry.runtime is Runtime.OPENCL for entry in entries.values()):
        return {}
    wanted = {id_: _units(entry.share_ppm, row.units) for id_, entry in entries.items()}
    if not all(wanted.values()):
        return {}
    leaving = [row.covers(part) for id_, part in held.items() if id_ not in entries and part.kind is Spatial.SUBDEVICE]
    found = dict(placed(row, wanted, held, leaving))
    return (
        found if len(found) == len(wanted) and all(_is_inside(held.get(id_, NO_PART), found.get(id_)) for id_ in running) else {}
    )


def _is_inside(now: Part, then: Part | None) -> bool:
    """Whether programs that run are in a part, and in the one that their slice has from now on, if it has one."""
    return now.kind is Spatial.SUBDEVICE and then in {None, now}


def _units(share_ppm: int, units: int) -> int:
    """How many of a device's units are the share, to the ppm; 0: it is no whole number of them."""
    count = round(share_ppm * units / PPM)
    return count if abs(count * PPM - share_ppm * units) < units else 0


def _round_up(value: int, step: int) -> int:
    return min(PPM, -(-value // step) * step)
