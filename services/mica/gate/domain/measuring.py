"""What a gate saw in a window, as ``slo.report`` tells it, and since it was started.

Invariant: a request is counted once: answered, failed, refused, declined by the upstream (4xx) or abandoned by its client.
Latencies are those of answered requests alone: a refusal or a 4xx says nothing about how fast a server is.
"""

from collections import deque
from typing import Final

from msgspec import Struct

from mica.events import Slo, SloReported
from mica.gate.domain.percentiles import Histogram

MS_NS: Final = 1_000_000
S_NS: Final = 1_000_000_000
SOURCE: Final = "gate"
KEPT_WINDOWS: Final = 60
_LATENCIES: Final = ("p50_ms", "p95_ms", "p99_ms")


class Measured(Struct, frozen=True, kw_only=True):
    """One answer, in the server's time. None: it could not be told."""

    latency_ns: int
    ttft_ns: int | None = None
    tpot_ns: int | None = None


class Load(Struct, frozen=True, kw_only=True):
    """How many requests wait and how many are being answered, some of which for too long already (``overdue``)."""

    queued: int = 0
    inflight: int = 0
    overdue: int = 0


class Totals(Struct, kw_only=True):
    """Counts since the gate was started. ``refused`` is by reason."""

    requests: int = 0
    late: int = 0
    errors: int = 0
    declined: int = 0
    abandoned: int = 0
    refused: dict[str, int] = {}


def is_late(slo: Slo, measured: Measured) -> bool:
    """Whether a request broke an objective. What could not be told is not judged."""
    return _breaks(slo.tpot_ms, measured.tpot_ns) or is_overdue(slo, measured)


def is_overdue(slo: Slo, measured: Measured) -> bool:
    """Whether a request has broken an objective, however soon its end comes: the time from token to token may yet be better."""
    return _breaks(slo.p99_ms, measured.latency_ns) or _breaks(slo.ttft_ms, measured.ttft_ns)


def _breaks(promised: float | None, took_ns: int | None) -> bool:
    return promised is not None and took_ns is not None and took_ns > promised * MS_NS


class _Window:
    """One window."""

    def __init__(self, now_ns: int) -> None:
        self.began_ns = now_ns
        self.latency, self.ttft, self.tpot = Histogram(), Histogram(), Histogram()
        self.late = self.errors = self.refused = self.overflowed = 0

    @property
    def busy(self) -> bool:
        """Whether anything was counted in it."""
        return bool(self.latency.total or self.errors or self.refused)

    def add(self, measured: Measured) -> None:
        self.latency.add(measured.latency_ns)
        if measured.ttft_ns is not None:
            self.ttft.add(measured.ttft_ns)
        if measured.tpot_ns is not None:
            self.tpot.add(measured.tpot_ns)


class Meter:
    """Counts the requests of one slice. ``slo`` is what the slice was promised, None while that is not known."""

    def __init__(self, slice_id: str, now_ns: int) -> None:
        self.slo: Slo | None = None
        self.totals = Totals()
        self._slice_id = slice_id
        self._window = _Window(now_ns)
        self._kept: deque[_Window] = deque(maxlen=KEPT_WINDOWS)
        self._told_busy = False

    def answered(self, measured: Measured) -> None:
        """The upstream has answered, below 400."""
        self._window.add(measured)
        self.totals.requests += 1
        if self.slo is not None and is_late(self.slo, measured):
            self._window.late += 1
            self.totals.late += 1

    def failed(self) -> None:
        """5xx, an upstream that could not be reached, was silent for too long, or broke off."""
        self._window.errors += 1
        self.totals.errors += 1

    def declined(self) -> None:
        """The upstream said 4xx: the client's mistake."""
        self.totals.declined += 1

    def refused(self, code: str, *, crowded: bool) -> None:
        """A guardrail turned a request away; ``crowded``: because more was asked than can be served."""
        self._window.refused += 1
        self._window.overflowed += crowded
        self.totals.refused[code] = self.totals.refused.get(code, 0) + 1

    def abandoned(self, measured: Measured) -> None:
        """The client left after ``measured.latency_ns``. It counts as answered that late if an objective was broken by then.

        Else those that are slow enough to be given up would be missing from the percentiles.
        """
        self.totals.abandoned += 1
        if self.slo is not None and is_late(self.slo, measured):
            self.answered(measured)

    def report(self, now: tuple[int, int], load: Load) -> SloReported | None:
        """End the window at (monotonic, Unix) ``now``; None when nothing happened in this one nor in the one before."""
        window, self._window = self._window, _Window(now[0])
        self._kept.append(window)
        busy = window.busy or load.queued > 0 or load.inflight > 0
        told, self._told_busy = busy or self._told_busy, busy
        return self._told(window, now, load) if told else None

    def recent(self) -> dict[str, float | None]:
        """Percentiles over the last windows, in milliseconds; None: nothing was measured."""
        merged = _Window(0)
        for window in self._kept:
            for name in ("latency", "ttft", "tpot"):
                getattr(merged, name).merge(getattr(window, name))
        return {
            "requests": merged.latency.total,
            **_latencies(merged.latency),
            "ttft_ms": _p99(merged.ttft),
            "tpot_ms": _p99(merged.tpot),
        }

    def _told(self, window: _Window, now: tuple[int, int], load: Load) -> SloReported:
        window_s = max(now[0] - window.began_ns, 1) / S_NS
        requests = window.latency.total
        saturated = load.queued > 0 or window.overflowed > 0
        return SloReported(
            at=now[1],
            id=self._slice_id,
            window_s=round(window_s, 6),
            requests=requests,
            **_latencies(window.latency),
            ttft_ms=_p99(window.ttft),
            tpot_ms=_p99(window.tpot),
            # A rate below what was promised is a broken promise only while more is asked for.
            rate_hz=round(requests / window_s, 3) if saturated else None,
            late=window.late if self.slo is not None else None,
            errors=window.errors,
            refused=window.refused,
            queued=load.queued,
            inflight=load.inflight,
            overdue=load.overdue,
            source=SOURCE,
        )


def _ms(time_ns: int) -> float:
    return round(time_ns / MS_NS, 6)


def _latencies(histogram: Histogram) -> dict[str, float | None]:
    """By the names that they have in ``slo.report``."""
    values = histogram.percentiles_ns(500_000, 950_000, 990_000)
    return {name: _ms(value) if histogram.total else None for name, value in zip(_LATENCIES, values, strict=True)}


def _p99(histogram: Histogram) -> float | None:
    return _ms(histogram.percentiles_ns(990_000)[0]) if histogram.total else None
