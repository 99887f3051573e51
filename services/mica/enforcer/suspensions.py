"""Which places are off their devices, and which are on their way there or back.

Owns that, as far as it is known. Invariant: a place counts as away only while every process of it is, and as back only once every
process of it is: in between it is what it was before. Its record says ``suspend`` from before the first process is asked to leave
until after the last one is back, so that a restart knows where to ask the driver.
"""

from collections.abc import Iterator, Mapping

from msgspec import Struct

from mica.enforcer.places import Held, Place
from mica.events import Control, Ledger, LedgerEntry, Observed, ObservedState
from mica.region import Limits


class Refused(Struct, frozen=True):
    """Why a place could not be suspended as generation ``generation`` asks."""

    generation: int
    message: str


class Errand(Struct, frozen=True):
    """Something to be done for all places of a slice: ``suspends`` them, or brings them back."""

    slice_id: str
    places: tuple[Place, ...]
    suspends: bool
    generation: int
    lock_s: float


class Suspensions:
    """The places of one node that are, or were to be, suspended."""

    def __init__(self) -> None:
        self.away: dict[Place, int] = {}
        """By place, the bytes that its processes have on the host."""
        self.refused: dict[Place, Refused] = {}
        self.postponed: dict[Place, str] = {}
        """What could not be brought back when that was last tried, and why."""
        self.took_ns: dict[str, tuple[int, int]] = {}
        """By slice, how long the two parts of its last errand took."""
        self._unsure: set[Place] = set()
        self._back: set[Place] = set()
        self._news: set[Place] = set()

    def adopt(self, records: Mapping[Place, Limits], observed: Observed) -> None:
        """Take over what the last enforcer saw; the driver is asked before that is relied on."""
        for device_id, slices in observed.devices.items():
            for slice_id, seen in slices.items():
                place = Place(device_id, slice_id)
                if place in records and (seen.state is ObservedState.SUSPENDED or seen.away_bytes):
                    self.away[place] = seen.away_bytes
                    self._unsure.add(place)

    def holds_back(self, place: Place, entry: LedgerEntry | None, held: Held) -> bool:
        """Whether the record stays as it is because processes are to be brought back first."""
        return entry is not None and not entry.suspended and is_held_up(held) and place not in self._back

    def in_force(self, place: Place, entry: LedgerEntry, held: Held) -> bool:
        """Whether the place is where the entry wants it: away, or on its device."""
        if entry.suspended:
            return place in self.away and place not in self._unsure
        return place not in self.away and not is_held_up(held)

    def errands(self, ledger: Ledger, held: Mapping[Place, Held]) -> Iterator[Errand]:
        """What is to be done now, slice by slice."""
        by_slice: dict[str, list[tuple[Place, LedgerEntry]]] = {}
        for device_id, entries in ledger.devices.items():
            for slice_id, entry in entries.items():
                place = Place(device_id, slice_id)
                if place in held and is_held_up(held[place]):
                    by_slice.setdefault(slice_id, []).append((place, entry))
        for slice_id, found in by_slice.items():
            entry = found[0][1]
            if any(self._is_due(place, its, held[place]) for place, its in found):
                places = tuple(place for place, _ in found)
                yield Errand(slice_id, places, entry.suspended, entry.generation, entry.lock_s)

    def _is_due(self, place: Place, entry: LedgerEntry, held: Held) -> bool:
        if not entry.suspended:
            return place not in self._back and place not in self.postponed
        refused = self.refused.get(place)
        if refused is not None and refused.generation == entry.generation:
            return False
        if held.limits is None or held.limits.generation != entry.generation:
            return False
        return (place not in self.away or place in self._unsure) and place not in self.postponed

    def went(self, errand: Errand, away: Mapping[Place, int]) -> None:
        """Every process of the slice is away."""
        for place in errand.places:
            self.away[place] = away.get(place, 0)
            self.refused.pop(place, None)
            self.postponed.pop(place, None)
            self._back.discard(place)
        self._changed(errand)

    def came_back(self, errand: Errand) -> None:
        """Every process of the slice is on its devices and runs."""
        for place in errand.places:
            self.away.pop(place, None)
            self.refused.pop(place, None)
            self.postponed.pop(place, None)
            self._back.add(place)
        self._changed(errand)

    def stays(self, errand: Errand, why: str) -> None:
        """It could not be done: what runs goes on, and what is away stays away for now."""
        was_away = any(place in self.away for place in errand.places)
        for place in errand.places:
            if errand.suspends and not was_away:
                self.refused[place] = Refused(errand.generation, why)
            else:
                self.postponed[place] = why
        self._news.update(errand.places)
        if not was_away:
            self._unsure.difference_update(errand.places)

    def _changed(self, errand: Errand) -> None:
        self._unsure.difference_update(errand.places)
        self._news.update(errand.places)

    def set_out(self, errand: Errand) -> None:
        """An errand begins: who went before is no longer known to be back."""
        self._back.difference_update(errand.places)

    def forget(self, place: Place) -> None:
        """Nothing is left of the place."""
        for table in (self.away, self.refused, self.postponed):
            table.pop(place, None)
        self.took_ns.pop(place.slice_id, None)
        self._unsure.discard(place)
        self._back.discard(place)

    def take_news(self) -> set[Place]:
        """The places of which something has changed since the last call."""
        news, self._news = self._news, set()
        return news


def is_held_up(held: Held) -> bool:
    """Whether the record has launches and requests for memory wait."""
    return held.limits is not None and held.limits.control is Control.SUSPEND
