"""What a device is worth as it stands, and what a move costs: the one scale of repacking, in devices.

Invariant: a device is worth the largest slice that it could still take, as a part of the whole, and one more while nobody has a
slice on it. So two half-full devices are worth less than a full and an empty one, and a device whose memory is free while its
compute is sold is worth nothing.
"""

from collections.abc import Iterable
from typing import Final

from mica.events import Mode, PoolShape, Tier
from mica.planner.domain import partitions, windows
from mica.planner.domain.claims import DeviceClaims
from mica.planner.domain.packing import PPM

MOVE: Final = 0.02
"""What any move costs: it is worth a fiftieth of a device, or it is not made."""
RESTART: Final = {Tier.SPOT: 0.05, Tier.BURST: 0.1, Tier.GUARANTEED: 0.3}
"""What it costs beside that to end a slice's programs."""
MEMORY: Final = 0.1
"""What it costs beside that if they hold a whole device's memory: so much has to be filled anew."""


def usable_bytes(claims: DeviceClaims) -> int:
    """The memory of a device that tenants can have."""
    device = claims.device
    return device.vram_bytes - device.reserve_bytes if device is not None else 0


def free_bytes(claims: DeviceClaims) -> int:
    """The memory that nobody claims: while it is partitioned, that of the largest partitions which could still be made."""
    device = claims.device
    if device is None:
        return 0
    return max(0, usable_bytes(claims) - claims.vram_bytes)


def room(claims: DeviceClaims) -> float:
    """The largest slice that the device could still take, as a part of the whole: the lesser of memory and compute."""
    device = claims.device
    if device is None:
        return 0.0
    mode = claims.mode("")
    if mode is None:
        return 1.0
    if mode is Mode.HARDWARE:
        geometry = claims.geometry(device)
        taken = [partition for claim in claims.claims.values() for partition in claim.partitions]
        return partitions.largest(geometry, taken)[0] / max(1, partitions.largest(geometry, ())[0])
    share = PPM - claims.share_ppm
    if mode is Mode.TIMESLICE:
        share = windows.largest_share(window for claim in claims.claims.values() for window in claim.windows)
    return max(0.0, min(free_bytes(claims) / max(1, usable_bytes(claims)), share / PPM))


def value(claims: DeviceClaims) -> float:
    """What the device is worth."""
    return room(claims) + (not claims.claims)


def move_cost(tier: Tier, *, restarts: bool, held: float) -> float:
    """What it costs to move a slice; ``held`` is what its programs hold, as a part of the device's memory."""
    return MOVE + (RESTART[tier] + MEMORY * min(1.0, held) if restarts else 0.0)


def shape_of(devices: Iterable[DeviceClaims]) -> PoolShape:
    """How devices are filled."""
    all_ = [each for each in devices if each.device is not None]
    empty = [each for each in all_ if not each.claims]
    free = sum(free_bytes(each) for each in all_)
    whole = sum(free_bytes(each) for each in empty)
    return PoolShape(
        devices=len(all_),
        free_devices=len(empty),
        free_bytes=free,
        largest_bytes=sum(int(room(each) * usable_bytes(each)) for each in all_),
        fragmentation=round(1 - whole / free, 6) if free else 0.0,
        value=round(sum(value(each) for each in all_), 6),
    )
