"""From answers and books to the figures of ``mica bench slo``."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from mica.bench import BenchError
from mica.bench._slo_figures import (
    Answer,
    Stretch,
    attained_pct,
    busy_seconds,
    late_of,
    p99_ms,
    quantile,
    recovered_s,
    report_of,
    windows,
)
from mica.bench._slo_load import Request, from_trace, kernels_of, poisson
from mica.bench._slo_report import Figures, Incident, Measured, device_of, figures_of
from mica.bench._slo_run import Reading, Run
from mica.bench._slo_sim import Kernels
from mica.events import Slo

MS = 1_000_000
S = 1_000_000_000


def answers(*latencies_ms: float, every_s: float = 1.0) -> list[Answer]:
    """One after the other; the first ends after ``every_s``."""
    ends = [int((index + 1) * every_s * S) for index in range(len(latencies_ms))]
    return [
        Answer(index, end - int(latency * MS), end, end)
        for index, (end, latency) in enumerate(zip(ends, latencies_ms, strict=True))
    ]


@pytest.mark.parametrize(
    ("values", "part", "expected"), [([], 0.99, 0), ([3], 0.99, 3), ([1, 2, 3, 4], 0.5, 2), (range(1, 101), 0.99, 99)]
)
def test_a_quantile_is_a_value_that_was_seen(values: Sequence[float], part: float, expected: float) -> None:
    """The smallest that so large a part does not exceed."""
    assert quantile(list(values), part) == expected


def test_what_is_late_is_counted_against_the_promise() -> None:
    """Exactly as long as promised is in time."""
    assert attained_pct(answers(10, 20, 30, 40), Slo(p99_ms=30)) == 75
    assert p99_ms(answers(10, 20, 30, 40)) == 40


def test_how_fast_tokens_come_is_asked_of_long_answers_only() -> None:
    """Ten gaps in 50 ms; of three tokens nobody asks, and what is not asked breaks no promise."""
    long, short = Answer(0, 0, 5 * MS, 55 * MS, tokens=11), Answer(1, 0, 5 * MS, 500 * MS, tokens=3)
    assert (long.tpot_ms, short.tpot_ms) == (5.0, None)
    assert [each.keeps(Slo(tpot_ms=4)) for each in (long, short)] == [False, True]
    assert [each.keeps(Slo(tpot_ms=5, ttft_ms=4)) for each in (long, short)] == [False, False]


def test_a_report_tells_what_ended_and_what_waits() -> None:
    """An empty window measures nothing, and says so by leaving it out."""
    told = report_of("s1", Stretch(seconds=0.5, answers=answers(10, 20, 90), waiting=2), Slo(p99_ms=50), at=7)
    assert (told.requests, told.late, told.inflight, told.p99_ms, told.p50_ms, told.rate_hz) == (3, 1, 2, 90, 20, 6)
    silent = report_of("s1", Stretch(seconds=0.5, answers=(), waiting=2), Slo(p99_ms=50), at=7)
    assert (silent.requests, silent.late, silent.inflight, silent.p99_ms) == (0, 0, 2, None)


def test_windows_hold_what_ended_in_them() -> None:
    """The last answers of an overlong run are in none."""
    found = windows(answers(10, 90, 20, 30), begin_ns=0, seconds=3, every_s=1.5, slo=Slo(p99_ms=50))
    assert [(each.requests, each.late, each.latency_ms) for each in found] == [(1, 0, 10), (1, 1, 90)]


@pytest.mark.parametrize(
    ("latencies", "expected"),
    [
        ([10, 90, 90, 10, 10, 10, 10, 10], 2.0),  # after the second late one none for three seconds
        ([10] * 8, 0.0),
        ([10, 90, 10, 10, 10, 10, 10, 90], 1.0),  # one alone, later, is the tail of any p99
        ([10, 90, 10, 90, 10, 90, 10, 90], None),
    ],
)
def test_recovery_is_the_end_of_a_series_of_late_requests(latencies: list[float], expected: float | None) -> None:
    """From one second on, answers end each second."""
    assert recovered_s(answers(*latencies), S, Slo(p99_ms=50), quiet_s=2.5) == expected


def test_what_is_late_alone_is_not_the_neighbour_s_doing() -> None:
    """Of four late requests in a row the last two are late with nobody beside as well."""
    bound, alone = Slo(p99_ms=50), answers(10, 10, 10, 60, 70, 10, 10)
    assert late_of(alone, bound) == {3, 4}
    flooded = answers(10, 90, 90, 90, 90, 10, 10)
    assert recovered_s(flooded, S, bound, quiet_s=1.5) == 4
    assert recovered_s(flooded, S, bound, quiet_s=1.5, but=late_of(alone, bound)) == 2


def test_device_time_becomes_parts_of_the_time() -> None:
    """Between readings; two at one moment say nothing."""
    assert list(busy_seconds([(0, 0), (100, 50), (100, 50), (300, 250)])) == [(100, 50.0), (300, 100.0)]


def test_a_poisson_stream_is_the_same_each_time_and_of_its_rate() -> None:
    """About as many as asked, in order, each with something to do."""
    load = poisson(50, 100)
    assert load == poisson(50, 100)
    assert 4500 < len(load.requests) < 5500
    assert all(each.prefills >= 1 and each.tokens >= 1 for each in load.requests)
    assert [each.at_ns for each in load.requests] == sorted(each.at_ns for each in load.requests)


def test_a_traces_gaps_keep_their_proportions(tmp_path: Path) -> None:
    """Two seconds and six become a quarter and three quarters of the run."""
    path = tmp_path / "trace.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:17:00.0000000,512,10\n2023-11-16 18:17:02.0000000,2048,1\n2023-11-16 18:17:08.0000000,1,300\n"
    )
    load = from_trace(path, rate_hz=1, seconds=3)
    assert load.requests == (Request(0, 1, 10), Request(int(0.75 * S), 4, 1), Request(3 * S, 1, 300))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "0 requests"),
        ("TIMESTAMP,ContextTokens\nx,1\n", "no trace"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:00,1,x\n", "no trace with the columns"),
    ],
)
def test_a_file_that_is_no_trace_is_refused_with_the_reason(tmp_path: Path, text: str, said: str) -> None:
    """Which file, and what it lacks."""
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(BenchError, match=said):
        from_trace(path, rate_hz=1, seconds=3)


def test_a_prompt_takes_a_kernel_for_512_tokens() -> None:
    """And one at least."""
    assert [kernels_of(tokens) for tokens in (1, 512, 1300, 7437)] == [1, 1, 3, 15]


def test_what_is_kept_is_of_what_the_server_left() -> None:
    """A fifth for the server and three fifths for the flood are three quarters of what is left; a missing answer is late."""
    load = poisson(1, 10)
    readings = tuple(Reading(at_ns=second * S, server_ns=second * S // 5, flood_ns=second * S * 3 // 5) for second in range(11))
    run = Run(begin_ns=0, answers=tuple(answers(10, 10)), readings=readings, unanswered=len(load.requests) - 2)
    found = figures_of(run, load, Slo(p99_ms=50))
    assert (found.server_pct, found.flood_pct, found.kept_pct) == (20.0, 60.0, 75.0)
    assert found.attained_pct == pytest.approx(200 / len(load.requests), abs=0.01)


def incident(recover_s: float | None = None) -> Incident:
    """One that was over after so long, or never."""
    return Incident(
        load={}, promised_ms=5, shares_pct=(10, 5), began_s=8, detect_s=1.0, recover_s=recover_s, late_alone=0,
        attained_pct=90, actions=1, told=(), seconds=(0.0,),
        latency_ms=(1.0,), tpot_ms=(1.0,), server_at_s=(), server_pct=(), flood_pct=(), marks=(),
    )  # fmt: skip


def measured(unguarded_ms: float, guarded_ms: float, kept_pct: float = 90.0, kind: str = "sim") -> Measured:
    """Two rounds with these."""

    def figures(p99: float, kept: float | None = None) -> Figures:
        return Figures(p99_ms=p99, attained_pct=99.5, server_pct=20, flood_pct=0 if kept is None else 70, kept_pct=kept)

    single = {
        "alone": [figures(100)] * 2,
        "shared_unguarded": [figures(unguarded_ms, 100)] * 2,
        "shared_guarded": [figures(guarded_ms, kept_pct)] * 2,
    }
    return Measured(
        name="d", kind=kind, kernels=Kernels(flood_us=4000), load=poisson(1, 10), slo_ms=110, shares_pct=(97, 3), single=single,
        incidents=[incident()] * 2, false_actions=0,
    )  # fmt: skip


def test_a_run_that_proves_nothing_is_not_valid() -> None:
    """A neighbour that costs next to nothing unguarded is no test of a guard."""
    assert device_of(measured(200, 104)).valid
    assert not device_of(measured(149, 104)).valid


@pytest.mark.parametrize(
    ("guarded_ms", "kept_pct", "missed"),
    [(104, 90, set()), (106, 90, {"guarded p99 against alone"}), (104, 70, {"kept of what is left, %"})],
)
def test_a_target_that_is_missed_is_told_as_missed(guarded_ms: float, kept_pct: float, missed: set[str]) -> None:
    """The incident of this one never recovered, which is missed in each."""
    targets = device_of(measured(200, guarded_ms, kept_pct)).targets
    assert {target.name for target in targets if not target.held} == missed | {"recovered after, s"}


def test_where_nothing_preempts_a_kernel_more_is_allowed() -> None:
    """Of the neighbour's, in the run beside which it was alone."""
    for guarded_ms, held in ((104, True), (104.1, False)):
        targets = {target.name: target.held for target in device_of(measured(200, guarded_ms, kind="opencl")).targets}
        assert targets["guarded p99 later than alone, ms (one kernel)"] is held


def test_a_slow_host_s_drift_is_not_the_neighbour_s() -> None:
    """Each run is held against the one alone in its round: the host may be slower in the next."""
    rounds = measured(200, 104, kind="opencl")
    drifted = {how: [runs[0], replace(runs[1], p99_ms=2 * runs[1].p99_ms)] for how, runs in rounds.single.items()}
    found = device_of(replace(rounds, single=drifted))
    assert found.longer_ms["shared_guarded"].least == 4
    assert found.longer_ms["shared_guarded"].most == 8
    assert found.ratio["shared_guarded"].most == pytest.approx(1.04)


@pytest.mark.parametrize(
    ("recovers_s", "middle"),
    [([0.5, 9.0, 2.5], 2.5), ([None, 0.5, 2.5], 2.5), ([None, None, 2.5], None), ([8.0], 8.0)],
)
def test_of_several_incidents_the_median_counts(recovers_s: list[float | None], middle: float | None) -> None:
    """One that was never over is the slowest of all; what is drawn is the one in the middle."""
    found = device_of(replace(measured(200, 104), incidents=[incident(each) for each in recovers_s]))
    assert (found.recover_s, found.incident.recover_s) == (middle, middle)
    assert found.recovers_s == tuple(recovers_s)
