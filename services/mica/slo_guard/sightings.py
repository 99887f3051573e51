"""What a replica has seen of slices at work: telemetry's counters as rates, and what reports say of a slice's own demand.

Invariant: memory is bounded by ``KEPT`` samples of each slice and device, and by slices that were seen within ``FORGET_S``. Every
replica follows telemetry by itself; only reports are shared, so that of those each sees a part, which is a fair sample.
"""

from collections import deque
from typing import Final

from msgspec import Struct

from mica.events import PPM, SliceSampled, SloReported

KEPT: Final = 120
FORGET_S: Final = 180.0
SWEEP: Final = 2048
PARALLEL_MAX: Final = 64.0
"""A slice's streams on a device: what a tenant's counters claim beyond that is cut off."""


class Rate(Struct, frozen=True, gc=False):
    """What a slice did of a device between two samples (s, on the guard's clock).

    ``gpu`` and ``throttled`` are parts of the time: working, and held back.
    """

    from_s: float
    to_s: float
    gpu: float
    copied_bytes_per_s: float
    launches_hz: float
    throttled: float


class Seen(Struct, frozen=True, gc=False):
    """One window of a slice's own, ``window_s`` long: how many requests came, and how bad it was (observed over promised)."""

    at_s: float
    came: float
    window_s: float
    badness: float

    @property
    def demand_hz(self) -> float:
        """Requests a second."""
        return self.came / self.window_s


class _Series(Struct):
    last: SliceSampled
    last_s: float
    since_s: float
    rates: deque[Rate]


class Sightings:
    """One replica's memory."""

    def __init__(self) -> None:
        self._devices: dict[str, dict[str, _Series]] = {}
        self._reports: dict[str, deque[Seen]] = {}
        self._backlog: dict[str, int] = {}
        self._count = 0

    def see(self, sample: SliceSampled, now_s: float) -> None:
        """Take in a sample. A counter that went back belongs to a region that started over."""
        slices = self._devices.setdefault(sample.device_id, {})
        series = slices.get(sample.id)
        if series is None:
            slices[sample.id] = _Series(sample, now_s, now_s, deque(maxlen=KEPT))
        else:
            elapsed_s = (sample.at - series.last.at) / 1e9
            if elapsed_s <= 0:
                return
            rate = _rate(series, sample, elapsed_s, now_s)
            if rate is not None:
                series.rates.append(rate)
            series.last, series.last_s = sample, now_s
        self._count += 1
        if self._count % SWEEP == 0:
            self._forget(now_s)

    def hear(self, report: SloReported, badness: float, now_s: float) -> None:
        """Take in a report. What came is what ended, and by how much the queue has grown."""
        backlog = report.queued + report.inflight
        grown = max(0, backlog - self._backlog.get(report.id, backlog))
        self._backlog[report.id] = backlog
        came = report.requests + report.errors + report.refused + grown
        kept = self._reports.setdefault(report.id, deque(maxlen=KEPT))
        kept.append(Seen(now_s, came, report.window_s, badness))
        self._count += 1
        if self._count % SWEEP == 0:
            self._forget(now_s)

    def rates(self, device_id: str, slice_id: str) -> tuple[Rate, ...]:
        """What was seen of a slice there, oldest first."""
        series = self._devices.get(device_id, {}).get(slice_id)
        return tuple(series.rates) if series is not None else ()

    def on(self, device_id: str) -> tuple[str, ...]:
        """The slices that were seen there."""
        return tuple(self._devices.get(device_id, {}))

    def share_ppm(self, device_id: str, slice_id: str) -> int:
        """The share that its last sample told; 0: none did."""
        series = self._devices.get(device_id, {}).get(slice_id)
        return series.last.share_ppm if series is not None else 0

    def since_s(self, device_id: str) -> float | None:
        """Since when the device has been followed; None: it is not."""
        return min((series.since_s for series in self._devices.get(device_id, {}).values()), default=None)

    def began_s(self, device_id: str, slice_id: str) -> float | None:
        """When the slice was first seen there."""
        series = self._devices.get(device_id, {}).get(slice_id)
        return series.since_s if series is not None else None

    def reports(self, slice_id: str) -> tuple[Seen, ...]:
        """What the slice's own reports said, oldest first."""
        return tuple(self._reports.get(slice_id, ()))

    def _forget(self, now_s: float) -> None:
        for device_id, slices in list(self._devices.items()):
            for slice_id in [each for each, series in slices.items() if now_s - series.last_s > FORGET_S]:
                del slices[slice_id]
            if not slices:
                del self._devices[device_id]
        for slice_id in [each for each, seen in self._reports.items() if now_s - seen[-1].at_s > FORGET_S]:
            del self._reports[slice_id]
            self._backlog.pop(slice_id, None)


def _rate(series: _Series, sample: SliceSampled, elapsed_s: float, now_s: float) -> Rate | None:
    last = series.last
    grown = {name: getattr(sample, name) - getattr(last, name) for name in ("gpu_ns", "copied_bytes", "launches", "throttled_ns")}
    if min(grown.values()) < 0:
        return None
    return Rate(
        from_s=now_s - elapsed_s,
        to_s=now_s,
        gpu=min(grown["gpu_ns"] / 1e9 / elapsed_s, PARALLEL_MAX),
        copied_bytes_per_s=grown["copied_bytes"] / elapsed_s,
        launches_hz=grown["launches"] / elapsed_s,
        throttled=min(grown["throttled_ns"] / 1e9 / elapsed_s, PARALLEL_MAX),
    )


def share(ppm: int) -> float:
    """Parts per million as a part."""
    return ppm / PPM
