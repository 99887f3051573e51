"""Which reports are looked at. Pure.

Invariant: what a report costs before it is known to be sound is a look into a table of bounded size; what is turned away is
counted by reason, and told at most once in ``TELL_S`` for each.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from mica.events import SloIgnored, SloReported

NS_PER_S: Final = 1_000_000_000
FUTURE_S: Final = 5.0
"""So far ahead of ours may a reporter's clock be."""
WINDOW_MAX_S: Final = 3600.0
RATE_HZ: Final = 20.0
"""Reports of one slice a second and replica; a gate sends two."""
BURST: Final = 40.0
STRANGERS_HZ: Final = 50.0
"""Reports of slices that were not known lately, a second and replica: each costs a question to the server."""
SLICES_MAX: Final = 8192
NAMED_MAX: Final = 8
TELL_S: Final = 60.0

MEASURED: Final = ("p99_ms", "ttft_ms", "tpot_ms", "rate_hz", "p50_ms", "p95_ms")
COUNTED: Final = ("requests", "errors", "refused", "queued", "inflight", "overdue")

UNKNOWN, FUTURE, STALE, MALFORMED, TOO_MANY = "unknown_slice", "from_the_future", "stale", "malformed", "too_many"
NOT_FINITE, NEGATIVE, WINDOW, COUNTS = "not_finite", "negative", "window", "counts"


class Bucket:
    """A token bucket on a clock that is handed in, in ns."""

    def __init__(self, rate_hz: float, burst: float, now: int) -> None:
        self._rate_hz, self._burst = rate_hz, burst
        self._left, self._at = burst, now

    def take(self, now: int) -> bool:
        """Whether there is one left."""
        self._left = min(self._burst, self._left + max(0, now - self._at) * self._rate_hz / NS_PER_S)
        self._at = max(self._at, now)
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Ignored(Struct):
    """What was turned away for one reason since ``since``."""

    since: int
    count: int = 0
    slices: dict[str, int] = {}
    example: str = ""


class Intake:
    """One replica's door. ``known``: the slices that were found to exist lately, the latest last."""

    def __init__(self, stale_s: float) -> None:
        self._stale_s = stale_s
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()
        self._strangers: Bucket | None = None
        self._ignored: dict[str, Ignored] = {}

    def refuse(self, report: SloReported, now: int) -> str:
        """Why the report is not looked at; empty when it is."""
        reason, example = self._why_not(report, now)
        if reason:
            self.ignore(reason, report.id, example, now)
        return reason

    def knows(self, slice_id: str) -> None:
        """A slice of that name exists."""
        self._known[slice_id] = None
        self._known.move_to_end(slice_id)
        if len(self._known) > SLICES_MAX:
            self._known.popitem(last=False)

    def ignore(self, reason: str, slice_id: str, example: str, now: int) -> None:
        """Count a report that is not looked at."""
        entry = self._ignored.setdefault(reason, Ignored(now, slices={}))
        entry.count += 1
        entry.example = entry.example or example[:120]
        if slice_id and (slice_id in entry.slices or len(entry.slices) < NAMED_MAX):
            entry.slices[slice_id] = entry.slices.get(slice_id, 0) + 1

    def tell(self, now: int, wait_s: float = TELL_S) -> Iterator[SloIgnored]:
        """What has been turned away and not been told, of each reason once in ``wait_s``; the first time soon."""
        for reason, entry in list(self._ignored.items()):
            if now - entry.since < wait_s * NS_PER_S or not entry.count:
                continue
            seconds = (now - entry.since) / NS_PER_S
            yield SloIgnored(
                at=now, reason=reason, count=entry.count, seconds=seconds, slices=dict(entry.slices), example=entry.example
            )
            self._ignored[reason] = Ignored(now, slices={})

    def _why_not(self, report: SloReported, now: int) -> tuple[str, str]:
        if not self._bucket(report.id, now).take(now):
            return TOO_MANY, f"more than {RATE_HZ:g} a second"
        wrong = unsound(report)
        if wrong[0]:
            return wrong
        # A reporter without a clock says 0.
        ahead_s = (report.at - now) / NS_PER_S
        if report.at and ahead_s > FUTURE_S:
            return FUTURE, f"{ahead_s:.0f} s ahead"
        if report.at and -ahead_s > self._stale_s + report.window_s:
            return STALE, f"{-ahead_s:.0f} s old"
        if report.id not in self._known:
            self._strangers = self._strangers or Bucket(STRANGERS_HZ, STRANGERS_HZ, now)
            if not self._strangers.take(now):
                return UNKNOWN, "not looked for: too many such"
        return "", ""

    def _bucket(self, slice_id: str, now: int) -> Bucket:
        bucket = self._buckets.get(slice_id)
        if bucket is None:
            bucket = self._buckets[slice_id] = Bucket(RATE_HZ, BURST, now)
            if len(self._buckets) > SLICES_MAX:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(slice_id)
        return bucket


def unsound(report: SloReported) -> tuple[str, str]:
    """What is wrong with the figures of a report, and an example; both empty when nothing is."""
    figures = {name: getattr(report, name) for name in (*MEASURED, "window_s")}
    for name, value in figures.items():
        if value is not None and not math.isfinite(value):
            return NOT_FINITE, f"{name}: {value}"
        if value is not None and value < 0:
            return NEGATIVE, f"{name}: {value:g}"
    if not 0 < report.window_s <= WINDOW_MAX_S:
        return WINDOW, f"window_s: {report.window_s:g}, allowed: above 0 and up to {WINDOW_MAX_S:g}"
    for name in COUNTED:
        if getattr(report, name) < 0:
            return NEGATIVE, f"{name}: {getattr(report, name)}"
    return _uncountable(report)


def _uncountable(report: SloReported) -> tuple[str, str]:
    """Which part is said to be more than the whole."""
    if report.late is not None and not 0 <= report.late <= report.requests:
        return COUNTS, f"late: {report.late} of {report.requests} requests"
    if report.overdue > report.inflight:
        return COUNTS, f"overdue: {report.overdue} of {report.inflight} in flight"
    return "", ""
