"""The bus side: what the gate tells, and what it is told of its slice.

Invariant: nothing waits for the bus. What cannot be told in time is dropped, the oldest first, and counted.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final

from mica.bus import Bus, BusError, Clock
from mica.events import EventError, Fact, GatePolicy, SliceRecord, Slo
from mica.policy import follow

KEPT: Final = 64
"""So many events wait for the bus: a minute of reports."""
RETRY_S: Final = 1.0

log = logging.getLogger(__name__)


class Reporter:
    """Tells events in the background."""

    def __init__(self, clock: Clock) -> None:
        self.connected = False
        self.told = 0
        self.dropped = 0
        self._clock = clock
        self._events: deque[Fact] = deque()
        self._news = asyncio.Event()

    def tell(self, event: Fact) -> None:
        """Keep an event to be told."""
        if len(self._events) >= KEPT:
            self._events.popleft()
            self.dropped += 1
        self._events.append(event)
        self._news.set()

    async def serve(self, connect: Callable[[], Awaitable[Bus]], listen: Callable[[Bus], Coroutine[Any, Any, None]]) -> None:
        """Connect, tell and ``listen`` until cancelled; begin anew whenever the bus fails."""
        while True:
            try:
                bus = await connect()
            except BusError as error:
                log.warning("without the bus for now: %s", error)
                await self._clock.sleep(RETRY_S)
                continue
            try:
                self.connected = True
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._publish(bus))
                    group.create_task(listen(bus))
            except* (BusError, EventError) as errors:
                log.warning("the bus failed: %s", errors.exceptions[0])
            finally:
                self.connected = False
                await bus.close()
            await self._clock.sleep(RETRY_S)

    async def flush(self, bus: Bus) -> None:
        """Tell what waits; what the bus does not take is dropped."""
        while self._events:
            event = self._events.popleft()
            try:
                await bus.publish(event)
                self.told += 1
            except BusError as error:
                self.dropped += 1
                log.info("%s is not told: %s", type(event).__name__, error)

    async def _publish(self, bus: Bus) -> None:
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                await self.flush(bus)
        finally:
            # What was told last, on the way out, is sent as far as that takes no time.
            await self._last_words(bus)

    async def _last_words(self, bus: Bus) -> None:
        try:
            async with asyncio.timeout(1):
                await self.flush(bus)
        except TimeoutError:
            self.dropped += len(self._events)


async def promises(bus: Bus, slice_id: str) -> AsyncIterator[Slo | None]:
    """What the slice is promised, as its record says, now and whenever that changes; None: nothing, or there is no such slice."""
    async for changes in bus.state.watch(f"slice.{slice_id}", SliceRecord):
        if not changes:
            yield None
        for change in changes:
            yield change.value.request.slo if change.value is not None else None


async def policies(bus: Bus, slice_id: str) -> AsyncIterator[GatePolicy | None]:
    """The policy of the slice's gates, now and whenever it changes."""
    async for changes in follow(bus.policy, f"gate.{slice_id}", GatePolicy):
        for change in changes:
            yield change.value
