"""Time as services see it. Invariant: nothing in mica's services reads a clock that was not handed to it."""

import asyncio
import heapq
import time
from typing import Protocol


class Clock(Protocol):
    """Wall time, monotonic time and waiting."""

    def unix_ns(self) -> int:
        """Nanoseconds since 1970-01-01 UTC."""

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC in nanoseconds: the clock of the shared-memory regions."""

    async def sleep(self, seconds: float) -> None:
        """Wait that long on this clock."""


class SystemClock:
    """The machine's clocks."""

    def unix_ns(self) -> int:
        """Nanoseconds since 1970-01-01 UTC."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC in nanoseconds."""
        return time.monotonic_ns()

    async def sleep(self, seconds: float) -> None:
        """Wait that long."""
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that only moves when told: tests advance it instead of sleeping."""

    def __init__(self, unix_ns: int = 1_700_000_000_000_000_000) -> None:
        self._unix_ns = unix_ns
        self._elapsed_ns = 1_000_000_000_000
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def unix_ns(self) -> int:
        """Nanoseconds since 1970-01-01 UTC, as told."""
        return self._unix_ns

    def monotonic_ns(self) -> int:
        """The monotonic side of the same clock."""
        return self._elapsed_ns

    async def sleep(self, seconds: float) -> None:
        """Wait until ``advance`` has moved the clock that far."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed_ns + int(seconds * 1e9), id(future), future))
        await future

    def advance(self, seconds: float) -> None:
        """Move both sides forward and wake whoever's time has come."""
        step = int(seconds * 1e9)
        self._unix_ns += step
        self._elapsed_ns += step
        while self._sleepers and self._sleepers[0][0] <= self._elapsed_ns:
            future = heapq.heappop(self._sleepers)[2]
            if not future.done():
                future.set_result(None)
