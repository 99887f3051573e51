"""What is turned away, in which words, and when it may come again."""

from mica.events import BreakerState
from mica.gate.domain.breaker import BACKOFF_MAX, Breaker, Outcome, Permit, Rules, Sign
from mica.gate.domain.guardrails import Guardrails, Limits, Refusal, Ticket
from mica.gate.domain.recent import Recent
from mica.gate.domain.upstreams import REST_NS, Upstreams

S = 1_000_000_000
RULES = Rules(least=4, trials=2)


def arrive(rails: Guardrails, now: int = 0) -> Ticket | Refusal:
    """A request, for whose turn nobody listens."""
    return rails.arrive(now, lambda: None)


def passed(rails: Guardrails, now: int = 0) -> Ticket:
    """A request that is let through."""
    ticket = arrive(rails, now)
    assert isinstance(ticket, Ticket)
    return ticket


def refused(rails: Guardrails, now: int = 0) -> Refusal:
    """A request that is not."""
    refusal = arrive(rails, now)
    assert isinstance(refusal, Refusal)
    return refusal


def test_without_limits_everything_passes() -> None:
    """No rate, no places, no breaker: no refusal."""
    rails = Guardrails(Limits(breaker=None))
    assert all(isinstance(arrive(rails), Ticket) for _ in range(1000))


def test_too_fast() -> None:
    """Beyond the burst it is 429, with whole seconds until the next; what is refused uses nothing up."""
    rails = Guardrails(Limits(rate_hz=0.5, burst=2))
    passed(rails)
    passed(rails)
    for _ in range(5):
        refusal = refused(rails)
        assert (refusal.status, refusal.code, refusal.retry_after_s) == (429, "rate_limit_exceeded", 2)
    passed(rails, 2 * S)


def test_places_and_queue() -> None:
    """One is answered, one waits and is called when its turn comes, the third is refused with the numbers."""
    called: list[str] = []
    rails = Guardrails(Limits(concurrency=1, queue=1))
    first, second = passed(rails), rails.arrive(0, lambda: called.append("second"))
    assert isinstance(second, Ticket)
    assert second.waiting
    refusal = refused(rails)
    assert (refusal.status, refusal.code) == (503, "queue_full")
    assert refusal.message == "1 requests are being answered and 1 wait, allowed: 1 and 1"
    assert called == []
    rails.leave(first, Outcome.ANSWERED, 0)
    assert called == ["second"]
    assert not second.waiting
    assert rails.expire(second, 0) is None


def test_waited_too_long() -> None:
    """Who waited too long is refused, and its place in the queue is free."""
    rails = Guardrails(Limits(concurrency=1, queue=1, queue_timeout_ns=3 * S))
    passed(rails)
    waiting = passed(rails)
    refusal = rails.expire(waiting, 3 * S)
    assert refusal is not None
    assert (refusal.code, refusal.message) == ("queue_timeout", "no place became free in 3 s")
    assert passed(rails).waiting


def failing(rails: Guardrails, count: int, now: int = 0) -> None:
    """So many requests fail."""
    for _ in range(count):
        rails.leave(passed(rails, now), Outcome.FAILED, now)


def test_the_breaker_goes_through_its_states() -> None:
    """Failures open it; after its rest two trials are let through and no third; when both are answered it is closed."""
    rails = Guardrails(Limits(breaker=RULES))
    failing(rails, 4)
    refusal = refused(rails)
    assert (refusal.status, refusal.code, refusal.retry_after_s) == (503, "breaker_open", 5)
    assert refused(rails, 5 * S - 1).retry_after_s == 1
    trials = [passed(rails, 5 * S), passed(rails, 5 * S)]
    assert refused(rails, 5 * S).code == "breaker_open"
    for trial in trials:
        rails.leave(trial, Outcome.ANSWERED, 5 * S)
    assert [change.state for change in rails.breaker.changes] == [BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED]
    assert (rails.breaker.changes[0].sign, rails.breaker.changes[0].failed) == (Sign.FAILING, 4)
    passed(rails, 5 * S)


def test_a_trial_that_fails_opens_for_longer() -> None:
    """Each failed trial doubles the rest, up to eight times; a recovery makes it short again."""
    rails = Guardrails(Limits(breaker=Rules(least=1, trials=1)))
    failing(rails, 1)
    now = 0
    for strike in range(BACKOFF_MAX + 2):
        rest = 5 * S << min(strike, BACKOFF_MAX)
        assert refused(rails, now + rest - 1).code == "breaker_open"
        now += rest
        failing(rails, 1, now)
    now += 5 * S << BACKOFF_MAX
    rails.leave(passed(rails, now), Outcome.ANSWERED, now)
    failing(rails, 1, now)
    passed(rails, now + 5 * S)


def test_a_trial_whose_client_left_decides_nothing() -> None:
    """Its place among the trials is free again."""
    rails = Guardrails(Limits(breaker=Rules(least=1, trials=1)))
    failing(rails, 1)
    rails.leave(passed(rails, 5 * S), Outcome.UNKNOWN, 5 * S)
    rails.leave(passed(rails, 5 * S), Outcome.ANSWERED, 5 * S)
    assert rails.breaker.state is BreakerState.CLOSED


def test_answers_from_before_a_change_tell_nothing() -> None:
    """What was let through before the breaker opened neither closes nor opens it again."""
    rails = Guardrails(Limits(breaker=RULES))
    old = [passed(rails) for _ in range(10)]
    failing(rails, 4)
    passed(rails, 5 * S)
    for ticket in old:
        rails.leave(ticket, Outcome.FAILED, 5 * S)
    assert rails.breaker.state is BreakerState.HALF_OPEN


def test_old_failures_are_forgotten() -> None:
    """Failures that lie further back than the window open nothing."""
    rails = Guardrails(Limits(breaker=RULES))
    failing(rails, 3)
    failing(rails, 3, 11 * S)
    assert rails.breaker.state is BreakerState.CLOSED
    failing(rails, 1, 12 * S)
    assert rails.breaker.state is BreakerState.OPEN


def test_crowding_opens_until_the_queue_is_empty() -> None:
    """When half of all find no place it opens, those who wait are still served, and then trials are let through at once."""
    rails = Guardrails(Limits(concurrency=1, queue=1, breaker=Rules(least=4, trials=1)))
    first, second = passed(rails), passed(rails)
    codes = [refused(rails).code for _ in range(6)]
    assert codes == ["queue_full"] * 4 + ["breaker_open"] * 2
    assert rails.breaker.changes[0].sign is Sign.CROWDED
    rails.leave(first, Outcome.ANSWERED, 1)
    assert rails.breaker.state is BreakerState.HALF_OPEN
    rails.leave(second, Outcome.ANSWERED, 1)
    rails.leave(passed(rails, 2), Outcome.ANSWERED, 2)
    assert rails.breaker.state is BreakerState.CLOSED


def test_a_policy_changes_everything_at_once() -> None:
    """Those who wait go when places are added, another rate holds from now on, and a breaker that is switched off closes."""
    rails = Guardrails(Limits(concurrency=1, queue=3, breaker=Rules(least=1, trials=1)))
    passed(rails)
    waiting = [passed(rails), passed(rails)]
    rails.change(Limits(concurrency=2, queue=3, rate_hz=1, burst=1, breaker=RULES), 0)
    assert [ticket.waiting for ticket in waiting] == [False, True]
    passed(rails)
    assert refused(rails).code == "rate_limit_exceeded"
    rails.leave(waiting[0], Outcome.FAILED, 0)
    rails.change(Limits(breaker=None), 0)
    assert rails.breaker.state is BreakerState.CLOSED
    passed(rails)


def test_the_same_limits_again_change_nothing() -> None:
    """A policy that says what holds already does not hand out a new burst."""
    rails = Guardrails(Limits(rate_hz=1, burst=1))
    passed(rails)
    rails.change(Limits(rate_hz=1, burst=1, concurrency=5), 0)
    assert refused(rails).code == "rate_limit_exceeded"


def test_a_refusal_by_rate_gives_its_trial_back() -> None:
    """A trial that the rate limit turned away is not counted as one under way."""
    rails = Guardrails(Limits(rate_hz=1, burst=1, breaker=Rules(least=1, trials=1, cooldown_ns=1)))
    failing(rails, 1)
    assert refused(rails, 2).code == "rate_limit_exceeded"
    assert isinstance(rails.breaker.ask(2, queue_empty=True), Permit)


def test_recent_counts_slide() -> None:
    """Counts go after the window, not all at once with the turn of one."""
    recent = Recent(100, kinds=1)
    for now in range(0, 100, 10):
        recent.add(0, now)
    assert recent.totals(99) == [10]
    assert recent.totals(125) == [7]
    assert recent.totals(10_000) == [0]


def test_switching_off_an_open_breaker_passes_through_half_open() -> None:
    """Not even an operator makes it skip a state."""
    breaker = Breaker(Rules(least=1))
    permit = breaker.ask(0, queue_empty=True)
    assert isinstance(permit, Permit)
    breaker.done(permit, Outcome.FAILED, 0)
    breaker.switch_off(0)
    assert [change.state for change in breaker.changes] == [BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED]


def test_upstreams_take_turns() -> None:
    """The least busy is chosen, each in its turn; one that could not be reached comes last for a second, a tried one never."""
    upstreams = Upstreams(["a", "b", "c"])
    assert [getattr(upstreams.pick(0), "origin", "") for _ in range(4)] == ["a", "b", "c", "a"]
    first, second, third = upstreams.all
    second.inflight = 1
    assert upstreams.pick(0) is third
    assert upstreams.unreachable(first, 0)
    assert not upstreams.unreachable(first, 1)
    assert upstreams.pick(1) is third
    assert upstreams.pick(2) is third
    third.inflight = 2
    assert upstreams.pick(3) is second
    assert upstreams.pick(3, [second, third]) is first
    assert upstreams.pick(3, upstreams.all) is None
    assert upstreams.pick(REST_NS + 1) is first
