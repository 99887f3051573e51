"""What a gate may be told, and what a policy changes of it."""

from typing import Any

import pytest

from mica.bus import ServiceError
from mica.events import GatePolicy
from mica.gate.domain.breaker import Rules
from mica.gate.plan import Plan, limits_of, plan_of

GOOD = {"slice": "s1", "upstreams": ["http://127.0.0.1:8000"]}

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no slice's name": ({"slice": "a b"}, "1 to 64|matching regex"),
    "no upstream": ({"upstreams": []}, "--upstream: got none, allowed: http://HOST:PORT"),
    "another scheme": ({"upstreams": ["ftp://x"]}, "--upstream: got ftp://x, allowed: http://HOST:PORT"),
    "no host": ({"upstreams": ["http://"]}, "--upstream: got http://"),
    "a port that is none": ({"upstreams": ["http://x:99999"]}, "--upstream: got http://x:99999"),
    "a query": ({"upstreams": ["http://x/?a=1"]}, "--upstream"),
    "a password": ({"upstreams": ["http://me:secret@x"]}, "--upstream"),
    "no port to listen at": ({"listen": "127.0.0.1"}, "--listen: got 127.0.0.1, allowed: HOST:PORT"),
    "a path to listen at": ({"listen": "127.0.0.1:1/x"}, "--listen"),
    "a queue before no places": ({"queue": 3}, "--queue: got 3 without --concurrency"),
    "a window that is too short": ({"window_s": 0.01}, "--window: got 0.01 s, allowed: 100ms or more"),
    "an option that nobody knows": ({"rat": 3}, "rat"),
}


@pytest.mark.parametrize(("given", "message"), BAD.values(), ids=BAD)
def test_what_can_not_work_is_refused_in_one_line(given: dict[str, Any], message: str) -> None:
    """Each wrong option is named with what it was and what is allowed."""
    with pytest.raises(ServiceError, match=message):
        plan_of(GOOD | given)


def test_addresses() -> None:
    """Names, IPv4 and IPv6 can be listened at."""
    for listen, address in {"[::1]:9000": ("::1", 9000), "localhost:0": ("localhost", 0), "0.0.0.0:80": ("0.0.0.0", 80)}.items():
        assert plan_of(GOOD | {"listen": listen}).address == address


def test_a_policy_stands_above_the_options() -> None:
    """What the policy says holds, what it leaves out is as started; without places nobody waits."""
    plan = Plan(slice="s1", upstreams=("http://x",), rate_hz=5, burst=9, concurrency=4, queue=8)
    plain = limits_of(plan, None)
    assert (plain.rate_hz, plain.burst, plain.concurrency, plain.queue, plain.breaker) == (5, 9, 4, 8, Rules())
    policy = limits_of(plan, GatePolicy(rate_hz=50, queue_timeout_s=0.5, breaker=False))
    assert (policy.rate_hz, policy.burst, policy.effective_burst) == (50, 0, 50)
    assert (policy.concurrency, policy.queue_timeout_ns, policy.breaker) == (4, 500_000_000, None)
    assert limits_of(Plan(slice="s1", upstreams=("http://x",)), GatePolicy(queue=5)).queue == 0
