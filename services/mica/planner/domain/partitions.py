"""Slots of a partitioned device: which profile, and where it starts.

Invariant: an instance covers slots [start, start + size) that no other covers (I3), and the compute slices of all instances
sum up to at most what the device has. Geometry: NVIDIA's MIG user guide, "Supported profiles"; the inventory carries it.
"""

from collections.abc import Iterable, Iterator

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


class Geometry:
    """What a partitioned device's profiles allow, worked out once."""

    def __init__(self, device: Device) -> None:
        most = max((each.multiprocessors for each in device.profiles), default=0)
        self.compute_slices = device.compute_slices
        self.profiles = sorted(device.profiles, key=_waste)
        self.shares = {each.profile_id: _share_of(device, each, most) for each in device.profiles}
        self.slices = {each.profile_id: each.compute_slices for each in device.profiles}
        self.media = {each.profile_id for each in device.profiles if "+me" in each.name}
        self.masks = [_mask(start, each.size) for each in device.profiles for start in each.starts]

    def enough(self, vram_bytes: int, share_ppm: int) -> Iterator[PartitionProfile]:
        """The profiles that are large enough, the least wasteful first; those with media engines only when nothing else is."""
        return (p for p in self.profiles if p.vram_bytes >= vram_bytes and self.shares[p.profile_id] >= share_ppm)

    def futures(self, mask: int) -> int:
        """How many (profile, start) pairs stay possible beside the slots in ``mask``."""
        return sum(not mask & each for each in self.masks)

    def allows(self, keys: set[Key], profile: PartitionProfile) -> bool:
        """Whether the device's counts allow one more instance of ``profile``."""
        slices = sum(self.slices.get(key[0], 0) for key in keys)
        if self.compute_slices and slices + profile.compute_slices > self.compute_slices:
            return False
        if profile.profile_id in self.media and any(key[0] in self.media for key in keys):
            return False
        return sum(key[0] == profile.profile_id for key in keys) < profile.max_instances


def _waste(profile: PartitionProfile) -> tuple[bool, int, int, int, int, int]:
    return (
        "+" in profile.name, profile.vram_bytes, profile.size, profile.multiprocessors, profile.compute_slices, profile.profile_id
    )  # fmt: skip


def _share_of(device: Device, profile: PartitionProfile, most_multiprocessors: int) -> int:
    """The compute (ppm) of what the device gives when it is partitioned: by multiprocessors, else by compute slices."""
    if profile.multiprocessors and most_multiprocessors:
        return profile.multiprocessors * 1_000_000 // most_multiprocessors
    return profile.compute_slices * 1_000_000 // max(1, device.compute_slices)


def occupied(taken: Iterable[Partition]) -> tuple[set[Key], int]:
    """The living instances, each once, and the bit mask of the slots they cover."""
    keys = {(each.profile_id, each.start, each.size) for each in taken}
    mask = 0
    for _, start, size in keys:
        mask |= _mask(start, size)
    return keys, mask


def choose(geometry: Geometry, taken: Iterable[Partition], vram_bytes: int, share_ppm: int) -> Instance | None:
    """The profile with the least waste, at the start that keeps the most placements possible; None when nothing is free."""
    keys, mask = occupied(taken)
    for profile in geometry.enough(vram_bytes, share_ppm):
        starts = [start for start in profile.starts if not mask & _mask(start, profile.size)]
        if not starts or not geometry.allows(keys, profile):
            continue
        futures = {start: geometry.futures(mask | _mask(start, profile.size)) for start in starts}
        start = max(starts, key=lambda each: (futures[each], -each))
        return Instance(profile, start, geometry.shares[profile.profile_id], futures[start])
    return None


def largest(geometry: Geometry, taken: Iterable[Partition]) -> tuple[int, int]:
    """The most VRAM (bytes) and the most compute (ppm) of any instance that is possible beside ``taken``."""
    keys, mask = occupied(taken)
    possible = [
        profile
        for profile in geometry.profiles
        if any(not mask & _mask(start, profile.size) for start in profile.starts) and geometry.allows(keys, profile)
    ]
    return max((p.vram_bytes for p in possible), default=0), max((geometry.shares[p.profile_id] for p in possible), default=0)


def overlaps(one: Partition, other: Partition) -> bool:
    """Whether two instances cover a common slot."""
    return one.start < other.start + other.size and other.start < one.start + one.size


def _mask(start: int, size: int) -> int:
    return ((1 << size) - 1) << start
