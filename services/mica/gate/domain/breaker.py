"""The circuit breaker. Everything that changes its state, and every change that there is, stands in ``TRANSITIONS``.

Invariant: from open it never goes to closed but through half open, where at most ``trials`` requests are let through at a time.
"""

from enum import Enum
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from mica.events import PPM, BreakerState
from mica.gate.domain.recent import Recent

CLOSED, HALF_OPEN, OPEN = BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.OPEN
BACKOFF_MAX: Final = 3
"""After each trial that failed the breaker rests twice as long, but at most 2 to the power of this times."""


class Sign(Enum):
    """What a breaker may be told."""

    FAILING = "too many requests fail"
    CROWDED = "too many requests find the queue full, or wait in it for too long"
    RESTED = "what it was opened for may be over"
    RECOVERED = "enough trials were answered"
    SWITCHED_OFF = "it is switched off"


TRANSITIONS: Final = MappingProxyType(
    {
        (CLOSED, Sign.FAILING): OPEN,
        (CLOSED, Sign.CROWDED): OPEN,
        (OPEN, Sign.RESTED): HALF_OPEN,
        (HALF_OPEN, Sign.FAILING): OPEN,
        (HALF_OPEN, Sign.CROWDED): OPEN,
        (HALF_OPEN, Sign.RECOVERED): CLOSED,
        (OPEN, Sign.SWITCHED_OFF): HALF_OPEN,
        (HALF_OPEN, Sign.SWITCHED_OFF): CLOSED,
    }
)


class Outcome(Enum):
    """How a request that was let through ended; ``unknown``: before anybody could tell, as its client left."""

    ANSWERED = 0
    FAILED = 1
    UNKNOWN = 2


CROWDING: Final = 2
"""What ``Recent`` counts those under that the queue turned away; the others under the values of their outcomes."""


class Rules(Struct, frozen=True, kw_only=True):
    """When it opens and closes.

    It opens when of at least ``least`` requests in the last ``window_ns`` the part ``share_ppm`` failed, or was turned away by
    the queue. After failures it rests ``cooldown_ns``, after crowding until the queue is empty; then ``trials`` requests
    in a row must be answered.
    """

    share_ppm: int = 500_000
    least: int = 20
    window_ns: int = 10_000_000_000
    cooldown_ns: int = 5_000_000_000
    trials: int = 3


class Permit(Struct, frozen=True):
    """Leave to pass, given in period ``period`` of the breaker. ``trial``: how it ends decides whether it closes."""

    period: int
    trial: bool


class Tripped(Struct, frozen=True, kw_only=True):
    """The breaker changed to ``state``, and why; the counts are those of its window."""

    state: BreakerState
    sign: Sign
    answered: int
    failed: int
    crowded: int


class Breaker:
    """One breaker."""

    def __init__(self, rules: Rules) -> None:
        self.state = CLOSED
        self.changes: list[Tripped] = []
        """What changed and was not taken from here yet."""
        self._rules = rules
        self._recent = Recent(rules.window_ns, kinds=3)
        self._period = 0
        self._opened_by = Sign.FAILING
        self._closed_until_ns = 0
        self._strikes = 0
        self._trying = 0
        self._passed = 0

    def ask(self, now_ns: int, *, queue_empty: bool) -> Permit | int:
        """Leave to pass, or after how many nanoseconds to ask again; 0: not known."""
        self.tick(now_ns, queue_empty=queue_empty)
        if self.state is OPEN:
            return max(0, self._closed_until_ns - now_ns) if self._opened_by is Sign.FAILING else 0
        if self.state is HALF_OPEN:
            if self._trying + self._passed >= self._rules.trials:
                return 0
            self._trying += 1
            return Permit(self._period, trial=True)
        return Permit(self._period, trial=False)

    def tick(self, now_ns: int, *, queue_empty: bool) -> None:
        """Time passes, or the queue gets shorter."""
        if self.state is not OPEN:
            return
        rested = now_ns >= self._closed_until_ns if self._opened_by is Sign.FAILING else queue_empty
        if rested:
            self._told(Sign.RESTED, now_ns)

    def done(self, permit: Permit, outcome: Outcome, now_ns: int) -> None:
        """A request that was let through has ended. What was let through before the last change tells nothing of now."""
        if permit.period != self._period:
            return
        if outcome is not Outcome.UNKNOWN:
            self._recent.add(outcome.value, now_ns)
        if permit.trial:
            self._on_trial(outcome, now_ns)
        elif outcome is Outcome.FAILED:
            self._judge(Sign.FAILING, Outcome.FAILED.value, now_ns)

    def crowded(self, permit: Permit, now_ns: int) -> None:
        """The queue turned away a request that was let through."""
        if permit.period != self._period:
            return
        self._recent.add(CROWDING, now_ns)
        if permit.trial:
            self._trying -= 1
            self._told(Sign.CROWDED, now_ns)
        else:
            self._judge(Sign.CROWDED, CROWDING, now_ns)

    def switch_off(self, now_ns: int) -> None:
        """Close it, by way of half open."""
        while self.state is not CLOSED:
            self._told(Sign.SWITCHED_OFF, now_ns)

    def _on_trial(self, outcome: Outcome, now_ns: int) -> None:
        self._trying -= 1
        if outcome is Outcome.FAILED:
            self._told(Sign.FAILING, now_ns)
        elif outcome is Outcome.ANSWERED:
            self._passed += 1
            if self._passed >= self._rules.trials:
                self._told(Sign.RECOVERED, now_ns)

    def _judge(self, sign: Sign, kind: int, now_ns: int) -> None:
        counts = self._recent.totals(now_ns)
        total = sum(counts)
        if total >= self._rules.least and counts[kind] * PPM >= self._rules.share_ppm * total:
            self._told(sign, now_ns)

    def _told(self, sign: Sign, now_ns: int) -> None:
        after = TRANSITIONS.get((self.state, sign))
        if after is None:
            return
        before, self.state = self.state, after
        self._period += 1
        self._trying = self._passed = 0
        answered, failed, crowded = self._recent.totals(now_ns)
        self.changes.append(Tripped(state=after, sign=sign, answered=answered, failed=failed, crowded=crowded))
        if after is OPEN:
            self._strikes = min(self._strikes + 1, BACKOFF_MAX) if before is HALF_OPEN else 0
            self._opened_by = sign
            self._closed_until_ns = now_ns + (self._rules.cooldown_ns << self._strikes)
        else:
            self._recent.clear()
