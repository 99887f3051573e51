"""Requests that wait for capacity.

Invariant: holds every queued request that this replica has heard of, until its record says otherwise.
"""

import asyncio

from mica.events import SliceRecord


class Waiting:
    """The queue in memory; the records are its truth."""

    def __init__(self) -> None:
        self._records: dict[str, SliceRecord] = {}
        self.changed = asyncio.Event()
        """Set when capacity may have come free or the time of somebody may be up."""

    def add(self, record: SliceRecord) -> None:
        """One more that waits."""
        self._records[record.id] = record

    def discard(self, slice_id: str) -> None:
        """It waits no longer."""
        self._records.pop(slice_id, None)

    def in_order(self) -> list[str]:
        """Ids, the highest priority first, then the oldest."""
        ordered = sorted(self._records.values(), key=lambda record: (-record.request.priority, record.request_sequence))
        return [record.id for record in ordered]

    def due(self, now_ns: int) -> bool:
        """Whether somebody's time is up."""
        return any(record.until <= now_ns for record in self._records.values())

    def wake(self) -> None:
        """Have all of them tried again, if there are any."""
        if self._records:
            self.changed.set()
