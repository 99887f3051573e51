"""Wires the planner. Invariant: no decision is made here."""

import os

from mica.bus import Bus, ServiceError, Settings, SystemClock, announce_ready, run_service
from mica.observability import configure_logging, tracer
from mica.planner.policies import DEFAULT_COMMANDS_PER_S
from mica.planner.service import Planner, World

RATE_VARIABLE = "MICA_COMMANDS_PER_S"
HOME_VARIABLE = "MICA_PLANNER_HOME"
REPLICAS_MAX = 64


async def run(bus: Bus, settings: Settings) -> None:
    """Plan until cancelled."""
    spans = tracer("planner", settings.otlp_endpoint)
    try:
        await Planner(World(bus, SystemClock(), spans, commands_per_s(), home())).run(lambda: announce_ready("planner"))
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


def home() -> tuple[int, int]:
    """Which of how many parts of the pools this replica fills first, from the environment: ``1/2`` is the first of two.

    Raises:
        ServiceError: the variable holds something else.
    """
    given = os.environ.get(HOME_VARIABLE) or "1/1"
    which, slash, of = given.partition("/")
    if not (slash and which.isdecimal() and of.isdecimal() and 1 <= int(which) <= int(of) <= REPLICAS_MAX):
        raise ServiceError(f"{HOME_VARIABLE}: got {given}, allowed: n/m with 1 <= n <= m <= {REPLICAS_MAX}")
    return int(which) - 1, int(of)


def main() -> None:
    """Run the planner as a process."""
    configure_logging("planner")
    run_service("planner", run)


if __name__ == "__main__":
    main()
