"""The last look before a ledger is written.

Invariant: no write of the planner breaks I1 to I4 on what it stands on, whoever decided.
"""

from mica.events import Device, LedgerEntry, Mode
from mica.planner.domain.claims import DeviceClaims
from mica.planner.domain.fleet import NodeState
from mica.planner.domain.misfits import Refusal
from mica.planner.domain.packing import PPM
from mica.planner.domain.partitions import overlaps


def inadmissible(node: NodeState, slice_id: str, before: dict[str, LedgerEntry], after: dict[str, LedgerEntry]) -> Refusal | None:
    """Why ``after`` can not stand beside what all others claim on the node; only what differs from ``before`` is looked at."""
    for device_id, entry in after.items():
        old = before.get(device_id)
        if old is not None and _same_size(old, entry):
            continue
        refusal = _look(node.claims(device_id), slice_id, entry)
        if refusal is not None:
            return refusal
    return None


def _same_size(one: LedgerEntry, other: LedgerEntry) -> bool:
    return (one.mode, one.vram_bytes, one.share_ppm, one.partition, one.window) == (
        other.mode, other.vram_bytes, other.share_ppm, other.partition, other.window
    )  # fmt: skip


def _look(claims: DeviceClaims, slice_id: str, entry: LedgerEntry) -> Refusal | None:
    device = claims.device
    if device is None:
        return Refusal("device_id", "a device that is gone", "a device of the inventory")
    carved = claims.mode(slice_id)
    if (carved is not None and carved is not entry.mode) or device.partitioned is not (entry.mode is Mode.HARDWARE):
        return Refusal("mode", entry.mode, str(carved or "another, since the device was partitioned anew"))
    if entry.mode is Mode.HARDWARE:
        return _look_slots(claims, slice_id, entry)
    return _look_sums(device, claims, slice_id, entry) or _look_windows(claims, slice_id, entry)


def _look_sums(device: Device, claims: DeviceClaims, slice_id: str, entry: LedgerEntry) -> Refusal | None:
    vram_bytes, share_ppm = claims.used(slice_id)
    free = device.vram_bytes - device.reserve_bytes - vram_bytes
    if entry.vram_bytes > free:
        return Refusal("vram_bytes", str(entry.vram_bytes), f"at most {max(0, free)} now")
    if share_ppm + entry.share_ppm > PPM:
        return Refusal("share_ppm", str(entry.share_ppm), f"at most {max(0, PPM - share_ppm)} now")
    return None


def _look_slots(claims: DeviceClaims, slice_id: str, entry: LedgerEntry) -> Refusal | None:
    for claim in claims.others(slice_id):
        for taken in claim.partitions:
            if entry.partition is not None and overlaps(entry.partition, taken):
                return Refusal("vram_bytes", str(entry.vram_bytes), "slots that no other slice covers")
    return None


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
