"""Commands on their way to the handlers, throttled per tenant.

Owns the order in which commands start. Invariants: a tenant that asks too much waits alone, commands of one tenant start in the
order in which they came, and what is in hand is bounded.
"""

import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from asyncio_throttle.throttler import Throttler

from mica.planner.commits import Spawn
from mica.planner.desk import Call

RUNNING: Final = 256
"""Commands that are decided and written at the same time."""
HELD_PER_TENANT: Final = 1_024
"""Commands of one tenant that wait here; more go back to the stream."""
IDLE_LANES: Final = 1_024


class Rate(Throttler):
    """A throttler that can also be asked without waiting."""

    def take(self) -> bool:
        """Start now if the rate allows it."""
        self.flush()  # type: ignore[no-untyped-call]  # asyncio-throttle is not annotated
        if len(self._task_logs) >= self.rate_limit:
            return False
        self._task_logs.append(time.monotonic())
        return True


class _Lane:
    __slots__ = ("held", "moving", "rate")

    def __init__(self, per_s: int) -> None:
        self.rate = Rate(rate_limit=per_s)
        self.held: deque[Call] = deque()
        self.moving = False


class Lanes:
    """One lane per tenant, and room for ``RUNNING`` commands behind them."""

    def __init__(self, rate_of: Callable[[str], int], handle: Callable[[Call], Awaitable[None]], spawn: Spawn) -> None:
        self._rate_of = rate_of
        self._handle = handle
        self._spawn = spawn
        self._lanes: dict[str, _Lane] = {}
        self._running = 0
        self._backlog: deque[Call] = deque()

    def put(self, tenant: str, call: Call) -> bool:
        """Start the command when its tenant's turn comes; False when the tenant has too many waiting."""
        lane = self._lane(tenant)
        if not lane.held and lane.rate.take():
            self._start(call)
            return True
        if len(lane.held) >= HELD_PER_TENANT:
            return False
        lane.held.append(call)
        if not lane.moving:
            lane.moving = True
            self._spawn(self._move(lane))
        return True

    def put_again(self, call: Call) -> None:
        """Start a command that has passed its lane before."""
        self._start(call)

    def _lane(self, tenant: str) -> _Lane:
        per_s = self._rate_of(tenant)
        lane = self._lanes.get(tenant)
        if lane is None:
            if len(self._lanes) >= IDLE_LANES:
                self._lanes = {name: each for name, each in self._lanes.items() if each.moving}
            lane = self._lanes[tenant] = _Lane(per_s)
        lane.rate.rate_limit = per_s
        return lane

    async def _move(self, lane: _Lane) -> None:
        try:
            while lane.held:
                await lane.rate.acquire()  # type: ignore[no-untyped-call]  # as above
                self._start(lane.held.popleft())
        finally:
            lane.moving = False

    def _start(self, call: Call) -> None:
        if self._running >= RUNNING:
            self._backlog.append(call)
            return
        self._running += 1
        self._spawn(self._run(call))

    async def _run(self, call: Call) -> None:
        try:
            await self._handle(call)
            while self._backlog:
                await self._handle(self._backlog.popleft())
        finally:
            self._running -= 1
