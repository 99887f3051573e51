"""Whether and how well one member of a slice fits one device, by mode.

Invariant: a fit never takes what another slice claims: VRAM with the driver's reserve (I1), compute (I2), slots (I3), windows.
"""

from collections.abc import Set as AbstractSet

from msgspec import Struct

from mica.events import Device, Mode, Partition, Window
from mica.planner.domain import partitions, windows
from mica.planner.domain.claims import DeviceClaims
from mica.planner.domain.misfits import Misfit, size_text
from mica.planner.domain.partitions import Geometry
from mica.planner.domain.sizing import Size

PPM = 1_000_000


class Fit(Struct, frozen=True):
    """What a device would give, and how wasteful that is: the lowest ``waste`` wins."""

    mode: Mode
    vram_bytes: int
    share_ppm: int
    waste: tuple[float, ...]
    partition: Partition | None = None
    window: Window | None = None
    reason: str = ""


def fit(
    claims: DeviceClaims, slice_id: str, size: Size, mode: Mode, shared: AbstractSet[str] = partitions.ANYTHING
) -> Fit | Misfit:
    """How one member of ``slice_id`` would sit on the device. What the slice itself claims there does not stand in its way.

    ``shared``: what the partitioned devices of its group share.
    """
    device = claims.device
    if device is None:
        return Misfit("device_id", "no longer in the inventory")
    sized = size.on(device)
    if isinstance(sized, Misfit) or mode is Mode.HARDWARE:
        return sized if isinstance(sized, Misfit) else _fit_hardware(device, claims, slice_id, sized, shared)
    size = sized
    usable = device.vram_bytes - device.reserve_bytes
    used_vram, used_share = claims.used(slice_id)
    free_vram = usable - used_vram
    if size.vram_bytes > free_vram:
        return Misfit(
            "vram_bytes",
            f"asked {size_text(size.vram_bytes)}, {size_text(max(0, free_vram))} of {size_text(usable)} free",
            max(0, free_vram),
            usable,
            possible=size.vram_bytes <= usable,
            mode=mode,
        )
    share = size.share_ppm or proportional_share(size.vram_bytes, usable)
    if mode is Mode.TIMESLICE:
        return _fit_window(claims, slice_id, Size(size.vram_bytes, share), (free_vram - size.vram_bytes) / usable)
    free_share = PPM - used_share
    if share > free_share:
        reason = f"asked {share} ppm of compute, {max(0, free_share)} ppm free"
        return Misfit("share_ppm", reason, max(0, free_share), PPM, possible=True, mode=mode)
    left = (free_vram - size.vram_bytes) / usable + (free_share - share) / PPM
    return Fit(mode, size.vram_bytes, share, (left,))


def not_whole(claims: DeviceClaims, mode: Mode, shared: AbstractSet[str]) -> Misfit | None:
    """Why the device can not be used whole beside others of its group, which have what stands in ``shared``."""
    whole = claims.geometry(claims.device).whole_shared if shared and claims.device is not None else ""
    if mode is Mode.HARDWARE or not whole or shared == {whole}:
        return None
    others = ", ".join(sorted(shared - {whole}))
    return Misfit("device_id", f"used whole it needs {whole}, others of its group have {others}", possible=True, mode=mode)


def proportional_share(vram_bytes: int, usable_bytes: int) -> int:
    """The same part (ppm, rounded down, at least 1) of the compute as of the memory: slices that fill the memory fill no more."""
    return max(1, vram_bytes * PPM // usable_bytes)


def _fit_window(claims: DeviceClaims, slice_id: str, size: Size, left_vram: float) -> Fit | Misfit:
    taken = [window for claim in claims.others(slice_id) for window in claim.windows]
    own = claims.claims.get(slice_id)
    prefer_ns = next((window.offset_ns for window in own.windows), -1) if own is not None else -1
    length_ns = windows.length_of(size.share_ppm or 1)
    window = windows.first_fit(taken, length_ns, prefer_ns=prefer_ns)
    if window is None:
        most = windows.largest_share(taken)
        reason = f"asked a window of {length_ns} ns, the largest free one gives {most} ppm"
        return Misfit("share_ppm", reason, most, PPM, possible=True, mode=Mode.TIMESLICE)
    share = length_ns // windows.NS_PER_PPM
    left = left_vram + (PPM - claims.used(slice_id)[1] - share) / PPM
    return Fit(Mode.TIMESLICE, size.vram_bytes, share, (left,), window=window)


def _fit_hardware(device: Device, claims: DeviceClaims, slice_id: str, size: Size, shared: AbstractSet[str]) -> Fit | Misfit:
    share = size.share_ppm or 1
    taken = [partition for claim in claims.others(slice_id) for partition in claim.partitions]
    geometry = claims.geometry(device)
    instance = partitions.choose(geometry, taken, size.vram_bytes, share, shared)
    if instance is None:
        return _no_instance(geometry, (taken, shared), size.vram_bytes, share)
    profile = instance.profile
    return Fit(
        Mode.HARDWARE,
        profile.vram_bytes,
        max(1, instance.share_ppm),
        ((profile.vram_bytes - size.vram_bytes) / device.vram_bytes, instance.futures),
        partition=instance.partition,
        reason=f"profile {profile.name} at slot {instance.start}" + (f" of layout {profile.layout}" if profile.layout else ""),
    )


def _no_instance(geometry: Geometry, beside: tuple[list[Partition], AbstractSet[str]], vram_bytes: int, share_ppm: int) -> Misfit:
    vram_now, share_now = partitions.largest(geometry, *beside)
    vram_ever, share_ever = partitions.largest(geometry, ())
    possible = any(geometry.enough(vram_bytes, share_ppm))
    if vram_bytes <= (vram_now if possible else vram_ever):
        reason = f"no free profile has {size_text(vram_bytes)} and {share_ppm} ppm of compute; at most {share_now} ppm is free"
        return Misfit("share_ppm", reason, share_now, share_ever, possible=possible, mode=Mode.HARDWARE)
    free = f"the largest free profile has {size_text(vram_now)}" if vram_now else "no profile is free"
    reason = f"asked {size_text(vram_bytes)}, {free}"
    return Misfit("vram_bytes", reason, vram_now, vram_ever, possible=possible, mode=Mode.HARDWARE)
