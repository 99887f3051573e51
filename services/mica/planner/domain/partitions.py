"""Slots of a partitioned device: which profile, and where it starts.

Invariant: an instance covers slots [start, start + size) that no other covers (I3), and the compute slices of all instances
sum up to at most what the device has. Geometry: NVIDIA's MIG user guide, "Supported profiles"; the inventory carries it.
"""

from collections.abc import Iterable

from msgspec import Struct

from mica.events import Device, Partition, PartitionProfile

Key = tuple[int, int, int]
"""Profile id, start, size: what tells one instance from another."""


class Instance(Struct, frozen=True):
    """A profile at a start slot, with the compute (ppm) that it gives."""

    profile: PartitionProfile
    start: int
    share_ppm: int
    futures: int
    """How many (profile, start) pairs stay possible beside it."""

    @property
    def partition(self) -> Partition:
        """The same as the ledger has it."""
        profile = self.profile
        return Partition(profile=profile.name, profile_id=profile.profile_id, start=self.start, size=profile.size)


def share_of(device: Device, profile: PartitionProfile) -> int:
    """The compute (ppm) of what the device gives when it is partitioned: by multiprocessors, else by compute slices."""
    most = max((each.multiprocessors for each in device.profiles), default=0)
    if profile.multiprocessors and most:
        return profile.multiprocessors * 1_000_000 // most
    return profile.compute_slices * 1_000_000 // max(1, device.compute_slices)


def occupied(taken: Iterable[Partition]) -> tuple[set[Key], int]:
    """The living instances, each once, and the bit mask of the slots they cover."""
    keys = {(each.profile_id, each.start, each.size) for each in taken}
    mask = 0
    for _, start, size in keys:
        mask |= _mask(start, size)
    return keys, mask


def choose(device: Device, taken: Iterable[Partition], vram_bytes: int, share_ppm: int) -> Instance | None:
    """The profile with the least waste, at the start that keeps the most placements possible; None when nothing is free."""
    keys, mask = occupied(taken)
    for profile in by_waste(device, vram_bytes, share_ppm):
        starts = [start for start in profile.starts if not mask & _mask(start, profile.size)]
        if not starts or not _allowed(device, keys, profile):
            continue
        futures = {start: _futures(device, mask | _mask(start, profile.size)) for start in starts}
        start = max(starts, key=lambda each: (futures[each], -each))
        return Instance(profile, start, share_of(device, profile), futures[start])
    return None


def by_waste(device: Device, vram_bytes: int, share_ppm: int) -> list[PartitionProfile]:
    """The profiles that are large enough, the least wasteful first; those with media engines only when nothing else is."""
    enough = [p for p in device.profiles if p.vram_bytes >= vram_bytes and share_of(device, p) >= share_ppm]
    return sorted(enough, key=lambda p: ("+" in p.name, p.vram_bytes, p.size, p.multiprocessors, p.compute_slices, p.profile_id))


def largest(device: Device, taken: Iterable[Partition]) -> tuple[int, int]:
    """The most VRAM (bytes) and the most compute (ppm) of any instance that is possible beside ``taken``."""
    keys, mask = occupied(taken)
    possible = [
        profile
        for profile in device.profiles
        if _allowed(device, keys, profile) and any(not mask & _mask(start, profile.size) for start in profile.starts)
    ]
    return max((p.vram_bytes for p in possible), default=0), max((share_of(device, p) for p in possible), default=0)


def overlaps(one: Partition, other: Partition) -> bool:
    """Whether two instances cover a common slot."""
    return one.start < other.start + other.size and other.start < one.start + one.size


def _mask(start: int, size: int) -> int:
    return ((1 << size) - 1) << start


def _allowed(device: Device, keys: set[Key], profile: PartitionProfile) -> bool:
    """Whether the device's counts allow one more instance of ``profile``."""
    by_id = {each.profile_id: each for each in device.profiles}
    slices = sum(by_id[key[0]].compute_slices for key in keys if key[0] in by_id)
    same = sum(key[0] == profile.profile_id for key in keys)
    if device.compute_slices and slices + profile.compute_slices > device.compute_slices:
        return False
    if "+me" in profile.name and any("+me" in by_id[key[0]].name for key in keys if key[0] in by_id):
        return False
    return same < profile.max_instances


def _futures(device: Device, mask: int) -> int:
    return sum(not mask & _mask(start, profile.size) for profile in device.profiles for start in profile.starts)
