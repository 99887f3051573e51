"""The durable sum of what slices have used: cumulative, whatever restarts. Pure.

Invariant: a slice's ``gpu_ns`` and ``vram_byte_s`` never shrink, and no nanosecond of a region's counter is summed twice.
What was read and not yet persisted when telemetry dies is read again: the region's counters are cumulative themselves.
"""

from collections.abc import Collection, Mapping
from typing import Final

import msgspec
from msgspec import Struct

from mica.events import Usage, UsageLedger

GONE_KEPT: Final = 1000
"""Slices that are gone and still listed; older ones drop out."""

PARALLEL_MAX: Final = 64
"""A slice's processes on one device: together they use no more than so many nanoseconds of it in one."""

CEILING_NS: Final = (1 << 63) - 1
NS_PER_S: Final = 1_000_000_000


class Reading(Struct, frozen=True, kw_only=True):
    """One device's counters of a slice: ``gpu_ns`` is cumulative, ``vram_bytes`` is held now."""

    gpu_ns: int
    vram_bytes: int


class Moment(Struct, frozen=True, kw_only=True):
    """When a reading was taken: wall time, and how long the machine had been up."""

    unix_ns: int
    uptime_ns: int


def charge(usage: Usage, readings: Mapping[str, Reading], moment: Moment) -> Usage:
    """``usage`` after ``readings``, which are by device.

    A counter below its last value belongs to a region that started over. Memory is charged at its present level for all the
    time since the last reading. A tenant writes its region itself: a counter that claims more time than has passed is cut off.
    """
    elapsed_s = max(0, moment.unix_ns - usage.last_seen) / NS_PER_S if usage.last_seen else 0.0
    gpu_ns, vram_byte_s = usage.gpu_ns, usage.vram_byte_s
    for device_id, reading in readings.items():
        before = usage.counters.get(device_id)
        resumed = before is not None and reading.gpu_ns >= before
        gpu_ns += reading.gpu_ns - (before or 0) if resumed else reading.gpu_ns
        vram_byte_s += reading.vram_bytes * elapsed_s if resumed else 0.0
    alive_ns = max(moment.uptime_ns, moment.unix_ns - (usage.since or moment.unix_ns))
    counters = {**usage.counters, **{device_id: reading.gpu_ns for device_id, reading in readings.items()}}
    possible_ns = min(CEILING_NS, alive_ns * PARALLEL_MAX * len(counters))
    return msgspec.structs.replace(
        usage,
        gpu_ns=max(usage.gpu_ns, min(gpu_ns, possible_ns)),
        vram_byte_s=vram_byte_s,
        since=usage.since or moment.unix_ns,
        last_seen=max(usage.last_seen, moment.unix_ns),
        counters=counters,
    )


class Book:
    """The usage of every slice of a node, gone ones included. ``dirty`` tells whether it changed since it was last taken."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._usages: dict[str, Usage] = {}
        self.dirty = False

    def restore(self, stored: UsageLedger) -> None:
        """Go on from a stored ledger; what this book has summed further stays."""
        for slice_id, usage in stored.slices.items():
            own = self._usages.get(slice_id)
            if own is None or (own.gpu_ns, own.vram_byte_s) < (usage.gpu_ns, usage.vram_byte_s):
                self._usages[slice_id] = usage

    def charge(self, slice_id: str, tenant: str, readings: Mapping[str, Reading], moment: Moment) -> None:
        """Add what ``slice_id`` used up to ``moment``."""
        before = self._usages.get(slice_id) or Usage(tenant=tenant)
        self._usages[slice_id] = charge(before, readings, moment)
        self.dirty = True

    def ledger(self, live: Collection[str]) -> UsageLedger:
        """The document to store: every living slice, and the newest of those that are gone."""
        gone = sorted((slice_id for slice_id in self._usages if slice_id not in live), key=lambda s: self._usages[s].last_seen)
        for slice_id in gone[: max(0, len(gone) - GONE_KEPT)]:
            del self._usages[slice_id]
        return UsageLedger(node=self._node, slices=dict(self._usages))
