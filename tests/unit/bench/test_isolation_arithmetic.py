"""The arithmetic of ``mica bench isolation``, on books made up for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mica.bench._plan import SCENARIOS, TenantPlan
from mica.bench._shares import Reading, jain, jump, shares_pct, windows

MS = 1_000_000
PID = 7


def books(rates: list[tuple[int, float]], every_ms: int = 10) -> list[Reading]:
    """Readings of a process that has these rates (part of the device) for so many milliseconds each."""
    at_ns, kernel_ns = 1_000 * MS, 5_000.0
    readings = [Reading(at_ns, {PID: int(kernel_ns)})]
    for length_ms, rate in rates:
        for _ in range(length_ms // every_ms):
            at_ns += every_ms * MS
            kernel_ns += every_ms * MS * rate
            readings.append(Reading(at_ns, {PID: int(kernel_ns)}))
    return readings


def test_a_steady_process_has_its_part_in_every_window() -> None:
    """Windows follow each other, and what is left over at the end is in none."""
    assert shares_pct(books([(650, 0.3)]), PID, 200 * MS) == pytest.approx([30.0, 30.0, 30.0])


def test_a_process_that_pauses_has_less_in_that_window_alone() -> None:
    """An error is not spread over the windows beside it."""
    assert shares_pct(books([(100, 0.5), (100, 0.0), (100, 0.5)]), PID, 100 * MS) == pytest.approx([50.0, 0.0, 50.0], abs=0.01)


def test_readings_that_come_late_make_a_window_longer_not_fuller() -> None:
    """The part is of the time that really passed."""
    assert shares_pct(books([(300, 0.4)], every_ms=30), PID, 100 * MS) == pytest.approx([40.0, 40.0], abs=0.01)


def test_a_window_says_what_was_withheld_in_it() -> None:
    """And not what was withheld before."""
    readings = [Reading(at * 100 * MS, {PID: at * 30 * MS}, 5_000 + at * at * MS) for at in range(5)]
    assert [window.withheld_ns for window in windows(readings, PID, 200 * MS)] == [4 * MS, 12 * MS]


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=8))
def test_jains_index_is_between_one_nth_and_one(parts: list[float]) -> None:
    """1 when all are served alike, 1/n when one has it all."""
    assert 1 / len(parts) - 1e-9 <= jain(parts) <= 1 + 1e-9
    assert jain([1.0] * len(parts)) == pytest.approx(1.0)
    assert jain([1.0] + [0.0] * (len(parts) - 1)) == pytest.approx(1 / len(parts))


@pytest.mark.parametrize(("late_ms", "before", "then"), [(0, 0.4, 0.2), (30, 0.2, 0.4), (120, 0.4, 0.2)])
def test_a_rate_that_changes_late_is_found_out(late_ms: int, before: float, then: float) -> None:
    """The moment and both rates, whichever way it changes."""
    readings = books([(300 + late_ms, before), (700 - late_ms, then)])
    found = jump(readings, PID, readings[0].at_ns + 300 * MS, 300 * MS)
    assert found.after_ms == pytest.approx(late_ms, abs=0.5)
    assert (found.before_pct, found.then_pct) == (pytest.approx(100 * before, abs=0.1), pytest.approx(100 * then, abs=0.1))


def test_a_rate_that_does_not_change_is_no_reaction() -> None:
    """It is an error, not a reaction of no time at all."""
    readings = books([(1000, 0.4)])
    with pytest.raises(ValueError, match="did not change"):
        jump(readings, PID, readings[0].at_ns + 300 * MS, 300 * MS)


def test_a_window_is_two_seconds_or_four_hundred_kernels() -> None:
    """Whichever is longer, at the tenant's own share."""
    assert TenantPlan(50, (200,)).window_s == 2.0
    assert TenantPlan(50, (50_000,)).window_s == pytest.approx(40.0)
    assert TenantPlan(50, (20_000, 80_000)).window_s == pytest.approx(40.0)


def test_the_scenarios_cover_what_is_promised() -> None:
    """Two to eight tenants, shares of 5 to 90 %, kernels of 20 us to 50 ms, some mixed, and never more than the device."""
    assert {len(scenario) for scenario in SCENARIOS} >= {2, 3, 4, 8}
    tenants = [tenant for scenario in SCENARIOS for tenant in scenario]
    assert {5, 90} <= {tenant.share_pct for tenant in tenants}
    assert {20, 50_000} <= {duration for tenant in tenants for duration in tenant.kernels_us}
    assert any(len(tenant.kernels_us) > 1 for tenant in tenants)
    assert all(sum(tenant.share_pct for tenant in scenario) <= 100 for scenario in SCENARIOS)
