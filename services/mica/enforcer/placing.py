"""A part of a device, and how parts of whole units are placed side by side. Invariant: pure; no two parts overlap."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from mica.events import PPM
from mica.region import Limits, Spatial


class Part(Struct, frozen=True):
    """A part of a device: how it is given, how large it is, and where it begins."""

    kind: Spatial = Spatial.NONE
    ppm: int = 0
    offset_ppm: int = 0


NO_PART: Final = Part()


def part_in(limits: Limits | None) -> Part:
    """The part that a record gives."""
    return NO_PART if limits is None else Part(limits.spatial_kind, limits.spatial_ppm, limits.spatial_offset_ppm)


class Row(Struct, frozen=True):
    """A device as a row of so many units of one size, which ``kind`` gives in any number."""

    kind: Spatial
    units: int

    def part(self, first: int, count: int) -> Part:
        """The part of these units."""
        return Part(self.kind, self._edge(first + count) - self._edge(first), self._edge(first))

    def covers(self, part: Part) -> range:
        """The units of a part."""
        first = round(part.offset_ppm * self.units / PPM)
        return range(first, first + round(part.ppm * self.units / PPM))

    def stays(self, part: Part | None, count: int) -> bool:
        """Whether a part in force lies on this device's units, and has the size that is wanted."""
        return part is not None and part == self.part(self.covers(part).start, count)

    def _edge(self, unit: int) -> int:
        """Where a unit begins, in ppm of the device."""
        return unit * PPM // self.units


def placed(
    row: Row, wanted: Mapping[str, int], held: Mapping[str, Part], taken: Sequence[range] = ()
) -> Iterator[tuple[str, Part]]:
    """First fit: slices that stay where they are first, then the others by name. What finds no room has no part.

    Args:
        wanted: so many units in a row, by slice.
        held: the parts in force, by slice.
        taken: units that are nobody's to have.
    """
    full = list(taken)
    for id_ in sorted(wanted, key=lambda each: (not row.stays(held.get(each), wanted[each]), each)):
        count, old = wanted[id_], held.get(id_)
        stays = old is not None and row.stays(old, count)
        place = row.covers(old) if old is not None and stays else _room(row.units, count, full)
        if place is not None and not _overlaps(place, full):
            full.append(place)
            yield id_, row.part(place.start, count)


def _room(units: int, count: int, taken: Sequence[range]) -> range | None:
    places = (range(first, first + count) for first in range(units - count + 1))
    return next((place for place in places if not _overlaps(place, taken)), None)


def _overlaps(place: range, taken: Sequence[range]) -> bool:
    return any(place.start < other.stop and other.start < place.stop for other in taken)
