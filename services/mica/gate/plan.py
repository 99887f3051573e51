"""What a gate is told when it is started. Invariant: of a plan that was checked, only the world can be in the way."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from mica.bus import DEFAULT_URL, ServiceError
from mica.events import GatePolicy, SliceId
from mica.gate.domain.breaker import Rules
from mica.gate.domain.guardrails import Limits

NS_PER_S: Final = 1_000_000_000
SCHEMES: Final = ("http", "https")
UPSTREAM_ALLOWED: Final = "http://HOST:PORT or https://HOST, perhaps with a path, without a query"
LISTEN_ALLOWED: Final = "HOST:PORT, such as 127.0.0.1:9000 or [::1]:9000; port 0 is any free one"


class Plan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One gate. Of the limits, and of ``body_max_bytes``, 0 is none.

    An upstream may be silent for ``upstream_timeout_s``, and a client stand still for ``client_timeout_s``.
    """

    slice: SliceId
    upstreams: tuple[str, ...]
    listen: str = "127.0.0.1:9000"
    rate_hz: float = 0.0
    burst: int = 0
    concurrency: int = 0
    queue: int = 0
    queue_timeout_s: float = 2.0
    breaker: bool = True
    breaker_share_ppm: int = 500_000
    breaker_least: int = 20
    breaker_window_s: float = 10.0
    breaker_cooldown_s: float = 5.0
    breaker_trials: int = 3
    window_s: float = 1.0
    connect_timeout_s: float = 2.0
    upstream_timeout_s: float = 600.0
    client_timeout_s: float = 60.0
    body_max_bytes: int = 0
    grace_s: float = 10.0
    bus: bool = True
    nats_url: str = DEFAULT_URL

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen at."""
        parts = urlsplit(f"//{self.listen}")
        return parts.hostname or "", parts.port or 0


def plan_of(given: Mapping[str, Any]) -> Plan:
    """A plan from names and values.

    Raises:
        ServiceError: naming the option, what it was and what is allowed.
    """
    try:
        plan = msgspec.convert(given, Plan)
    except msgspec.ValidationError as error:
        raise ServiceError(str(error)) from None
    if not plan.upstreams:
        raise ServiceError(f"--upstream: got none, allowed: {UPSTREAM_ALLOWED}")
    for upstream in plan.upstreams:
        _check_upstream(upstream)
    _check_listen(plan.listen)
    if plan.queue and not plan.concurrency:
        raise ServiceError(f"--queue: got {plan.queue} without --concurrency, where nobody waits; allowed: both, or neither")
    if plan.window_s < 0.1:
        raise ServiceError(f"--window: got {plan.window_s:g} s, allowed: 100ms or more")
    return plan


def limits_of(plan: Plan, policy: GatePolicy | None) -> Limits:
    """The guardrails in force: what the policy of the slice's gates says, else what the gate was started with."""
    said = policy or GatePolicy()
    concurrency = plan.concurrency if said.concurrency is None else said.concurrency
    timeout_s = plan.queue_timeout_s if said.queue_timeout_s is None else said.queue_timeout_s
    # A burst belongs to the rate beside it: that of the command line says nothing about another rate.
    burst = plan.burst if said.rate_hz is None else 0
    return Limits(
        rate_hz=plan.rate_hz if said.rate_hz is None else said.rate_hz,
        burst=burst if said.burst is None else said.burst,
        concurrency=concurrency,
        queue=(plan.queue if said.queue is None else said.queue) if concurrency else 0,
        queue_timeout_ns=round(timeout_s * NS_PER_S),
        breaker=_rules(plan) if (plan.breaker if said.breaker is None else said.breaker) else None,
    )


def _rules(plan: Plan) -> Rules:
    return Rules(
        share_ppm=plan.breaker_share_ppm,
        least=plan.breaker_least,
        window_ns=round(plan.breaker_window_s * NS_PER_S),
        cooldown_ns=round(plan.breaker_cooldown_s * NS_PER_S),
        trials=plan.breaker_trials,
    )


def _check_upstream(text: str) -> None:
    try:
        parts = urlsplit(text)
        fit = parts.scheme in SCHEMES and parts.hostname and parts.port != 0 and not parts.query and not parts.fragment
        fit = fit and not parts.username
    except ValueError:
        fit = False
    if not fit:
        raise ServiceError(f"--upstream: got {text[:80]}, allowed: {UPSTREAM_ALLOWED}")


def _check_listen(text: str) -> None:
    try:
        parts = urlsplit(f"//{text}")
        fit = parts.hostname and parts.port is not None and not parts.path
    except ValueError:
        fit = False
    if not fit:
        raise ServiceError(f"--listen: got {text[:80]}, allowed: {LISTEN_ALLOWED}")
