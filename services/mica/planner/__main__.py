"""Wires the planner. Invariant: no decision is made here."""

import os

from mica.bus import Bus, ServiceError, Settings, SystemClock, announce_ready, run_service
from mica.observability import configure_logging, tracer
from mica.planner.policies import DEFAULT_COMMANDS_PER_S
from mica.planner.service import Planner, World

RATE_VARIABLE = "MICA_COMMANDS_PER_S"


async def run(bus: Bus, settings: Settings) -> None:
    """Plan until cancelled."""
    spans = tracer("planner", settings.otlp_endpoint)
    try:
        await Planner(World(bus, SystemClock(), spans, commands_per_s())).run(lambda: announce_ready("planner"))
    finally:
        spans.close()


def commands_per_s() -> int:
    """How many commands a second each tenant may send, from the environment.

    Raises:
        ServiceError: the variable holds no positive number.
    """
    given = os.environ.get(RATE_VARIABLE) or str(DEFAULT_COMMANDS_PER_S)
    if not given.isdecimal() or int(given) < 1:
        raise ServiceError(f"{RATE_VARIABLE}: got {given}, allowed: a whole number of at least 1")
    return int(given)


def main() -> None:
    """Run the planner as a process."""
    configure_logging("planner")
    run_service("planner", run)


if __name__ == "__main__":
    main()
