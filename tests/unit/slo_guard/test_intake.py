"""Which reports are looked at, and what becomes of the others."""

import math

import pytest
from msgspec.structs import replace

from mica.events import SloReported
from mica.slo_guard.intake import RATE_HZ, SLICES_MAX, STRANGERS_HZ, TELL_S, Intake

SECOND = 1_000_000_000
NOW = 1_700_000_000 * SECOND
GOOD = SloReported(at=NOW, id="chat", p99_ms=10.0, requests=10, late=1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"at": 0}, ""),
        ({"at": NOW + 4 * SECOND}, ""),
        ({"at": NOW + 6 * SECOND}, "from_the_future"),
        ({"at": NOW - 62 * SECOND}, "stale"),
        ({"at": NOW - 360 * SECOND, "window_s": 300.0}, ""),
        ({"p99_ms": math.nan}, "not_finite"),
        ({"ttft_ms": math.inf}, "not_finite"),
        ({"p50_ms": -1.0}, "negative"),
        ({"requests": -1}, "negative"),
        ({"rate_hz": -0.1}, "negative"),
        ({"window_s": 0.0}, "window"),
        ({"window_s": 1e9}, "window"),
        ({"window_s": math.nan}, "not_finite"),
        ({"late": 11}, "counts"),
        ({"late": -1}, "counts"),
        ({"overdue": 1}, "counts"),
        ({"inflight": 2, "overdue": 2}, ""),
    ],
)
def test_sound_and_unsound(changes: dict[str, float], reason: str) -> None:
    """What cannot be is turned away with its reason; a clock that is a little off, or none at all, is borne."""
    assert Intake(60.0).refuse(replace(GOOD, **changes), NOW) == reason


def test_a_hundred_times_too_many() -> None:
    """Of 200 reports a second no more are looked at than a gate's many times over, and other slices are not concerned."""
    intake, looked_at = Intake(60.0), 0
    for index in range(12_000):
        now = NOW + index * SECOND // 200
        looked_at += not intake.refuse(replace(GOOD, at=now), now)
    assert looked_at <= 60 * RATE_HZ + 60
    assert intake.refuse(replace(GOOD, id="other", at=NOW + 60 * SECOND), NOW + 60 * SECOND) == ""


def test_strangers_are_looked_up_only_so_often() -> None:
    """Of a thousand made-up names a bounded number is asked for; a slice that is known goes on being heard."""
    intake = Intake(60.0)
    intake.knows("chat")
    asked = sum(not intake.refuse(replace(GOOD, id=f"x{index}"), NOW) for index in range(1000))
    assert asked == STRANGERS_HZ
    assert intake.refuse(GOOD, NOW) == ""


def test_memory_is_bounded() -> None:
    """However many names come, so many are remembered."""
    intake = Intake(60.0)
    for index in range(SLICES_MAX + 100):
        intake.refuse(replace(GOOD, id=f"x{index}"), NOW)
        intake.knows(f"x{index}")
    assert len(intake._buckets) == len(intake._known) == SLICES_MAX


def test_what_was_turned_away_is_told_once_a_minute() -> None:
    """By reason, with how many, whose they were (a few of them) and an example; and nothing when there was nothing."""
    intake = Intake(60.0)
    for index in range(100):
        intake.refuse(replace(GOOD, id=f"x{index % 20}", p99_ms=math.nan), NOW)
    assert list(intake.tell(NOW + int((TELL_S - 1) * SECOND))) == []
    (event,) = intake.tell(NOW + int(TELL_S * SECOND))
    assert (event.reason, event.count, event.example) == ("not_finite", 100, "p99_ms: nan")
    assert len(event.slices) == 8
    assert list(intake.tell(NOW + int(3 * TELL_S * SECOND))) == []
