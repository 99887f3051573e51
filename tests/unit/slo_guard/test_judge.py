"""What counts as a broken promise, and when the guard acts."""

import math

import pytest

from mica.events import Control, GuardState, Mode, Slo, SloReported
from mica.slo_guard.judge import NONE, RESIZE, Breach, Policy, Standing, decide, judge, refused, stale

POLICY = Policy()
STANDING = Standing(share_ppm=200_000, mode=Mode.FCSP)
BAD = Breach(objective="p99_ms", observed=90.0, promised=50.0, ratio=1.8)
SECOND = 1_000_000_000
NOW = 1_700_000_000 * SECOND


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


def follow(windows: list[Breach | None], step_s: float = 1.0, standing: Standing = STANDING) -> list[str]:
    """The kind of action after each window, "" for none yet."""
    state, kinds = GuardState(id="s1"), []
    for index, breach in enumerate(windows):
        verdict = decide(POLICY, state, standing, (index + 1, NOW + int(index * step_s * SECOND), breach))
        state = verdict.state or state
        kinds.append(verdict.action.kind if verdict.action else "")
    return kinds


def test_patience() -> None:
    """The guard acts at the third bad window in a row."""
    assert follow([BAD, BAD, BAD]) == ["", "", RESIZE]


def test_a_good_window_forgives() -> None:
    """A good window starts the count anew."""
    assert follow([BAD, BAD, None, BAD, BAD]) == [""] * 5


def test_cooldown() -> None:
    """After an action the next one waits for the cool-down and for bad windows of its own."""
    kinds = follow([BAD] * 14)
    assert [index for index, kind in enumerate(kinds) if kind] == [2, 12]


def test_cooldown_of_slow_reports() -> None:
    """Where windows are longer than the cool-down it still takes three of them after an action."""
    kinds = follow([BAD] * 9, step_s=30.0)
    assert [index for index, kind in enumerate(kinds) if kind] == [2, 5, 8]


@pytest.mark.parametrize(("share_ppm", "expected"), [(200_000, 250_000), (900_000, 1_000_000), (3, 4), (1, 2)])
def test_step(share_ppm: int, expected: int) -> None:
    """A resize asks for a quarter more, rounded up, and never for more than the device."""
    state = GuardState(id="s1", breaches=2)
    verdict = decide(POLICY, state, Standing(share_ppm=share_ppm, mode=Mode.FCSP), (9, NOW, BAD))
    assert verdict.action is not None
    assert (verdict.action.kind, verdict.action.share_ppm) == (RESIZE, expected)
    assert verdict.state is not None
    assert (verdict.state.last_share_ppm, verdict.state.action_sequence, verdict.state.breaches) == (expected, 9, 0)


@pytest.mark.parametrize(
    ("standing", "reason"),
    [
        (Standing(share_ppm=1_000_000, mode=Mode.FCSP), "whole device"),
        (Standing(share_ppm=142_857, mode=Mode.HARDWARE), "partition"),
        (Standing(share_ppm=200_000, mode=Mode.TIMESLICE, control=Control.PAUSE), "control pause"),
    ],
)
def test_nothing_to_be_done(standing: Standing, reason: str) -> None:
    """Where no resize can help, the guard says so once and rests for a minute."""
    verdict = decide(POLICY, GuardState(id="s1", breaches=2), standing, (9, NOW, BAD))
    assert verdict.action is not None
    assert verdict.action.kind == NONE
    assert reason in verdict.action.message
    assert [index for index, kind in enumerate(follow([BAD] * 70, standing=standing)) if kind] == [2, 62]


def test_redelivery() -> None:
    """A report that comes again is not counted again."""
    state = decide(POLICY, GuardState(id="s1"), STANDING, (5, NOW, BAD)).state
    assert state is not None
    assert decide(POLICY, state, STANDING, (5, NOW, BAD)).state is None
    assert decide(POLICY, state, STANDING, (4, NOW, BAD)).state is None


def test_an_interrupted_action_is_repeated() -> None:
    """The report that caused an action causes the same one again, unless its command is known to be out."""
    acted = decide(POLICY, GuardState(id="s1", breaches=2), STANDING, (9, NOW, BAD)).state
    assert acted is not None
    moved_on = Standing(share_ppm=250_000, mode=Mode.FCSP)
    again = decide(POLICY, acted, moved_on, (9, NOW + 60 * SECOND, BAD))
    assert again.state is None
    assert again.action is not None
    assert (again.action.kind, again.action.share_ppm) == (RESIZE, 250_000)
    sent = GuardState(**{name: getattr(acted, name) for name in acted.__struct_fields__} | {"command_sequence": 77})
    assert decide(POLICY, sent, moved_on, (9, NOW, BAD)).action is None


def test_refusal() -> None:
    """Only the guard's own command, once, turns a refusal into a rest."""
    state = GuardState(id="s1", last_action=RESIZE, command_sequence=77)
    after = refused(state, 77, NOW)
    assert after is not None
    assert (after.last_action, after.last_action_at) == (NONE, NOW)
    assert refused(state, 78, NOW) is None
    assert refused(after, 77, NOW) is None


def test_stale_reports() -> None:
    """A report from long ago is not acted upon; a long window is given its length on top."""
    assert not stale(POLICY, report(), NOW + 61 * SECOND)
    assert stale(POLICY, report(), NOW + 62 * SECOND)
    assert not stale(POLICY, report(window_s=300.0), NOW + 360 * SECOND)
