"""What stands before an upstream: circuit breaker, rate limit, places and queue, in this order.

Invariant: a ticket is given for what may pass or wait, and each ticket is given back exactly once; nothing else holds a place.
"""

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from mica.gate.domain.admission import Admission, Entry
from mica.gate.domain.breaker import Breaker, Outcome, Permit, Rules
from mica.gate.domain.rate import NS_PER_S, RateLimit

TOO_MANY: Final = 429
UNAVAILABLE: Final = 503


class Limits(Struct, frozen=True, kw_only=True):
    """The guardrails. 0: no such limit; ``burst`` 0: what comes in one second. ``breaker`` None: there is none."""

    rate_hz: float = 0.0
    burst: int = 0
    concurrency: int = 0
    queue: int = 0
    queue_timeout_ns: int = 2_000_000_000
    breaker: Rules | None = Rules()

    @property
    def effective_burst(self) -> int:
        """How many may come at once."""
        return self.burst or max(1, round(self.rate_hz))


class Refusal(Struct, frozen=True, kw_only=True):
    """A request is turned away: the status, a word for programs, and what to tell people. ``retry_after_s``: at least 1."""

    status: int
    code: str
    message: str
    retry_after_s: int = 1


class Ticket:
    """A request that was let through by the breaker. ``waiting``: until ``go`` is called."""

    __slots__ = ("go", "permit", "waiting")

    def __init__(self, permit: Permit | None, go: Callable[[], None]) -> None:
        self.permit = permit
        self.go = go
        self.waiting = False


class Guardrails:
    """The guardrails of one gate."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.places: Admission[Ticket] = Admission(limits.concurrency, limits.queue)
        self.breaker = Breaker(limits.breaker or Rules())
        self._rate = _rate(limits)

    def arrive(self, now_ns: int, go: Callable[[], None]) -> Ticket | Refusal:
        """A request comes. A ticket that is ``waiting`` may pass when ``go`` is called."""
        permit = None
        if self.limits.breaker is not None:
            asked = self.breaker.ask(now_ns, queue_empty=not self.places.waiting)
            if isinstance(asked, int):
                return _shut(asked)
            permit = asked
        ticket = Ticket(permit, go)
        wait_ns = self._rate.take(now_ns) if self._rate is not None else 0
        if wait_ns:
            self._settle(ticket, Outcome.UNKNOWN, now_ns)
            return _too_fast(self.limits, wait_ns)
        entry = self.places.enter(ticket)
        if entry is Entry.FULL:
            self._crowded(ticket, now_ns)
            return _full(self.places)
        ticket.waiting = entry is Entry.WAIT
        return ticket

    def leave(self, ticket: Ticket, outcome: Outcome, now_ns: int) -> None:
        """Give a ticket back: its request has ended, or does not wait any more."""
        self._settle(ticket, outcome, now_ns)
        if ticket.waiting:
            self.places.withdraw(ticket)
        else:
            _call(self.places.leave())
        self.breaker.tick(now_ns, queue_empty=not self.places.waiting)

    def expire(self, ticket: Ticket, now_ns: int) -> Refusal | None:
        """A ticket has waited for too long and is given back; None: it may pass now, and is not."""
        if not ticket.waiting:
            return None
        self.places.withdraw(ticket)
        self._crowded(ticket, now_ns)
        self.breaker.tick(now_ns, queue_empty=not self.places.waiting)
        return _waited(self.limits)

    def change(self, limits: Limits, now_ns: int) -> None:
        """Other limits from now on. The breaker keeps its rules; without one it closes."""
        if (limits.rate_hz, limits.effective_burst) != (self.limits.rate_hz, self.limits.effective_burst):
            self._rate = _rate(limits)
        self.limits = limits
        if limits.breaker is None:
            self.breaker.switch_off(now_ns)
        _call(self.places.change(limits.concurrency, limits.queue))

    def _settle(self, ticket: Ticket, outcome: Outcome, now_ns: int) -> None:
        if ticket.permit is not None:
            self.breaker.done(ticket.permit, outcome, now_ns)

    def _crowded(self, ticket: Ticket, now_ns: int) -> None:
        if ticket.permit is not None:
            self.breaker.crowded(ticket.permit, now_ns)


def _rate(limits: Limits) -> RateLimit | None:
    return RateLimit(limits.rate_hz, limits.effective_burst) if limits.rate_hz else None


def _call(tickets: list[Ticket]) -> None:
    for ticket in tickets:
        ticket.waiting = False
        ticket.go()


def _seconds(wait_ns: int) -> int:
    return max(1, -(-wait_ns // NS_PER_S))


def _shut(wait_ns: int) -> Refusal:
    message = "the circuit breaker is open: too many requests failed or found no place; try again later"
    return Refusal(status=UNAVAILABLE, code="breaker_open", message=message, retry_after_s=_seconds(wait_ns))


def _too_fast(limits: Limits, wait_ns: int) -> Refusal:
    message = f"more than {limits.rate_hz:g} requests/s (up to {limits.effective_burst} at once); try again later"
    return Refusal(status=TOO_MANY, code="rate_limit_exceeded", message=message, retry_after_s=_seconds(wait_ns))


def _full(places: Admission[Ticket]) -> Refusal:
    now = f"{places.inflight} requests are being answered and {places.waiting} wait"
    message = f"{now}, allowed: {places.concurrency} and {places.queue}"
    return Refusal(status=UNAVAILABLE, code="queue_full", message=message)


def _waited(limits: Limits) -> Refusal:
    message = f"no place became free in {limits.queue_timeout_ns / NS_PER_S:g} s"
    return Refusal(status=UNAVAILABLE, code="queue_timeout", message=message)
