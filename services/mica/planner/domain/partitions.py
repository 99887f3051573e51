"""Slots of a partitioned device: which profile, and where it starts.

Invariant: partitions of a device are of one layout; an instance covers slots [start, start + size) that no other covers (I3); the
compute slices of all instances, and what they need beside, sum up to at most what the device has; devices of a group that are
partitioned share what their profiles say they do. The inventory carries the geometry. Sources: NVIDIA's MIG user guide,
"Supported profiles"; AMD's partitioning guide; Ascend's "virtual instance templates".
"""

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Final

from msgspec import Struct, json

from mica.events import Device, Partition, PartitionProfile

Key = tuple[int, int, int]
"""Profile id, start, size: what tells one instance from another."""

OPENINGS_MAX: Final = 1 << 14
"""States whose openings are remembered."""
SIZES_MAX: Final = 256
"""Sizes for which the least wasteful opening of a state is remembered."""
MEDIA: Final = "media_extensions"
ANYTHING: Final[AbstractSet[str]] = frozenset()
"""Nothing is settled yet of what devices of a group share."""


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
        return Partition(
            profile=profile.name, profile_id=profile.profile_id, start=self.start, size=profile.size, layout=profile.layout
        )


class Least(dict[tuple[int, int], Instance | None]):
    """By size (bytes, ppm) the least wasteful instance that is large enough; worked out when it is first asked for."""

    def __init__(self, instances: tuple[Instance, ...]) -> None:
        self._instances = instances

    def __missing__(self, size: tuple[int, int]) -> Instance | None:
        vram_bytes, share_ppm = size
        if len(self) >= SIZES_MAX:
            self.clear()
        enough = (e for e in self._instances if e.profile.vram_bytes >= vram_bytes and e.share_ppm >= share_ppm)
        found = self[size] = next(enough, None)
        return found


class Openings:
    """All that is possible beside what is on a device, the least wasteful first; shared by all devices in that state."""

    def __init__(self, instances: tuple[Instance, ...]) -> None:
        self.instances = instances
        self.least = Least(instances)
        self.largest = (
            max((each.profile.vram_bytes for each in instances), default=0),
            max((each.share_ppm for each in instances), default=0),
        )
        """The most VRAM (bytes) and the most compute (ppm) of any of them."""


GEOMETRIES_MAX: Final = 1_024
_GEOMETRIES: Final[dict[bytes, "Geometry"]] = {}
_PROFILES: Final[dict[bytes, tuple[PartitionProfile, ...]]] = {}


class Geometry:
    """What a device's profiles allow, worked out once."""

    def __init__(self, device: Device) -> None:
        most = max((each.multiprocessors for each in device.profiles), default=0)
        self._openings: dict[tuple[frozenset[Key], frozenset[str]], Openings] = {}
        self.compute_slices = device.compute_slices
        self.profiles = sorted(device.profiles, key=_waste)
        self.by_id = {each.profile_id: each for each in device.profiles}
        self.shares = {each.profile_id: _share_of(device, each, most) for each in device.profiles}
        self.budgets = {MEDIA: 1} | device.budgets
        self.whole_shared = next((each.shared for each in device.profiles if each.max_instances == 1 and each.layout), "")
        """What the device shares with its group while it is used whole, as its profile of one part says."""
        self.masks = [(each.layout, _mask(start, each.size)) for each in device.profiles for start in each.starts]

    def openings(self, taken: Iterable[Partition], shared: AbstractSet[str] = ANYTHING) -> Openings:
        """All that is possible beside ``taken``: each profile once, at the start that keeps the most placements possible."""
        keys, mask = occupied(taken)
        return self.beside(frozenset(keys), mask, frozenset(shared))

    def beside(self, keys: frozenset[Key], mask: int, shared: frozenset[str]) -> Openings:
        """The same beside what ``occupied`` says is there; remembered, since many devices are in few states."""
        state = (keys, shared)
        known = self._openings.get(state)
        if known is None:
            if len(self._openings) >= OPENINGS_MAX:
                self._openings.clear()
            found = (self._best(keys, mask, profile, shared) for profile in self.profiles)
            known = self._openings[state] = Openings(tuple(each for each in found if each is not None))
        return known

    def _best(self, keys: AbstractSet[Key], mask: int, profile: PartitionProfile, shared: AbstractSet[str]) -> Instance | None:
        starts = self.starts(keys, mask, profile, shared)
        if not starts:
            return None
        futures = {start: self.futures(mask | _mask(start, profile.size), profile.layout) for start in starts}
        start = max(starts, key=lambda each: (futures[each], -each))
        return Instance(profile, start, self.shares[profile.profile_id], futures[start])

    def enough(self, vram_bytes: int, share_ppm: int) -> Iterator[PartitionProfile]:
        """The profiles that are large enough, the least wasteful first; those with media engines only when nothing else is."""
        return (p for p in self.profiles if p.vram_bytes >= vram_bytes and self.shares[p.profile_id] >= share_ppm)

    def futures(self, mask: int, layout: str) -> int:
        """How many (profile, start) pairs of ``layout`` stay possible beside the slots in ``mask``."""
        return sum(each_layout == layout and not mask & each for each_layout, each in self.masks)

    def shared_of(self, partition: Partition | None) -> str:
        """What all devices of the group have to share because of that partition; None: because the device is used whole."""
        if partition is None:
            return self.whole_shared
        profile = self.by_id.get(partition.profile_id)
        return profile.shared if profile is not None else ""

    def allows(self, keys: AbstractSet[Key], profile: PartitionProfile, shared: AbstractSet[str] = ANYTHING) -> bool:
        """Whether the device's counts, its layout and its group allow one more instance of ``profile``."""
        others = [self.by_id[key[0]] for key in keys if key[0] in self.by_id]
        if any(other.layout != profile.layout for other in others) or (profile.shared and shared - {profile.shared}):
            return False
        if sum(key[0] == profile.profile_id for key in keys) >= profile.max_instances:
            return False
        if profile.layout:
            return True
        slices = profile.compute_slices + sum(other.compute_slices for other in others)
        return not (self.compute_slices and slices > self.compute_slices) and self._affords(others, profile)

    def starts(
        self, keys: AbstractSet[Key], mask: int, profile: PartitionProfile, shared: AbstractSet[str] = ANYTHING
    ) -> list[int]:
        """Where one more instance of ``profile`` can be, beside what ``occupied`` says is there."""
        free = [start for start in profile.starts if not mask & _mask(start, profile.size)]
        return free if free and self.allows(keys, profile, shared) else []

    def _affords(self, others: list[PartitionProfile], profile: PartitionProfile) -> bool:
        """Whether what the profile needs beside slots and compute slices is left."""
        return all(
            need + sum(needs(other).get(name, 0) for other in others) <= self.budgets.get(name, 0)
            for name, need in needs(profile).items()
        )


def geometry_of(device: Device) -> Geometry:
    """What the device's profiles allow; devices of one make share it."""
    key = json.encode((device.profiles, device.compute_slices, device.budgets))
    known = _GEOMETRIES.get(key)
    if known is None:
        if len(_GEOMETRIES) >= GEOMETRIES_MAX:
            _GEOMETRIES.clear()
        known = _GEOMETRIES[key] = Geometry(device)
    return known


def shared_profiles(device: Device) -> tuple[PartitionProfile, ...]:
    """The device's profiles, as the one object that all devices with equal ones have."""
    if len(_PROFILES) >= GEOMETRIES_MAX:
        _PROFILES.clear()
    return _PROFILES.setdefault(json.encode(device.profiles), device.profiles)


def needs(profile: PartitionProfile) -> dict[str, int]:
    """A library that knows of no budgets tells by the name alone that a profile has the media engines."""
    return profile.needs or ({MEDIA: 1} if "+me" in profile.name else {})


def _waste(profile: PartitionProfile) -> tuple[bool, int, int, int, int, int, int]:
    return (
        "+" in profile.name, profile.vram_bytes, profile.multiprocessors, profile.size, profile.compute_slices,
        sum(profile.needs.values()), profile.profile_id,
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


def choose(
    geometry: Geometry, taken: Iterable[Partition], vram_bytes: int, share_ppm: int, shared: AbstractSet[str] = ANYTHING
) -> Instance | None:
    """The profile with the least waste, at its best start; None when nothing is free.

    ``shared``: what the partitioned devices of its group share.
    """
    return geometry.openings(taken, shared).least[vram_bytes, share_ppm]


def largest(geometry: Geometry, taken: Iterable[Partition], shared: AbstractSet[str] = ANYTHING) -> tuple[int, int]:
    """The most VRAM (bytes) and the most compute (ppm) of any instance that is possible beside ``taken``."""
    return geometry.openings(taken, shared).largest


def overlaps(one: Partition, other: Partition) -> bool:
    """Whether two instances can not be there at once: they cover a common slot, or are of different layouts."""
    return one.layout != other.layout or (one.start < other.start + other.size and other.start < one.start + one.size)


def _mask(start: int, size: int) -> int:
    return ((1 << size) - 1) << start
