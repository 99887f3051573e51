"""Wires the guard: reports, refusals, telemetry. Invariant: replicas share two durable consumers and no memory."""

import asyncio
import logging
import os
from collections.abc import Mapping
from typing import Final

from mica.bus import Bus, BusError, Clock, ServiceError, Settings, SystemClock, announce_ready, run_service
from mica.events import SLICES, SLO, GuardState, SliceSampled
from mica.observability import configure_logging, tracer
from mica.slo_guard.handlers import Guard
from mica.slo_guard.weighing import Patience

NAME: Final = "slo_guard"
REPORTS: Final = "slo.report.*"
REFUSALS: Final = "slice.refused.*"
SAMPLES: Final = "telemetry.slice.*"
TICK_S: Final = 2.0

log = logging.getLogger(__name__)


async def run(bus: Bus, settings: Settings, clock: Clock | None = None) -> None:
    """Guard every slice that reports, until cancelled.

    Raises:
        ServiceError: MICA_SLO_WINDOWS or MICA_SLO_COOLDOWN_S is no usable number.
    """
    tracing = tracer(NAME, settings.otlp_endpoint)
    clock = clock or SystemClock()
    guard = Guard(bus, patience(os.environ), clock, tracing)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_consume(bus, guard, SLICES.name, REFUSALS))
            group.create_task(_consume(bus, guard, SLO.name, REPORTS))
            group.create_task(follow_telemetry(bus, guard))
            group.create_task(_watch(bus, guard))
            group.create_task(_tick(guard, clock))
            announce_ready(NAME)
    finally:
        tracing.close()


def main() -> None:
    """Run as a process."""
    configure_logging(NAME)
    run_service(NAME, run)


def patience(environment: Mapping[str, str]) -> Patience:
    """The patience that MICA_SLO_WINDOWS and MICA_SLO_COOLDOWN_S ask for, where a pool's policy says nothing.

    Raises:
        ServiceError: naming the variable, what it held and what is allowed.
    """
    default = Patience()
    windows = _number(environment, "MICA_SLO_WINDOWS", default.windows)
    if windows != int(windows):
        raise ServiceError(f"MICA_SLO_WINDOWS: got {windows:g}, allowed: a whole number from 1 up")
    return Patience(windows=int(windows), cooldown_s=_number(environment, "MICA_SLO_COOLDOWN_S", default.cooldown_s))


def _number(environment: Mapping[str, str], variable: str, default: float) -> float:
    text = environment.get(variable) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value <= 86_400:
        raise ServiceError(f"{variable}: got {text[:80]}, allowed: 1 to 86400")
    return value


async def _consume(bus: Bus, guard: Guard, stream: str, subject: str) -> None:
    async for deliveries in bus.consume(stream, NAME, subjects=(subject,)):
        await guard.on_batch(deliveries)


async def follow_telemetry(bus: Bus, guard: Guard) -> None:
    """Let a replica see every slice at work, live and by itself: reports are shared work, these are not."""
    async with bus.following(SAMPLES) as samples:
        async for heard in samples:
            if isinstance(heard.event, SliceSampled):
                guard.on_sampled(heard.event)


async def _watch(bus: Bus, guard: Guard) -> None:
    async for changes in bus.state.watch("guard.*", GuardState):
        guard.on_states(changes)


async def _tick(guard: Guard, clock: Clock) -> None:
    while True:
        await clock.sleep(TICK_S)
        try:
            await guard.on_tick()
        except BusError as error:
            log.warning("%s; trying again in %.0f s", error, TICK_S)


if __name__ == "__main__":
    main()
