"""The last look before a ledger is written.

Invariant: no write of the planner breaks I1 to I4, or I8, on what it stands on, whoever decided.
"""

from mica.events import Device, LedgerEntry, Mode
from mica.planner.domain.affinity import too_near
from mica.planner.domain.claims import DeviceClaims
from mica.planner.domain.fleet import NodeState
from mica.planner.domain.hosting import overdrawn
from mica.planner.domain.misfits import Refusal
from mica.planner.domain.packing import PPM
from mica.planner.domain.partitions import occupied, overlaps


def inadmissible(node: NodeState, slice_id: str, before: dict[str, LedgerEntry], after: dict[str, LedgerEntry]) -> Refusal | None:
    """Why ``after`` can not stand beside what all others claim on the node; only what differs from ``before`` is looked at."""
    for device_id, entry in after.items():
        old = before.get(device_id)
        if old is not None and _same_size(old, entry):
            continue
        refusal = _look(node, node.claims(device_id), slice_id, entry) or too_near(node, slice_id, device_id, entry)
        if refusal is not None:
            return refusal
    return overdrawn(node, slice_id, before.values(), after.values())


def _same_size(one: LedgerEntry, other: LedgerEntry) -> bool:
    return (one.mode, one.vram_bytes, one.share_ppm, one.partition, one.window) == (
        other.mode, other.vram_bytes, other.share_ppm, other.partition, other.window
    )  # fmt: skip


def _look(node: NodeState, claims: DeviceClaims, slice_id: str, entry: LedgerEntry) -> Refusal | None:
    device = claims.device
    if device is None:
        return Refusal("device_id", "a device that is gone", "a device of the inventory")
    carved = claims.mode(slice_id)
    as_found = device.partitioned is (entry.mode is Mode.HARDWARE)
    if (carved is not None and carved is not entry.mode) or not (as_found or device.switchable):
        return Refusal("mode", entry.mode, str(carved or "another, since the device was partitioned anew"))
    if entry.mode is Mode.HARDWARE:
        return _look_slots(device, claims, entry, slice_id) or _look_group(node, claims, entry, slice_id)
    return (
        _look_sums(device, claims, slice_id, entry)
        or _look_windows(claims, slice_id, entry)
        or _look_group(node, claims, entry, slice_id)
    )


def _look_sums(device: Device, claims: DeviceClaims, slice_id: str, entry: LedgerEntry) -> Refusal | None:
    vram_bytes, share_ppm = claims.used(slice_id)
    free = device.vram_bytes - device.reserve_bytes - vram_bytes
    if entry.vram_bytes > free:
        return Refusal("vram_bytes", str(entry.vram_bytes), f"at most {max(0, free)} now")
    if share_ppm + entry.share_ppm > PPM:
        return Refusal("share_ppm", str(entry.share_ppm), f"at most {max(0, PPM - share_ppm)} now")
    return None


def _look_slots(device: Device, claims: DeviceClaims, entry: LedgerEntry, slice_id: str) -> Refusal | None:
    taken = [partition for claim in claims.others(slice_id) for partition in claim.partitions]
    wanted = entry.partition
    if wanted is None:
        return None
    if any(overlaps(wanted, each) for each in taken):
        return Refusal("vram_bytes", str(entry.vram_bytes), "slots that no other slice covers")
    geometry = claims.geometry(device)
    profile = geometry.by_id.get(wanted.profile_id)
    if profile is not None and not geometry.allows(occupied(taken)[0], profile):
        return Refusal("vram_bytes", str(entry.vram_bytes), "a profile of which one more is allowed beside the others")
    return None


def _look_group(node: NodeState, claims: DeviceClaims, entry: LedgerEntry, slice_id: str) -> Refusal | None:
    """Devices of one group that are in use share something, such as a memory mode."""
    shared = node.shared_beside(claims, slice_id)
    if not shared or claims.device is None:
        return None
    own = claims.geometry(claims.device).shared_of(entry.partition)
    if not own or shared == {own}:
        return None
    return Refusal("device_id", claims.device.id, f"one with {', '.join(sorted(shared))}, as others of its group have")


def _look_windows(claims: DeviceClaims, slice_id: str, entry: LedgerEntry) -> Refusal | None:
    window = entry.window
    if window is None:
        return None
    for claim in claims.others(slice_id):
        for taken in claim.windows:
            ahead = taken.offset_ns < window.offset_ns + window.length_ns
            if ahead and window.offset_ns < taken.offset_ns + taken.length_ns:
                return Refusal("share_ppm", str(entry.share_ppm), "a window that no other slice has")
    return None
