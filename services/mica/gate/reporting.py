"""The bus side: what the gate tells, and what it is told of its slice.

Invariant: nothing waits for the bus. What cannot be told in time is dropped, the oldest first, and counted.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final

from mica.bus import Bus, BusError, Clock
from mica.events import Fact, GatePolicy, SliceRecord, Slo
from mica.policy import follow

KEPT: Final = 64
"""So many events wait for the bus: a minute of reports."""
RETRY_S: Final = 1.0

log = logging.getLogger(__name__)


class Reporter:
    """Tells events in the background. ``connected``: the bus took what it was told last."""

    def __init__(self, clock: Clock) -> None:
        self.connected = False
        self.told = 0
        self.dropped = 0
        self._clock = clock
        self._events: deque[Fact] = deque()
        self._news = asyncio.Event()
        self._leaving = False

    def tell(self, event: Fact) -> None:
        """Keep an event to be told."""
        if len(self._events) >= KEPT:
            self._events.popleft()
            self.dropped += 1
        self._events.append(event)
        self._news.set()

    async def serve(self, connect: Callable[[], Awaitable[Bus]], listen: Callable[[Bus], Coroutine[Any, Any, None]]) -> None:
        """Connect, tell and ``listen`` until cancelled; begin anew whenever that fails, whatever the reason."""
        told = ""
        while not self._leaving:
            try:
                await self._session(await connect(), listen)
            except Exception as error:  # noqa: BLE001 - nothing that is wrong with the bus may end the gate
                reason = str(_first(error))
                if reason != told:
                    log.warning("without the bus for now: %s", reason)
                told = reason
            if not self._leaving:
                await self._clock.sleep(RETRY_S)

    async def _session(self, bus: Bus, listen: Callable[[Bus], Coroutine[Any, Any, None]]) -> None:
        try:
            self.connected = True
            async with asyncio.TaskGroup() as group:
                group.create_task(self._publish(bus))
                group.create_task(listen(bus))
        finally:
            self.connected = False
            await bus.close()

    def leave(self) -> None:
        """Before ``serve`` is cancelled: a task group with an error to tell hides that it was, and nothing must begin anew."""
        self._leaving = True

    async def flush(self, bus: Bus) -> None:
        """Tell what waits; what the bus does not take is dropped."""
        while self._events:
            event = self._events.popleft()
            try:
                await bus.publish(event)
                self.told += 1
                self.connected = True
            except BusError as error:
                self.dropped += 1
                self.connected = False
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


def _first(error: Exception) -> Exception:
    """The first error of a group, however deep."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


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
