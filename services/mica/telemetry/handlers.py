"""Turns what is observed into samples on the bus and into the usage ledger.

Invariant: a bus that is away costs samples, never usage; the ledger is written by compare-and-set and never loses what it held.
"""

import asyncio
import logging
from collections import defaultdict
from typing import Final, Protocol

from mica.bus import Bus, BusError, Clock, Entry, StaleRevisionError
from mica.events import DeviceSampled, Fact, Ledger, Observed, SliceSampled, UsageLedger
from mica.telemetry.accounting import Book, Moment, Reading
from mica.telemetry.sources import COUNTER_MAX, Sampled, SliceReading
from mica.telemetry.targets import Target, targets, tenants

FLUSH_S: Final = 10.0

log = logging.getLogger(__name__)


class Source(Protocol):
    """Where readings come from. The call blocks."""

    def read(self, targets: tuple[Target, ...], leaving: tuple[Target, ...]) -> Sampled:
        """Every target that can be read; of those leaving, whatever is still there."""


class Sampler:
    """Samples one node's slices while there are any."""

    def __init__(self, bus: Bus, node: str, source: Source, clock: Clock) -> None:
        self._bus = bus
        self._node = node
        self._source = source
        self._clock = clock
        self._key = f"usage.{node}"
        self._book = Book(node)
        self._stored: Entry[UsageLedger] | None = None
        self._observed = Observed(node=node, boot_id="")
        self._tenants: dict[str, str] = {}
        self._targets: tuple[Target, ...] = ()
        self._leaving: list[Target] = []
        self._flushed_ns = clock.monotonic_ns()
        self._bus_away = False
        # Wall time may be set while we run; the time between two samples must not change with it.
        self._epoch_ns = clock.unix_ns() - clock.monotonic_ns()
        self.busy = False
        """Whether there is anything to sample or to write."""

    async def restore(self) -> None:
        """Go on from the stored ledger.

        Raises:
            BusError: it cannot be read now.
        """
        self._stored = await self._bus.state.get(self._key, UsageLedger)
        if self._stored is not None:
            self._book.restore(self._stored.value)

    def on_ledger(self, ledger: Ledger) -> None:
        """Learn whose the slices are."""
        known = tenants(ledger)
        present = {slice_id for slices in self._observed.devices.values() for slice_id in slices}
        self._tenants = {s: t for s, t in self._tenants.items() if s in present} | known
        self._retarget()

    def on_observed(self, observed: Observed) -> None:
        """Learn which slices there are."""
        self._observed = observed
        self._retarget()

    def _retarget(self) -> None:
        chosen = targets(self._observed, self._tenants)
        staying = {(target.slice_id, target.device_id) for target in chosen}
        self._leaving += [t for t in self._targets if (t.slice_id, t.device_id) not in staying]
        self._targets = chosen
        if chosen or self._leaving:
            self.busy = True

    async def on_tick(self) -> None:
        """Sample once; write the ledger when it is time, or when a slice has gone."""
        at = Moment(unix_ns=self._epoch_ns + self._clock.monotonic_ns(), uptime_ns=self._clock.monotonic_ns())
        leaving = tuple(self._leaving)
        self._leaving.clear()
        if self._targets or leaving:
            sampled = await asyncio.to_thread(self._source.read, self._targets, leaving)
            self._charge(sampled, at)
            await self._publish(sampled)
        if leaving or self._clock.monotonic_ns() - self._flushed_ns >= FLUSH_S * 1e9:
            await self.flush()
        if not (self._targets or self._leaving or self._book.dirty):
            self.busy = False

    async def flush(self) -> None:
        """Write the ledger if it changed; what cannot be written now stays for the next time."""
        self._flushed_ns = self._clock.monotonic_ns()
        if not self._book.dirty:
            return
        self._book.dirty = False
        try:
            await self._store()
        except BusError as error:
            self._book.dirty = True
            log.warning("usage is not written now: %s", error)

    def _charge(self, sampled: Sampled, at: Moment) -> None:
        by_slice: dict[str, list[SliceReading]] = defaultdict(list)
        for reading in sampled.slices:
            by_slice[reading.target.slice_id].append(reading)
        for slice_id, found in by_slice.items():
            readings = {r.target.device_id: Reading(gpu_ns=r.gpu_ns, vram_bytes=r.vram_used_bytes) for r in found}
            self._book.charge(slice_id, found[0].target.tenant, readings, at)

    async def _publish(self, sampled: Sampled) -> None:
        outcomes = await asyncio.gather(*(self._bus.publish(event) for event in self._events(sampled)), return_exceptions=True)
        failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        unexpected = [outcome for outcome in failed if not isinstance(outcome, BusError)]
        if unexpected:
            raise unexpected[0]
        if failed and not self._bus_away:
            log.warning("%d samples are lost: %s", len(failed), failed[0])
        self._bus_away = bool(failed)

    def _events(self, sampled: Sampled) -> list[Fact]:
        now = self._clock.unix_ns()
        devices: list[Fact] = [
            DeviceSampled(
                at=now,
                node=self._node,
                device_id=device_id,
                vram_used_bytes=reading.vram_used_bytes,
                vram_total_bytes=reading.vram_total_bytes,
                utilisation_ppm=reading.utilisation_ppm or 0,
                power_mw=reading.power_mw or 0,
                temperature_c=reading.temperature_c or 0,
                switches=min(token.switches, COUNTER_MAX) if token is not None else 0,
                switch_ns=min(token.switch_ns, COUNTER_MAX) if token is not None else 0,
                switch_late_ns=min(token.late_ns, COUNTER_MAX) if token is not None else 0,
            )
            for device_id, reading in sampled.devices
            for token in [sampled.tokens.get(device_id)]
        ]
        return devices + [self._slice_event(reading, now) for reading in sampled.slices]

    def _slice_event(self, reading: SliceReading, now: int) -> SliceSampled:
        target = reading.target
        return SliceSampled(
            at=now,
            id=target.slice_id,
            tenant=target.tenant,
            node=self._node,
            device_id=target.device_id,
            vram_used_bytes=reading.vram_used_bytes,
            vram_peak_bytes=reading.vram_peak_bytes,
            vram_limit_bytes=target.vram_limit_bytes,
            gpu_ns=reading.gpu_ns,
            throttled_ns=reading.throttled_ns,
            launches=reading.launches,
            refusals=reading.refusals,
            processes=reading.processes,
            share_ppm=target.share_ppm,
            source=reading.source,
            copied_bytes=reading.copied_bytes,
            inflight=reading.inflight,
        )

    async def _store(self) -> None:
        document = self._book.ledger({target.slice_id for target in self._targets})
        try:
            if self._stored is None:
                revision = await self._bus.state.create(self._key, document)
            else:
                revision = await self._bus.state.update(self._key, document, self._stored.revision)
        except StaleRevisionError:
            # A write of ours whose answer was lost, or a predecessor's last one: take it in and write again next time.
            await self.restore()
            raise
        self._stored = Entry(self._key, document, revision)
