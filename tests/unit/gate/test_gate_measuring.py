"""What a window is told to have been like."""

from mica.events import Slo, SloReported
from mica.gate.domain.measuring import KEPT_WINDOWS, Load, Measured, Meter, is_overdue

MS = 1_000_000
S = 1_000_000_000
UNIX = 1_700_000_000 * S
IDLE = Load()


def meter(slo: Slo | None = None) -> Meter:
    """A meter of slice s1, begun at 0."""
    made = Meter("s1", 0)
    made.slo = slo
    return made


def ended(made: Meter, load: Load = IDLE, at: int = S) -> SloReported:
    """The report of a window that has something to tell."""
    report = made.report((at, UNIX + at), load)
    assert report is not None
    return report


def close(value: float | None, expected: float) -> bool:
    """Within the error of the percentiles."""
    return value is not None and abs(value - expected) <= expected / 256


def test_a_window_is_told_in_full() -> None:
    """Percentiles, counts and load of one window; the next one begins with nothing."""
    made = meter(Slo(p99_ms=99.5))
    for number in range(1, 101):
        made.answered(Measured(latency_ns=number * MS, ttft_ns=number * MS // 2, tpot_ns=MS))
    made.failed()
    made.refused("rate_limit_exceeded", crowded=False)
    report = ended(made, Load(inflight=4), 2 * S)
    assert (report.id, report.source, report.at, report.window_s) == ("s1", "gate", UNIX + 2 * S, 2.0)
    assert (report.requests, report.late, report.errors, report.refused) == (100, 1, 1, 1)
    assert (report.queued, report.inflight, report.rate_hz) == (0, 4, None)
    measured = (report.p50_ms, report.p95_ms, report.p99_ms, report.ttft_ms, report.tpot_ms)
    assert all(close(value, expected) for value, expected in zip(measured, (50, 95, 99, 49.5, 1), strict=True))
    following = ended(made, at=3 * S)
    assert (following.requests, following.p99_ms, following.errors, following.late) == (0, None, 0, 0)


def test_each_objective_makes_late() -> None:
    """A request is late by its latency, its first token or its pace; on the dot is in time; what was not told is not judged."""
    made = meter(Slo(p99_ms=100, ttft_ms=50, tpot_ms=10))
    for measured in (
        Measured(latency_ns=100 * MS, ttft_ns=50 * MS, tpot_ns=10 * MS),
        Measured(latency_ns=100 * MS + 1),
        Measured(latency_ns=MS, ttft_ns=50 * MS + 1),
        Measured(latency_ns=MS, tpot_ns=10 * MS + 1),
    ):
        made.answered(measured)
    assert ended(made).late == 3


def test_what_is_being_answered_may_be_late_already() -> None:
    """By its latency or its first token; the time from token to token may yet be better."""
    slo = Slo(p99_ms=100, ttft_ms=50, tpot_ms=10)
    assert is_overdue(slo, Measured(latency_ns=100 * MS + 1))
    assert is_overdue(slo, Measured(latency_ns=60 * MS, ttft_ns=50 * MS + 1))
    assert not is_overdue(slo, Measured(latency_ns=100 * MS, ttft_ns=50 * MS, tpot_ns=11 * MS))
    assert ended(meter(slo), Load(inflight=4, overdue=2)).overdue == 2


def test_without_an_slo_nobody_counts_late() -> None:
    """Late is None, not 0, where nothing is promised or nobody knows what is."""
    made = meter()
    made.answered(Measured(latency_ns=S))
    assert ended(made).late is None


def test_a_rate_is_told_only_while_more_is_asked_for() -> None:
    """A low rate is no breach when nobody asks for more: it is told only when requests wait or were crowded out."""
    made = meter()
    made.answered(Measured(latency_ns=MS))
    assert ended(made).rate_hz is None
    made.answered(Measured(latency_ns=MS))
    assert ended(made, Load(queued=1), 2 * S).rate_hz == 1.0
    made.refused("queue_full", crowded=True)
    assert ended(made, at=3 * S).rate_hz == 0.0
    made.refused("rate_limit_exceeded", crowded=False)
    assert ended(made, at=4 * S).rate_hz is None


def test_who_gives_up_late_is_late() -> None:
    """A client that leaves after an objective is broken counts with the time it waited; one that leaves before does not."""
    made = meter(Slo(p99_ms=100))
    made.abandoned(Measured(latency_ns=50 * MS))
    made.abandoned(Measured(latency_ns=500 * MS))
    report = ended(made)
    assert (report.requests, report.late) == (1, 1)
    assert close(report.p99_ms, 500)
    assert (made.totals.abandoned, made.totals.requests) == (2, 1)


def test_what_the_upstream_declines_makes_nothing_look_fast() -> None:
    """A 4xx is neither an error nor a request whose latency counts."""
    made = meter()
    made.declined()
    assert made.report((S, UNIX), IDLE) is None
    assert made.totals.declined == 1


def test_silence_is_told_once() -> None:
    """After work there is one empty window, then none, until something happens; what is under way keeps windows coming."""
    made = meter()
    assert made.report((S, UNIX), IDLE) is None
    assert ended(made, Load(inflight=1), 2 * S).requests == 0
    assert ended(made, at=3 * S).inflight == 0
    assert made.report((4 * S, UNIX), IDLE) is None


def test_the_last_minute_is_added_up() -> None:
    """Percentiles over the windows that are kept; older ones are gone; nothing measured is None."""
    made = meter()
    assert made.recent()["p99_ms"] is None
    for number in range(KEPT_WINDOWS + 1):
        made.answered(Measured(latency_ns=S if number == 0 else MS))
        made.report(((number + 1) * S, UNIX), IDLE)
    recent = made.recent()
    assert (recent["requests"], recent["p99_ms"], recent["ttft_ms"]) == (KEPT_WINDOWS, 1.0, None)
