"""Wires telemetry: follows what is observed and samples it. Invariant: a node without slices costs no sampling."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Final, TypeVar

from mica.bus import Bus, Change, Clock, ServiceError, Settings, SystemClock, announce_ready, run_service
from mica.events import Document, Ledger, Observed
from mica.observability import configure_logging
from mica.region import RuntimeDir
from mica.telemetry.handlers import Sampler
from mica.telemetry.sources import Sources

NAME: Final = "telemetry"
PERIOD_VARIABLE: Final = "MICA_SAMPLE_S"
PERIOD_S: Final = 1.0
PERIOD_MIN_S: Final = 0.01
PACE_S: Final = 0.25
"""Between two looks at what changed: a busy planner writes hundreds of ledgers a second, of which a sample needs the latest."""

LAST_FLUSH_S: Final = 2.0

T = TypeVar("T", bound=Document)


async def run(bus: Bus, settings: Settings, clock: Clock | None = None) -> None:
    """Sample the node's slices until cancelled.

    Raises:
        ServiceError: MICA_SAMPLE_S is no period.
        BusError: the stored usage cannot be read.
    """
    clock = clock or SystemClock()
    period_s = sample_period_s(os.environ)
    sources = Sources(RuntimeDir(settings.runtime_dir))
    sampler = Sampler(bus, settings.node, sources, clock)
    await sampler.restore()
    try:
        async with asyncio.TaskGroup() as group:
            following = [asyncio.Event(), asyncio.Event()]
            group.create_task(_follow(bus.state.watch(f"ledger.{settings.node}", Ledger), sampler.on_ledger, following[0], clock))
            group.create_task(
                _follow(bus.state.watch(f"observed.{settings.node}", Observed), sampler.on_observed, following[1], clock)
            )
            for begun in following:
                await begun.wait()
            announce_ready(NAME)
            while True:
                await sampler.busy.wait()
                await sampler.on_tick()
                await clock.sleep(period_s)
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_FLUSH_S):
                await sampler.flush()
        sources.close()


def main() -> None:
    """Run as a process."""
    configure_logging(NAME)
    run_service(NAME, run)


def sample_period_s(environment: Mapping[str, str]) -> float:
    """The sampling period in seconds.

    Raises:
        ServiceError: what is set is no number from 0.01 up.
    """
    text = environment.get(PERIOD_VARIABLE) or str(PERIOD_S)
    try:
        period_s = float(text)
    except ValueError:
        period_s = 0.0
    if not PERIOD_MIN_S <= period_s < float("inf"):
        raise ServiceError(f"{PERIOD_VARIABLE}: got {text[:80]}, allowed: seconds, at least {PERIOD_MIN_S}")
    return period_s


async def _follow(
    changes: AsyncIterator[list[Change[T]]], handle: Callable[[T], None], begun: asyncio.Event, clock: Clock
) -> None:
    """Hand the latest values of one key to ``handle``; ``begun`` is set once what exists was handed over."""
    async for batch in changes:
        for change in batch:
            if change.value is not None:
                handle(change.value)
        begun.set()
        await clock.sleep(PACE_S)


if __name__ == "__main__":
    main()
