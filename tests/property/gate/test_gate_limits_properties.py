"""The guardrails under any order of events: rate, places and queue."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mica.gate.domain.admission import Admission, Entry
from mica.gate.domain.breaker import Outcome
from mica.gate.domain.guardrails import Guardrails, Limits, Refusal, Ticket
from mica.gate.domain.rate import NS_PER_S, RateLimit

STEPS = st.lists(st.integers(0, NS_PER_S), min_size=1, max_size=200)


class Careless:
    """A rate limit that forgets what has passed whenever a second begins: the control."""

    def __init__(self, rate_hz: float, burst: int) -> None:
        self._left, self._second, self._rate = rate_hz, 0, rate_hz

    def take(self, now_ns: int) -> int:
        """As the real one."""
        if now_ns // NS_PER_S != self._second:
            self._left, self._second = self._rate, now_ns // NS_PER_S
        self._left -= 1
        return 0 if self._left >= 0 else 1


def worst_excess(limit: "RateLimit | Careless", steps: list[int], rate_hz: float, burst: int) -> float:
    """By how many more than allowed passed in any span between two that passed."""
    now, passed = 0, []
    for step in steps:
        now += step
        if limit.take(now) == 0:
            passed.append(now)
    spans = ((j - i + 1, passed[j] - passed[i]) for i in range(len(passed)) for j in range(i, len(passed)))
    return max((count - burst - span * rate_hz / NS_PER_S for count, span in spans), default=0.0)


@given(st.floats(0.01, 1e5), st.integers(1, 50), STEPS)
def test_no_span_has_more_than_its_rate_and_one_burst(rate_hz: float, burst: int, steps: list[int]) -> None:
    """Whenever requests come, any span of t seconds lets through at most burst + rate x t."""
    assert worst_excess(RateLimit(rate_hz, burst), steps, rate_hz, burst) <= 1e-6


def test_the_control_lets_twice_as_many_through() -> None:
    """A limit that counts by the second passes two bursts at the turn of one, and the check sees it."""
    steps = [NS_PER_S - 5, *[1] * 20]
    assert worst_excess(Careless(5, 5), steps, 5, 5) > 0


@given(st.floats(0.01, 1e5), st.integers(1, 50), STEPS)
def test_whoever_comes_back_when_told_passes(rate_hz: float, burst: int, steps: list[int]) -> None:
    """The time that a refusal names is enough, and not a nanosecond of it is too much."""
    limit, now = RateLimit(rate_hz, burst), 0
    for step in steps:
        now += step
        wait_ns = limit.take(now)
        if wait_ns:
            assert limit.take(now + wait_ns - 1) == 1
            now += wait_ns
            assert limit.take(now) == 0


class AdmissionMachine(RuleBasedStateMachine):
    """Requests come, leave, give up, and the limits change; a list says in which order they came."""

    def __init__(self) -> None:
        super().__init__()
        self.places: Admission[int] = Admission(3, 2)
        self.waiting: list[int] = []
        self.inside: set[int] = set()
        self.allowed = 3
        self.number = 0

    @rule()
    def comes(self) -> None:
        self.number += 1
        entry = self.places.enter(self.number)
        if entry is Entry.GO:
            assert not self.waiting
            self.inside.add(self.number)
        elif entry is Entry.WAIT:
            self.waiting.append(self.number)
        else:
            assert len(self.waiting) >= self.places.queue

    @rule()
    def leaves(self) -> None:
        if self.inside:
            self.inside.pop()
            self.admitted(self.places.leave())

    @rule(index=st.integers(0, 10))
    def gives_up(self, index: int) -> None:
        if index < len(self.waiting):
            assert self.places.withdraw(self.waiting.pop(index))
        assert not self.places.withdraw(-1)

    @rule(concurrency=st.integers(1, 5), queue=st.integers(0, 4))
    def limits_change(self, concurrency: int, queue: int) -> None:
        self.allowed = max(concurrency, len(self.inside))
        self.admitted(self.places.change(concurrency, queue))

    def admitted(self, who: list[int]) -> None:
        """First come, first served."""
        assert who == self.waiting[: len(who)]
        del self.waiting[: len(who)]
        self.inside |= set(who)

    @invariant()
    def never_more_than_allowed(self) -> None:
        self.allowed = max(self.places.concurrency, min(self.allowed, len(self.inside)))
        assert self.places.inflight == len(self.inside) <= self.allowed

    @invariant()
    def nobody_waits_while_there_is_a_place(self) -> None:
        assert self.places.waiting == len(self.waiting)
        assert not self.waiting or len(self.inside) >= self.places.concurrency


TestAdmission = AdmissionMachine.TestCase


class GuardrailsMachine(RuleBasedStateMachine):
    """All guardrails at once, whatever becomes of requests."""

    def __init__(self) -> None:
        super().__init__()
        self.rails = Guardrails(Limits(rate_hz=1000, burst=5, concurrency=2, queue=2))
        self.now = 0
        self.gone: list[Ticket] = []
        self.held: list[Ticket] = []

    @rule(step=st.integers(0, 3 * NS_PER_S))
    def time_passes(self, step: int) -> None:
        self.now += step

    @rule()
    def comes(self) -> None:
        answer = self.rails.arrive(self.now, lambda: None)
        if isinstance(answer, Refusal):
            assert answer.retry_after_s >= 1
        else:
            self.held.append(answer)

    @rule(index=st.integers(0, 3), outcome=st.sampled_from(Outcome))
    def leaves(self, index: int, outcome: Outcome) -> None:
        if index < len(self.held):
            self.rails.leave(self.held.pop(index), outcome, self.now)

    @rule(index=st.integers(0, 3))
    def waits_too_long(self, index: int) -> None:
        if index < len(self.held):
            ticket, waited = self.held[index], self.held[index].waiting
            assert (self.rails.expire(ticket, self.now) is not None) == waited
            if waited:
                self.held.remove(ticket)

    @rule(breaker=st.booleans(), concurrency=st.integers(0, 3))
    def policy_changes(self, *, breaker: bool, concurrency: int) -> None:
        limits = Limits(rate_hz=1000, burst=5, concurrency=concurrency, queue=2 if concurrency else 0)
        self.rails.change(limits if breaker else Limits(concurrency=concurrency, queue=limits.queue, breaker=None), self.now)

    @invariant()
    def every_ticket_is_accounted_for(self) -> None:
        waiting = sum(ticket.waiting for ticket in self.held)
        assert (self.rails.places.waiting, self.rails.places.inflight) == (waiting, len(self.held) - waiting)


TestGuardrails = GuardrailsMachine.TestCase
