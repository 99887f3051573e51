"""Whether a window broke a promise. Pure. Invariant: what was not measured is not judged."""

import math
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from mica.events import Slo, SloReported

LATENCIES: Final = ("p99_ms", "ttft_ms", "tpot_ms")
LATE: Final = "late"
"""The objective of a window whose percentiles say nothing: the part of its requests that were late or failed."""


class Breach(Struct, frozen=True, kw_only=True):
    """The worst broken objective of a window. ``ratio`` is how far it is off: above 1."""

    objective: str
    observed: float
    promised: float
    ratio: float


def judge(slo: Slo, report: SloReported) -> Breach | None:
    """The objective that is missed by most, or None. What was not measured is not judged, nor is the rate of an idle window."""
    return max(_breaches(slo, report), key=lambda breach: breach.ratio, default=None)


def value_of(report: SloReported, objective: str) -> float | None:
    """What a report says of an objective; None where it says nothing, as when no request ended."""
    ended = report.requests + report.errors
    if objective == LATE:
        return ((report.late or 0) + report.errors) / ended if ended else _overdue(report)
    value: float | None = getattr(report, objective)
    return value if _measured(value) else None


def _overdue(report: SloReported) -> float | None:
    """Where nothing ended: the part of what is being answered that is late already."""
    return report.overdue / report.inflight if report.overdue and report.inflight else None


def better(objective: str, before: float, after: float, by: float) -> bool:
    """Whether ``after`` is better than ``before`` by that part of it."""
    return after >= before * (1 + by) if objective == "rate_hz" else after <= before * (1 - by)


def _breaches(slo: Slo, report: SloReported) -> Iterator[Breach]:
    for objective in LATENCIES:
        promised, observed = getattr(slo, objective), getattr(report, objective)
        if promised is not None and _measured(observed) and observed > promised:
            yield Breach(objective=objective, observed=observed, promised=promised, ratio=observed / promised)
    idle = not report.requests and not report.rate_hz
    if slo.rate_hz is not None and report.rate_hz is not None and _measured(report.rate_hz) and not idle:
        promised, observed = slo.rate_hz, max(report.rate_hz, 0.0)
        if observed < promised:
            ratio = promised / observed if observed else math.inf
            yield Breach(objective="rate_hz", observed=observed, promised=promised, ratio=ratio)


def _measured(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
