"""What counts as a broken promise."""

import math

import pytest

from mica.events import Slo, SloReported
from mica.slo_guard.judge import better, judge, value_of

NOW = 1_700_000_000_000_000_000


def report(**measured: float | None) -> SloReported:
    """A report of slice s1."""
    return SloReported(at=NOW, id="s1", **measured)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("slo", "measured", "objective"),
    [
        (Slo(p99_ms=50), {"p99_ms": 50.1}, "p99_ms"),
        (Slo(ttft_ms=200), {"ttft_ms": 300.0}, "ttft_ms"),
        (Slo(tpot_ms=20), {"tpot_ms": 21.0}, "tpot_ms"),
        (Slo(rate_hz=10), {"rate_hz": 9.0, "requests": 9}, "rate_hz"),
        (Slo(rate_hz=10), {"rate_hz": 0.0, "requests": 9}, "rate_hz"),
        (Slo(p99_ms=50, ttft_ms=200), {"p99_ms": 60.0, "ttft_ms": 600.0}, "ttft_ms"),
    ],
)
def test_broken(slo: Slo, measured: dict[str, float], objective: str) -> None:
    """The objective that is missed by most is named."""
    breach = judge(slo, report(**measured))
    assert breach is not None
    assert breach.objective == objective
    assert breach.ratio > 1


@pytest.mark.parametrize(
    ("slo", "measured"),
    [
        (Slo(p99_ms=50), {"p99_ms": 50.0}),
        (Slo(p99_ms=50), {"ttft_ms": 900.0}),
        (Slo(p99_ms=50), {"p99_ms": math.nan}),
        (Slo(p99_ms=50), {"p99_ms": math.inf}),
        (Slo(p99_ms=50), {"p99_ms": -1.0}),
        (Slo(rate_hz=10), {"rate_hz": 10.0, "requests": 10}),
        (Slo(rate_hz=10), {"rate_hz": 0.0}),
        (Slo(rate_hz=10), {"rate_hz": -math.inf, "requests": 1}),
        (Slo(), {"p99_ms": 1e9}),
    ],
)
def test_kept(slo: Slo, measured: dict[str, float]) -> None:
    """At the bound a promise is kept; what was not measured, or measured to nonsense, and an idle window break none."""
    assert judge(slo, report(**measured)) is None


def test_what_a_report_says_of_an_objective() -> None:
    """A latency as measured, the part that was late or failed as counted, and nothing where no request ended."""
    assert value_of(report(p99_ms=7.0), "p99_ms") == 7.0
    assert value_of(report(p99_ms=math.nan), "p99_ms") is None
    assert value_of(report(requests=8, late=1, errors=2), "late") == 0.3
    assert value_of(report(late=0), "late") is None


def test_better_is_less_but_for_a_rate() -> None:
    """A fifth less of a latency, a fifth more of a rate."""
    assert better("p99_ms", 100.0, 80.0, 0.2)
    assert not better("p99_ms", 100.0, 81.0, 0.2)
    assert better("rate_hz", 10.0, 12.0, 0.2)
    assert not better("rate_hz", 10.0, 8.0, 0.2)
