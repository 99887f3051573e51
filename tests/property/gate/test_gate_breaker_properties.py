"""The circuit breaker under any order of outcomes, waits and crowds."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mica.events import BreakerState
from mica.gate.domain.breaker import TRANSITIONS, Breaker, Outcome, Permit, Rules, Sign

CLOSED, HALF_OPEN, OPEN = BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.OPEN
RULES = Rules(share_ppm=500_000, least=4, window_ns=1000, cooldown_ns=500, trials=2)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "answered", "failed", "unknown", "crowded", "tick"]),
        st.integers(0, 10),
        st.integers(0, 400),
        st.booleans(),
    ),
    max_size=200,
)
OUTCOMES = {"answered": Outcome.ANSWERED, "failed": Outcome.FAILED, "unknown": Outcome.UNKNOWN}


def replay(events: list[tuple[str, int, int, bool]]) -> tuple[list[BreakerState], int]:
    """The states that a breaker goes through, and the most trials that were under way at once."""
    breaker, now, permits, most = Breaker(RULES), 0, list[Permit](), 0
    for what, index, step, empty in events:
        now += step
        if what == "ask":
            answer = breaker.ask(now, queue_empty=empty)
            if isinstance(answer, Permit):
                permits.append(answer)
                assert breaker.state is not OPEN
                assert answer.trial == (breaker.state is HALF_OPEN)
        elif what == "tick":
            breaker.tick(now, queue_empty=empty)
        elif index < len(permits):
            permit = permits.pop(index)
            if what == "crowded":
                breaker.crowded(permit, now)
            else:
                breaker.done(permit, OUTCOMES[what], now)
        current = max((permit.period for permit in permits if permit.trial), default=-1)
        most = max(most, sum(permit.trial and permit.period == current for permit in permits))
    return [CLOSED, *(change.state for change in breaker.changes)], most


@given(EVENTS)
def test_it_never_skips_half_open(events: list[tuple[str, int, int, bool]]) -> None:
    """Open is followed by half open, closed is preceded by it, and never are more trials than allowed under way."""
    states, most = replay(events)
    pairs = set(pairwise(states))
    assert pairs <= {(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, OPEN), (HALF_OPEN, CLOSED)}
    assert most <= RULES.trials


def test_the_table_has_no_way_around_half_open() -> None:
    """No row leads from open to closed, and each state that is not closed can be left."""
    assert not [row for row, after in TRANSITIONS.items() if row[0] is OPEN and after is not HALF_OPEN]
    assert {state for state, _ in TRANSITIONS} == set(BreakerState)
    assert (OPEN, Sign.RECOVERED) not in TRANSITIONS


@given(st.integers(0, 200), st.integers(0, 200))
def test_it_opens_exactly_at_its_share(answered: int, failed: int) -> None:
    """Among answers come first, failures open it as soon as they are at least four of all and half of them, and never before."""
    breaker = Breaker(RULES)
    for outcome, count in ((Outcome.ANSWERED, answered), (Outcome.FAILED, failed)):
        for _ in range(count):
            permit = breaker.ask(0, queue_empty=True)
            if isinstance(permit, Permit):
                breaker.done(permit, outcome, 0)
    assert (breaker.state is OPEN) == (failed >= answered and failed > 0 and answered + failed >= RULES.least)
