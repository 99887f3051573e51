"""How fast the error budget is spent, and when that is a breach: a flood within two seconds, and never a single bad window."""

import math
import random

import pytest

from mica.events import Burn, GuardState, Slo, SloReported
from mica.slo_guard.burning import (
    BUDGET,
    FEW,
    LIKELY,
    NEAR,
    NEAR_WINDOWS,
    STUCK,
    Tally,
    burned,
    certain,
    nearness,
    not_enough,
    tally,
)
from mica.slo_guard.judge import judge
from mica.slo_guard.weighing import Patience, Window, weigh

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
SLO = Slo(p99_ms=100)


def fires(
    parts: list[float], step_s: float = 0.5, requests: int = 40, *, counted: bool = True, witnessed: bool = False
) -> list[float]:
    """At which times (s) the budget burns when windows of ``step_s`` have so large a part of late requests."""
    state, found = GuardState(id="s1"), []
    for index, part in enumerate(parts, start=1):
        now = START + int(index * step_s * SECOND)
        late = round(part * requests)
        report = SloReported(
            at=now, id="s1", window_s=step_s, requests=requests, p99_ms=300.0 if part > BUDGET else 50.0,
            late=late if counted else None,
        )  # fmt: skip
        breach = judge(SLO, report)
        counts = tally(SLO, report, breach)
        assert counts is not None
        window = Window(sequence=index, now=now, end=now, report=report, tally=counts, breach=breach, witnessed=witnessed)
        weighed = weigh(Patience(), state, window)
        found += [index * step_s] if weighed.fire is not None else []
        state = weighed.state or state
    return found


@pytest.mark.parametrize(
    ("step_s", "part", "within_s"),
    [(0.5, 1.0, 1.5), (1.0, 1.0, 2.0), (0.5, 0.25, 1.5), (0.5, 0.12, 1.5), (1.0, 0.25, 3.0), (0.5, 0.06, 35.0)],
)
def test_a_flood_is_detected(step_s: float, part: float, within_s: float) -> None:
    """When everything is late two seconds do, whatever the windows; with less of it late, the longer it takes."""
    onset_s = 60.0
    found = fires([0.0] * int(onset_s / step_s) + [part] * 120, step_s)
    assert found
    assert 0 < found[0] - onset_s <= within_s


@pytest.mark.parametrize("step_s", [0.25, 0.5, 1.0])
def test_a_flood_with_a_witness_takes_a_second(step_s: float) -> None:
    """Where a neighbour stepped up as it began, half of the requests are enough, over a second and in two windows or more."""
    onset_s = 60.0
    parts = [0.0] * int(onset_s / step_s) + [0.6] * 20
    found = fires(parts, step_s, witnessed=True)
    assert found[0] - onset_s == max(1.0, 2 * step_s)
    assert fires(parts, step_s)[0] > found[0] or step_s == 1.0
    assert fires([0.0] * 100 + [0.4, 0.4] + [0.0] * 20, step_s, witnessed=True) == []


def test_a_second_of_windows_is_about_a_second() -> None:
    """Who reports is not exact: three windows of 0.49 s count as much as of half a second."""
    parts = [0.0] * 100 + [0.25] * 20
    assert round((fires(parts, 0.49)[0] - 49.0) / 0.49) == 3


def test_a_slow_burn_is_detected() -> None:
    """Three times too many late requests are found within two minutes, though no second of it is remarkable."""
    found = fires([0.025] * 400, 0.5, 40)
    assert found
    assert 20 < found[0] < 120


@pytest.mark.parametrize("step_s", [0.5, 1.0])
@pytest.mark.parametrize("counted", [True, False])
def test_single_bad_windows_are_none(step_s: float, *, counted: bool) -> None:
    """One window in which all is late, every ten seconds for an hour, is no breach."""
    assert fires(([0.0] * int(10 / step_s - 1) + [1.0]) * 360, step_s, counted=counted) == []


def test_what_is_promised_is_no_breach() -> None:
    """An hour in which exactly as many requests are late as may be, by chance, at a low and at a high rate; twice that is one."""
    for requests in (1, 10, 100):
        chance = random.Random(requests)
        late = [sum(chance.random() < BUDGET for _ in range(requests)) / requests for _ in range(7200)]
        assert fires(late, 0.5, requests) == []
    chance = random.Random(7)
    assert fires([sum(chance.random() < 3 * BUDGET for _ in range(100)) / 100 for _ in range(7200)], 0.5, 100)


def test_without_counts_windows_in_a_row_decide() -> None:
    """Three bad ones, not two, and a good one between begins anew."""
    assert fires([0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0], 1.0, counted=False) == []
    assert fires([0.0, 1.0, 1.0, 1.0], 1.0, counted=False) == [4.0]


def test_percentiles_tell_how_bad_a_window_was() -> None:
    """Where nobody counted: five in a hundred when the 95th percentile is within the bound, all when the median is not."""
    for p50, p95, part in ((10.0, 90.0, 0.05), (10.0, 150.0, 0.5), (120.0, 150.0, 1.0), (None, None, 1.0)):
        report = SloReported(at=START, id="s1", p99_ms=200.0, p95_ms=p95, p50_ms=p50)
        counts = tally(SLO, report, judge(SLO, report))
        assert counts is not None
        assert counts.part == part


def test_errors_are_bad_and_turned_away_is_nothing() -> None:
    """Failed requests break the promise; a window in which nothing ended of what came says nothing, an idle one is good."""
    failing = SloReported(at=START, id="s1", requests=8, errors=2, late=0)
    counts = tally(SLO, failing, None)
    assert counts is not None
    assert counts.part == 0.2
    for waits in ({"refused": 9}, {"inflight": 2}, {"queued": 1}):
        assert tally(SLO, SloReported(at=START, id="s1", late=0, **waits), None) is None
    idle = tally(SLO, SloReported(at=START, id="s1"), None)
    assert idle is not None
    assert not idle.is_bad


def test_where_nothing_ends_three_that_are_overdue_are_bad() -> None:
    """They are late for certain; fewer say nothing, and what ended in the window counts alone."""
    stuck = tally(SLO, SloReported(at=START, id="s1", late=0, inflight=4, overdue=STUCK), None)
    assert stuck is not None
    assert (stuck.total, stuck.bad, stuck.counted) == (4, 3, True)
    assert tally(SLO, SloReported(at=START, id="s1", late=0, inflight=4, overdue=STUCK - 1), None) is None
    beside = tally(SLO, SloReported(at=START, id="s1", requests=10, late=0, inflight=4, overdue=4), None)
    assert beside is not None
    assert not beside.is_bad


def test_a_second_is_a_second_however_often_it_is_told() -> None:
    """A hundred reports of the same second weigh as one."""
    window = Tally(window_s=1.0, total=10, bad=10)
    once = burned((), window, math.inf)
    often = once
    for _ in range(100):
        often = burned(often, window, 0.0)
    assert often == once


def test_chance_is_told_from_certainty() -> None:
    """One late of two is not enough to be sure of, ten of twenty are; one in a hundred never is."""
    assert not certain(Burn(total=2, bad=1))
    assert certain(Burn(total=20, bad=10))
    assert not certain(Burn(total=1_000_000, bad=10_000))
    assert not certain(Burn())


def test_what_nobody_wrote_down_was_good() -> None:
    """A bad window after a long time counts among the good ones that were not remembered."""
    (_, long, _, _) = burned((), Tally(window_s=1.0, total=10, bad=10), math.inf)
    assert long.total > 70
    assert long.bad == 10


def near_after(values: list[float], requests: int = 8, objective: str = "p99_ms") -> tuple[float, int]:
    """What is known after windows of so few requests, the slowest of which took so long, where 100 is promised."""
    near = (0.0, 0)
    for value in values:
        report = SloReported(at=START, id="s1", window_s=0.5, requests=requests, p99_ms=value, late=0)
        near = nearness(near, report, (objective, 100.0))
    return near


def test_how_near_the_slowest_are_is_an_average_of_small_windows() -> None:
    """A large one has a percentile of its own, and what is promised otherwise says nothing of latencies."""
    assert near_after([80, 100, 90]) == (pytest.approx(0.9), 3)
    assert near_after([80, 100, 90], requests=FEW) == (0.0, 0)
    assert near_after([80], requests=0) == (0.0, 0)
    assert near_after([80], objective="late") == (0.0, 0)
    assert near_after([200] * 5 + [50] * 60)[0] < 0.65


def test_what_leaves_no_room_is_not_enough_with_one_late_request() -> None:
    """Else their number has to be certain. Within the budget nothing is asked, nor without a late request."""
    one_of_forty, near, far = Burn(total=40, bad=1), (NEAR, NEAR_WINDOWS), (NEAR - 0.01, NEAR_WINDOWS)
    assert not certain(one_of_forty, LIKELY)
    assert not_enough(one_of_forty, near, late=True)
    assert not not_enough(one_of_forty, far, late=True)
    assert not not_enough(one_of_forty, (NEAR, NEAR_WINDOWS - 1), late=True)
    assert not not_enough(Burn(total=40), near, late=True)
    assert not not_enough(Burn(total=400, bad=1), near, late=True)
    assert not_enough(Burn(total=40, bad=10), far, late=True)


def test_what_has_become_better_is_enough() -> None:
    """The last window decides whether it goes on: one of its requests is late, or so near to it as the others were."""
    one_of_forty, near = Burn(total=40, bad=1), (NEAR, NEAR_WINDOWS)
    assert not_enough(one_of_forty, near, late=False, now=NEAR)
    assert not not_enough(one_of_forty, near, late=False, now=NEAR - 0.01)
    assert not not_enough(Burn(total=40, bad=10), (NEAR - 0.01, NEAR_WINDOWS), late=False, now=NEAR)
