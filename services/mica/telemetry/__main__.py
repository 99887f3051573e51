"""Wires telemetry: looks at what is observed, and samples it. Invariant: a node without slices costs no sampling."""

import asyncio
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from mica.bus import Bucket, Bus, BusError, Clock, ServiceError, Settings, SystemClock, announce_ready, run_service
from mica.events import Ledger, Observed
from mica.observability import configure_logging
from mica.region import RuntimeDir
from mica.telemetry.handlers import Sampler
from mica.telemetry.sources import Sources

NAME: Final = "telemetry"
PERIOD_VARIABLE: Final = "MICA_SAMPLE_S"
PERIOD_S: Final = 1.0
PERIOD_MIN_S: Final = 0.01
LAST_FLUSH_S: Final = 2.0

log = logging.getLogger(__name__)


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
        ready = False
        while True:
            try:
                await _look(bus.state, settings.node, sampler)
                if sampler.busy:
                    await sampler.on_tick()
            except BusError as error:
                log.warning("%s; trying again in %.0f s", error, period_s)
            else:
                if not ready:
                    announce_ready(NAME)
                ready = True
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


async def _look(state: Bucket, node: str, sampler: Sampler) -> None:
    """Hand the node's ledger and what is observed to the sampler.

    Read once per sample instead of watched: a busy planner writes hundreds of ledgers a second, and a sample needs the latest.
    """
    ledger, observed = await asyncio.gather(state.get(f"ledger.{node}", Ledger), state.get(f"observed.{node}", Observed))
    if ledger is not None:
        sampler.on_ledger(ledger.value)
    if observed is not None:
        sampler.on_observed(observed.value)


if __name__ == "__main__":
    main()
