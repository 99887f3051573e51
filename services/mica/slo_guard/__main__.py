"""Wires the guard: reports and refusals from the bus. Invariant: replicas share two durable consumers and no memory."""

import asyncio
import os
from collections.abc import Mapping
from typing import Final

from mica.bus import Bus, Clock, ServiceError, Settings, SystemClock, announce_ready, run_service
from mica.events import SLICES, SLO
from mica.observability import configure_logging, tracer
from mica.slo_guard.handlers import Guard
from mica.slo_guard.judge import Policy

NAME: Final = "slo_guard"
REPORTS: Final = "slo.report.*"
REFUSALS: Final = "slice.refused.*"


async def run(bus: Bus, settings: Settings, clock: Clock | None = None) -> None:
    """Guard every slice that reports, until cancelled.

    Raises:
        ServiceError: MICA_SLO_WINDOWS or MICA_SLO_COOLDOWN_S is no usable number.
    """
    tracing = tracer(NAME, settings.otlp_endpoint)
    guard = Guard(bus, policy(os.environ), clock or SystemClock(), tracing)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_consume(bus, guard, SLICES.name, REFUSALS))
            group.create_task(_consume(bus, guard, SLO.name, REPORTS))
            announce_ready(NAME)
    finally:
        tracing.close()


def main() -> None:
    """Run as a process."""
    configure_logging(NAME)
    run_service(NAME, run)


def policy(environment: Mapping[str, str]) -> Policy:
    """The policy that MICA_SLO_WINDOWS and MICA_SLO_COOLDOWN_S ask for.

    Raises:
        ServiceError: naming the variable, what it held and what is allowed.
    """
    default = Policy()
    windows = _number(environment, "MICA_SLO_WINDOWS", default.windows)
    if windows != int(windows):
        raise ServiceError(f"MICA_SLO_WINDOWS: got {windows:g}, allowed: a whole number from 1 up")
    return Policy(windows=int(windows), cooldown_s=_number(environment, "MICA_SLO_COOLDOWN_S", default.cooldown_s))


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


if __name__ == "__main__":
    main()
