"""The windows that the planner lays out and the shims keep to, and the steps of an overrun: what holds for all of them."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mica.enforcer.overruns import STEPS, Climb, Terms, advance
from mica.events import Grace, OverrunStep, Window
from mica.planner.domain.windows import PERIOD_NS, first_fit, length_of
from mica.region._abi import ffi, lib

MS = 1_000_000
S = 1_000_000_000


def laid_out(shares_ppm: list[int]) -> list[Window]:
    """A window for each share for which one is free, as the planner gives them."""
    windows: list[Window] = []
    for share_ppm in shares_ppm:
        window = first_fit(windows, length_of(share_ppm))
        if window is not None:
            windows.append(window)
    return windows


def limits(window: Window, **fields: int) -> Any:
    """What a shim reads of it."""
    names = {"window_offset_ns": window.offset_ns, "window_length_ns": window.length_ns, "window_period_ns": window.period_ns}
    return ffi.new("struct mica_slice_limits *", {"state": 1, **names, **fields})


def region(windows: list[Window]) -> Any:
    """A device's records."""
    quota = ffi.new("struct mica_quota_region *")
    for index, window in enumerate(windows):
        lib.mica_quota_write(quota, index, limits(window))
    return quota


ASKS = st.fixed_dictionaries(
    {
        "cost_ns": st.integers(0, 200 * MS),
        "backlog_ns": st.integers(0, 50 * MS),
        "guard_ns": st.integers(0, 2 * MS),
        "shut_ns": st.integers(0, 50 * MS),
    }
)
SHARES = st.lists(st.integers(1, 600_000), min_size=1, max_size=8)
MOMENTS = st.integers(10**9, 10**15)


@given(SHARES, st.lists(ASKS, min_size=8, max_size=8), MOMENTS)
def test_at_no_moment_two_slices_launch_in_windows_of_their_own(
    shares_ppm: list[int], asks: list[dict[str, int]], now_ns: int
) -> None:
    """Whatever they ask for; and what fits ends in its window, unless it is longer than seven eighths of it."""
    windows = laid_out(shares_ppm)
    admitted = []
    for window, ask in zip(windows, asks, strict=False):
        if lib.mica_window_fit(limits(window), ffi.new("struct mica_window_ask *", ask), now_ns) == 0:
            admitted.append(window)
            closes_ns = now_ns - (now_ns - window.offset_ns) % PERIOD_NS + window.length_ns
            needed_ns = ask["cost_ns"] + ask["guard_ns"]
            if window.length_ns < PERIOD_NS and needed_ns <= window.length_ns - window.length_ns // 8:
                assert now_ns + ask["backlog_ns"] + needed_ns <= closes_ns
    assert len(admitted) <= 1


@given(SHARES, ASKS, MOMENTS, st.integers(0, 10 * MS))
def test_borrowed_work_ends_before_another_window_opens_and_none_begins_while_an_owner_wants_its_own(
    shares_ppm: list[int], ask: dict[str, int], now_ns: int, before_ns: int
) -> None:
    """So an owner loses at most what was asked for before its word."""
    windows = [window for window in laid_out(shares_ppm) if window.length_ns < PERIOD_NS]
    quota, token = region(windows), ffi.new("struct mica_token_region *")
    lib.mica_window_claim(token, now_ns - before_ns, now_ns)
    wait_ns = lib.mica_window_borrow(quota, token, ffi.new("struct mica_window_ask *", ask), now_ns)
    if wait_ns:
        return
    ends_ns = now_ns + ask["cost_ns"] + ask["backlog_ns"] + ask["guard_ns"]
    for window in windows:
        since_ns = (now_ns - window.offset_ns) % PERIOD_NS
        if since_ns < window.length_ns:
            assert before_ns >= lib.MICA_WINDOW_IDLE_NS
            assert ends_ns <= now_ns - since_ns + window.length_ns
        else:
            assert ends_ns <= now_ns - since_ns + PERIOD_NS


@given(st.lists(st.tuples(st.integers(1, 5_000), st.integers(0, 20_000)), max_size=60), st.sampled_from(STEPS))
def test_nobody_goes_up_who_behaves_and_every_step_comes_after_the_one_before(
    looks: list[tuple[int, int]], furthest: OverrunStep
) -> None:
    """Looks so many ms apart that find work as old as that (ms)."""
    terms = Terms(100 * MS, Grace(throttle_s=0.5, pause_s=1, terminate_s=2), 3, furthest)
    climb, now_ns, entered_ns = Climb(), 10**12, 10**12
    graces = {1: 0.5, 2: 1.0, 3: 2.0}
    for apart_ms, ran_ms in looks:
        now_ns += apart_ms * MS
        after = advance(climb, ran_ms * MS, terms, now_ns)
        was, now = STEPS.index(climb.step), STEPS.index(after.step)
        assert now - was in (-1, 0, 1)
        assert now <= STEPS.index(furthest)
        if now > was:
            assert ran_ms > 100
            assert now_ns - entered_ns >= graces[now] * S or was == 0
        if now < was:
            assert ran_ms <= 100
            assert now_ns - entered_ns >= 3 * S
        if now != was:
            entered_ns = now_ns
        climb = after
