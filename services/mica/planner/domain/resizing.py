"""A slice with another size on the devices where it is, and what becomes of that when its processes hold more.

Invariants: a resize does not move a slice unless it may, and a living partition is not resized; a resize that is given up leaves
the slice with no less than it had before.
"""

from msgspec import Struct
from msgspec.structs import replace

from mica.events import Mode, Observed, Placement, ResizeSlice, Resizing, SliceRecord
from mica.planner.domain.fleet import NodeState
from mica.planner.domain.ledgers import is_ignored, is_shrinking
from mica.planner.domain.misfits import Misfit, Refusal
from mica.planner.domain.packing import Fit, fit
from mica.planner.domain.partitions import Geometry
from mica.planner.domain.sizing import Size


def resized(node: NodeState, record: SliceRecord, command: ResizeSlice) -> tuple[Placement, ...] | Refusal:
    """Where the slice stands afterwards, or which field can not be met. Every device of a gang gets the same."""
    if command.vram_bytes is None and command.share_ppm is None and not command.limits.given:
        return Refusal("vram_bytes", "nothing", "vram_bytes, share_ppm, limits or several of them")
    placements = []
    for placement in record.placements:
        outcome = _resize_one(node, record.id, placement, command)
        if isinstance(outcome, Refusal):
            return outcome
        placements.append(outcome)
    return tuple(placements)


def _resize_one(node: NodeState, slice_id: str, placement: Placement, command: ResizeSlice) -> Placement | Refusal:
    claims = node.claims(placement.device_id)
    if claims.device is None:
        return Refusal("id", slice_id, "a slice whose device is in the inventory")
    if placement.mode is Mode.HARDWARE:
        return _keep_partition(claims.geometry(claims.device), placement, command)
    size = Size(command.vram_bytes or placement.vram_bytes, command.share_ppm or placement.share_ppm)
    outcome = fit(claims, slice_id, size, placement.mode)
    if isinstance(outcome, Fit):
        limits = placement.limits.changed_by(command.limits)
        return replace(
            placement, vram_bytes=outcome.vram_bytes, share_ppm=outcome.share_ppm, window=outcome.window, limits=limits
        )
    return _too_much(outcome, size)


def _too_much(misfit: Misfit, size: Size) -> Refusal:
    given = size.vram_bytes if misfit.field == "vram_bytes" else size.share_ppm
    return Refusal(misfit.field, str(given), f"at most {misfit.now} now on the slice's device")


def _keep_partition(geometry: Geometry, placement: Placement, command: ResizeSlice) -> Placement | Refusal:
    """A living partition has one size; it can only be asked for no more than that."""
    partition = placement.partition
    wanted = partition.profile_id if partition is not None else -1
    profile = next((each for each in geometry.profiles if each.profile_id == wanted), None)
    if profile is None:
        return Refusal("id", placement.device_id, "a partition whose profile the device still has")
    if command.limits.given:
        return Refusal("limits", ", ".join(command.limits.given), "none in hardware mode, where no shim enforces them")
    fixed = f"in profile {profile.name}; hardware is not resized in place"
    if command.vram_bytes is not None and command.vram_bytes > profile.vram_bytes:
        return Refusal("vram_bytes", str(command.vram_bytes), f"at most {profile.vram_bytes} {fixed}")
    share_ppm = geometry.shares[profile.profile_id]
    if command.share_ppm is not None and command.share_ppm > share_ppm:
        return Refusal("share_ppm", str(command.share_ppm), f"at most {share_ppm} {fixed}")
    return placement


class Ordered(Struct, frozen=True):
    """A resize as it was ordered: the command, its stream sequence, and when (Unix ns)."""

    command: ResizeSlice
    sequence: int
    at: int

    @property
    def until(self) -> int:
        """Until when processes may hold more than the new size."""
        return self.at + int(self.command.grace_s * 1e9)


def resizing_of(node: NodeState, record: SliceRecord, after: tuple[Placement, ...], order: Ordered) -> Resizing | None:
    """What to remember of a resize in place that takes memory away, or of an earlier one that still does; else nothing.

    One that takes the place of another which waits would fall back to the memory that the slice had before both of them.
    """
    command, before, earlier = order.command, record.placements, record.resizing
    if earlier is not None and (earlier.allowed or not is_shrinking(node.ledger, record.id)):
        earlier = None
    if earlier is not None:
        kept = before if command.vram_bytes is not None else after
        memory = zip(kept, earlier.before, strict=True)
        before = tuple(replace(now, vram_bytes=max(now.vram_bytes, was.vram_bytes)) for now, was in memory)
    if all(now.vram_bytes >= was.vram_bytes for now, was in zip(after, before, strict=True)):
        return None
    if earlier is not None and command.vram_bytes is None:
        return replace(earlier, before=before)
    return Resizing(before=before, sequence=order.sequence, grace_s=command.grace_s, until=order.until)


def is_overdue(node: NodeState, slice_id: str, now_ns: int) -> bool:
    """Whether the slice still holds more than its new size on a device of the node, after the time that it had."""
    observed = node.observed or Observed(node=node.name, boot_id="")
    for device_id, slices in node.ledger.held.items():
        held, entry = slices.get(slice_id), node.ledger.devices.get(device_id, {}).get(slice_id)
        seen = observed.devices.get(device_id, {}).get(slice_id)
        if held is not None and is_ignored(held, entry, seen, observed, now_ns):
            return True
    return False


def given_up(record: SliceRecord, why: str) -> SliceRecord | None:
    """The record as it was before its last resize, which is refused for that reason; None where there is nothing to give up."""
    resizing = record.resizing
    if resizing is None or resizing.allowed:
        return None
    asked, stands = max(placement.vram_bytes for placement in record.placements), resizing.before[0]
    fixed = stands.mode is Mode.HARDWARE
    return replace(
        record, placements=resizing.before, vram_bytes=0 if fixed else stands.vram_bytes, own_limits=stands.limits,
        share_ppm=0 if fixed else stands.share_ppm, resizing=replace(resizing, given=str(asked), allowed=why),
    )  # fmt: skip


def overdue_text(node: NodeState, record: SliceRecord, grace_s: float) -> str:
    """Why a shrink is given up: what its programs held on, after how long."""
    seen = node.observed.devices if node.observed is not None else {}
    used = {
        each.device_id: one.vram_used_bytes
        for each in record.placements
        if (one := seen.get(each.device_id, {}).get(record.id)) is not None
    }
    most = max(used, key=lambda device_id: used[device_id], default=record.placements[0].device_id)
    return f"at least {used.get(most, 0)}, which its programs on {most} held after {grace_s:g} s; it keeps the size that it had"
