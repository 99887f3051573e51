"""Requests that wait for capacity, suspended slices that do, and the devices that are kept for some of them.

Invariant: holds every queued request that this replica has heard of, until its record says otherwise. What is kept for whom
follows from the records: the devices that others were evicted from for a request, and, for the first in the queue that has waited
long and would fit if others left, those where the least has to leave. What comes behind it in the queue goes elsewhere, or waits
too: no stream of small requests delays a large one for ever.
"""

import asyncio
from collections.abc import Callable

from msgspec import Struct

from mica.events import Holding, Phase, SliceRecord
from mica.planner.domain.queueing import Standing, in_order, is_kept_for
from mica.planner.domain.records import is_waiting


class Head(Struct, frozen=True):
    """The first that is blocked, and the devices that it is to get."""

    id: str
    devices: frozenset[str]


class Waiting:
    """The queue in memory; the records are its truth."""

    def __init__(self) -> None:
        self._records: dict[str, SliceRecord] = {}
        self._ripe: set[str] = set()
        self.head: Head | None = None
        self.total = Holding(vram_bytes=0, share_ppm=0)
        """What the fleet has in all, as of the last time that the queue was tried."""
        self.changed = asyncio.Event()
        """Set when capacity may have come free or the time of somebody may be up."""

    def add(self, record: SliceRecord) -> None:
        """One more that waits, or the newer record of one that does."""
        self._records[record.id] = record

    def discard(self, slice_id: str) -> None:
        """It waits no longer."""
        self._records.pop(slice_id, None)
        if self.head is not None and self.head.id == slice_id:
            self.head = None

    def settle(self, record: SliceRecord) -> None:
        """It waits, or it does not, by its record."""
        if is_waiting(record):
            self.add(record)
        else:
            self.discard(record.id)

    def get(self, slice_id: str) -> SliceRecord | None:
        """The record of one that waits, as last seen."""
        return self._records.get(slice_id)

    def ids(self) -> set[str]:
        """Of all that wait."""
        return set(self._records)

    def tenants(self) -> set[str]:
        """Those that wait."""
        return {record.request.tenant for record in self._records.values()}

    def in_order(self, standing: Standing) -> list[str]:
        """Ids, the one to be tried first in front."""
        return [record.id for record in in_order(self._records.values(), standing)]

    def barred(self, record: SliceRecord, standing: Callable[[], Standing]) -> frozenset[str]:
        """The devices that are kept for others that come before this request."""
        devices: set[str] = set()
        own = {placement.device_id for placement in record.nominated}
        for other in self._records.values():
            if other.id != record.id and other.phase is Phase.QUEUED and other.nominated:
                theirs = {placement.device_id for placement in other.nominated}
                devices |= theirs - own if record.request_sequence < other.request_sequence else theirs
        head = self.head
        if head is not None and head.id != record.id and not head.devices <= devices and self._is_ahead(head, record, standing()):
            devices |= head.devices - own
        return frozenset(devices)

    def kept(self) -> frozenset[str]:
        """The devices that are kept for anybody."""
        nominated = {placement.device_id for record in self._records.values() for placement in record.nominated}
        return frozenset(nominated | (self.head.devices if self.head is not None else frozenset()))

    def _is_ahead(self, head: Head, record: SliceRecord, standing: Standing) -> bool:
        first = self._records.get(head.id)
        return first is not None and in_order((first, record), standing)[0] is first

    def due(self, now_ns: int) -> bool:
        """Whether somebody's time is up, or somebody has just waited so long that devices are kept for it."""
        ripe = {record.id for record in self._records.values() if record.until and is_kept_for(record, now_ns)}
        just, self._ripe = ripe - self._ripe, ripe
        return bool(just) or any(0 < record.until <= now_ns for record in self._records.values())

    def wake(self) -> None:
        """Have all of them tried again, if there are any."""
        if self._records:
            self.changed.set()
