"""Numbers of vNPUs, and the slots that they stand for. Pure. Invariant: vNPUs of a chip never overlap, whoever made them.

A chip gives a vNPU cores of its own choice and says of it only its number and its template. Numbers are ours to choose: 16 of
them from 100 + 16 * the chip's physical number, as many as a chip can have smallest vNPUs. So mica numbers a vNPU by the slot
where it planned it to start, and reads the slot back from the number, after any restart and without any memory of its own.

vNPUs that people make are numbered from the first that is free, whatever their size. One whose number is no start of its template
counts through the template's starts instead (the second ``vir10`` of a chip, 101, starts where the second can). Where that
leaves two on the same slots, the one with the higher number moves to the first free start, and where there is none, the largest
are seated first. Only in that case can a start change while a vNPU lives, as others come and go; its name never does.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from mica.events import Partition, PartitionProfile

Listed = tuple[int, str, PartitionProfile | None]
"""Number, template, and the profile of that template."""

FIRST: Final = 100
STRIDE: Final = 16
UNKNOWN_PROFILE: Final = 9999
"""The profile id of a vNPU whose template is none that the chip offers."""


def first_number(physical: int) -> int:
    """The number of the chip's first vNPU."""
    return FIRST + STRIDE * physical


def numbers_for(profile: PartitionProfile, start: int, physical: int) -> Iterator[int]:
    """The numbers under which a vNPU of ``profile`` is read back as starting at ``start``, the plain one first."""
    offsets = (start, *range(STRIDE))
    yield from dict.fromkeys(first_number(physical) + each for each in offsets if _preferred(profile, each) == start)


def partitions(
    device_id: str, physical: int, vnpus: Iterable[tuple[int, str]], profiles: Mapping[str, PartitionProfile]
) -> tuple[Partition, ...]:
    """What the vNPUs (number and template) are, in the order of their slots.

    Args:
        profiles: what the chip offers, by template.
    """
    listed = [(number, template, profiles.get(template)) for number, template in sorted(vnpus)]
    by_size = sorted(listed, key=lambda each: -each[2].size if each[2] is not None else 0)
    starts = _seat(listed, first_number(physical)) or _seat(by_size, first_number(physical)) or {}
    found = [
        Partition(
            profile=template,
            profile_id=profile.profile_id if profile is not None else UNKNOWN_PROFILE,
            start=starts.get(number, max(0, number - first_number(physical))),
            size=profile.size if profile is not None else 1,
            uuid=vnpu_uuid(device_id, number),
        )
        for number, template, profile in listed
    ]
    return tuple(sorted(found, key=lambda each: each.start))


def vnpu_uuid(device_id: str, number: int) -> str:
    """What a vNPU is called: Ascend has only its number, which is unique on the server."""
    return f"{device_id}-vnpu{number}"


def vnpu_of(uuid: str) -> tuple[str, int] | None:
    """The chip and the number of a vNPU by its name; None when it is the name of a chip."""
    device_id, _, number = uuid.rpartition("-vnpu")
    return (device_id, int(number)) if device_id and number.isdecimal() else None


def _preferred(profile: PartitionProfile, offset: int) -> int:
    return offset if offset in profile.starts else profile.starts[offset % len(profile.starts)]


def _seat(vnpus: Sequence[Listed], first: int) -> dict[int, int] | None:
    """The start of each that is of a known template, taken in that order; None when one has no place left."""
    starts: dict[int, int] = {}
    taken = 0
    for number, _, profile in vnpus:
        if profile is None:
            continue
        choices = (_preferred(profile, number - first), *profile.starts)
        start = next((each for each in choices if not taken & _mask(each, profile.size)), None)
        if start is None:
            return None
        starts[number] = start
        taken |= _mask(start, profile.size)
    return starts


def _mask(start: int, size: int) -> int:
    return ((1 << size) - 1) << start
