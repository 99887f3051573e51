"""A slice with another size on the devices where it is.

Invariant: a resize never moves a slice, and hardware keeps its partition.
"""

from msgspec.structs import replace

from mica.events import Mode, Placement, ResizeSlice, SliceRecord
from mica.planner.domain.fleet import NodeState
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
    fixed = f"in profile {profile.name}; hardware is not resized in place: request another slice"
    if command.vram_bytes is not None and command.vram_bytes > profile.vram_bytes:
        return Refusal("vram_bytes", str(command.vram_bytes), f"at most {profile.vram_bytes} {fixed}")
    share_ppm = geometry.shares[profile.profile_id]
    if command.share_ppm is not None and command.share_ppm > share_ppm:
        return Refusal("share_ppm", str(command.share_ppm), f"at most {share_ppm} {fixed}")
    return placement
