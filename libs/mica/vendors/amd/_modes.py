"""Compute and memory modes as partitions. Pure. Invariant: a mode is named ``COMPUTE/NPSn``, and numbered as in the catalogue.

A device that is ``SPX/NPS1`` is whole; all others are partitioned, by XCDs, which are its slots.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from mica.events import Partition, PartitionProfile

COMPUTE: Final[Mapping[str, int]] = {"SPX": 1, "DPX": 2, "TPX": 3, "QPX": 4, "CPX": 5}
"""amdsmi's numbers of the compute modes; of all but the last they are also how many partitions there are."""
WHOLE: Final = "SPX/NPS1"
XCDS_MAX: Final = 16
_NPS: Final = re.compile(r"NPS([1248])")


class Size(Struct, frozen=True):
    """What all of a device comes to. ``xcds`` is 0 where that is not known."""

    vram_bytes: int
    compute_units: int
    xcds: int


def mode_name(compute: str, memory: str) -> str:
    """What mica calls the two modes together."""
    return f"{compute}/{memory}"


def mode_number(compute: str, memory: str) -> int:
    """The catalogue's number of the two modes together, 0 of modes that nobody knows."""
    known = _NPS.fullmatch(memory)
    return COMPUTE[compute] * 16 + int(known[1]) if known and compute in COMPUTE else 0


def offered(config: Any, memory_config: Any) -> dict[str, int]:
    """By mode, how many partitions it has: what amdsmi says of a device's compute modes, in the memory modes that it has."""
    possible = set((memory_config or {}).get("partition_caps") or ()) - {"N/A"}
    found: dict[str, int] = {}
    for each in (config or {}).get("profiles") or ():
        compute, count = each.get("profile_type"), each.get("num_partitions")
        if compute not in COMPUTE or not isinstance(count, int) or not 1 <= count <= XCDS_MAX:
            continue
        for memory in each.get("memory_caps") or ():
            if mode_number(compute, memory) and (not possible or memory in possible):
                found[mode_name(compute, memory)] = count
    return found


def profiles_of(counts: Mapping[str, int], size: Size) -> tuple[PartitionProfile, ...]:
    """A profile for each mode that divides the device evenly."""
    return tuple(profile_of(mode, count, size) for mode, count in counts.items() if size.xcds % count == 0)


def profile_of(mode: str, count: int, size: Size) -> PartitionProfile:
    """The partitions of a mode that has ``count`` of them, all alike."""
    compute, _, memory = mode.partition("/")
    slots = max(size.xcds // count, 1)
    return PartitionProfile(
        name=mode,
        profile_id=mode_number(compute, memory),
        size=slots,
        starts=tuple(range(0, slots * count, slots)),
        vram_bytes=size.vram_bytes // count,
        compute_slices=slots,
        multiprocessors=size.compute_units // count,
        max_instances=count,
        layout=mode,
        shared=memory,
    )


def partitions_of(profile: PartitionProfile, names: Iterable[str]) -> tuple[Partition, ...]:
    """The partitions that there are in a mode, in the order of their slots; ``names``: their UUIDs."""
    return tuple(
        Partition(
            profile=profile.name,
            profile_id=profile.profile_id,
            start=start,
            size=profile.size,
            uuid=name,
            layout=profile.layout,
        )
        for start, name in zip(profile.starts, names, strict=False)
    )


def partition_names(device_id: str, mode: str, hip_uuids: Iterable[str], count: int) -> tuple[str, ...]:
    """What partitions are called: as the runtime calls them where it tells them apart, else by device, mode and number.

    Drivers before ROCm 7.0.1 give all partitions of a device one unique id, and devices without any all zeroes.
    """
    known = tuple(hip_uuids)
    if len(known) == count and is_telling(known):
        return known
    plain = mode.lower().replace("/", "-")
    return tuple(f"{device_id}-{plain}-{number}" for number in range(count))


def known_count(mode: str) -> int:
    """How many partitions a mode has on every device that has it, 0 where that depends on the device."""
    compute = mode.partition("/")[0]
    return 0 if compute == "CPX" else COMPUTE.get(compute, 0)


def is_telling(hip_uuids: Iterable[str]) -> bool:
    """Whether the runtime's UUIDs of a device's partitions tell them apart."""
    known = tuple(hip_uuids)
    return len(set(known)) == len(known) and all(each.strip("GPU-0") for each in known)


def whole(value: int, count: int, expected: int) -> int:
    """All of the device's, of what one of its ``count`` processors says: some answer for themselves, some for the device."""
    return min(value, value * count, key=lambda each: abs(expected - each)) if expected else value * count
