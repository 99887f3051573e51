"""Decisions over any history of windows, redeliveries and clocks."""

from hypothesis import given
from hypothesis import strategies as st

from mica.events import PPM, GuardState, Mode
from mica.slo_guard.judge import NONE, RESIZE, Breach, Policy, Standing, decide

SECOND = 1_000_000_000
BAD = Breach(objective="p99_ms", observed=2.0, promised=1.0, ratio=2.0)
POLICIES = st.builds(Policy, windows=st.integers(1, 5), cooldown_s=st.floats(1, 30), rest_s=st.floats(1, 90))
WINDOWS = st.lists(st.tuples(st.booleans(), st.integers(0, 8), st.integers(0, 3)), max_size=60)
STANDINGS = st.builds(Standing, share_ppm=st.integers(1, PPM), mode=st.sampled_from(Mode))


@given(POLICIES, STANDINGS, WINDOWS)
def test_actions_keep_their_distance(policy: Policy, standing: Standing, windows: list[tuple[bool, int, int]]) -> None:
    """However reports come and come again, actions are a cool-down apart, and each follows its own run of bad windows."""
    state, now = GuardState(id="s1"), 1_700_000_000 * SECOND
    acted_at: list[int] = []
    bad_since_action = 0
    for sequence, (bad, step_s, repeats) in enumerate(windows, start=1):
        now += step_s * SECOND
        bad_since_action = bad_since_action + 1 if bad else 0
        for attempt in range(1 + repeats):
            verdict = decide(policy, state, standing, (sequence, now, BAD if bad else None))
            if attempt:
                assert verdict.state is None
                assert (verdict.action is not None) == (state.action_sequence == sequence)
            elif verdict.action is not None:
                pause_s = policy.cooldown_s if verdict.action.kind == RESIZE else policy.rest_s
                assert not acted_at or now - acted_at[-1] >= pause_s * SECOND
                assert bad_since_action >= policy.windows
                acted_at.append(now)
                bad_since_action = 0
            state = verdict.state or state


@given(POLICIES, STANDINGS)
def test_a_resize_grows_within_the_device(policy: Policy, standing: Standing) -> None:
    """Whatever a slice has, the guard asks for more and never for more than the device; else it says why not."""
    state = GuardState(id="s1", breaches=policy.windows)
    action = decide(policy, state, standing, (1, SECOND, BAD)).action
    assert action is not None
    if standing.mode is Mode.HARDWARE or standing.share_ppm == PPM:
        assert (action.kind, action.share_ppm) == (NONE, standing.share_ppm)
        assert action.message
    else:
        assert action.kind == RESIZE
        assert standing.share_ppm < action.share_ppm <= PPM


@given(POLICIES, STANDINGS, st.lists(st.booleans(), min_size=1, max_size=30), st.randoms())
def test_order_does_not_double(policy: Policy, standing: Standing, windows: list[bool], random: object) -> None:
    """Reports that replicas handle out of order never cause more actions than in order."""
    ordered = list(enumerate(windows, start=1))
    shuffled = ordered[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert len(actions(policy, standing, shuffled)) <= max(1, len(windows) // policy.windows)
    assert len(set(actions(policy, standing, shuffled))) == len(actions(policy, standing, shuffled))


def actions(policy: Policy, standing: Standing, windows: list[tuple[int, bool]]) -> list[int]:
    """The sequences of the reports that caused an action."""
    state, acted = GuardState(id="s1"), []
    for step, (sequence, bad) in enumerate(windows):
        verdict = decide(policy, state, standing, (sequence, 1_700_000_000 * SECOND + step * SECOND, BAD if bad else None))
        if verdict.action is not None and verdict.state is not None:
            acted.append(sequence)
        state = verdict.state or state
    return acted
