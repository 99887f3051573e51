"""Wires a gate: the server first, the bus when it is there.

Invariant: the gate serves without the bus as with it. A signal lets what is under way come to its end, a second does not wait.
"""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

import uvloop

from mica.bus import Bus, Clock, JetStreamBus, ServiceError, Settings, SettingsError, SystemClock, announce_ready
from mica.gate.handlers import Gate
from mica.gate.plan import Plan, limits_of, plan_of
from mica.gate.reporting import Reporter, policies, promises
from mica.gate.server import serving, upstreams_of
from mica.observability import Tracer, configure_logging, tracer

NAME: Final = "gate"
CANCEL_AGAIN_S: Final = 2.0


async def run(
    plan: Plan, stop: asyncio.Event, tracing: Tracer, *, clock: Clock | None = None, on_ready: Callable[[str], None] = print
) -> None:
    """Serve until ``stop``, then until what is under way has ended. ``on_ready`` hears the address.

    Raises:
        ServiceError: the address can't be listened at.
    """
    clock = clock or SystemClock()
    reporter, upstreams = Reporter(clock), upstreams_of(plan)
    gate = Gate(plan, clock, tracing, reporter.tell if plan.bus else lambda _: None)
    async with asyncio.TaskGroup() as group:
        background = [group.create_task(_windows(plan, gate, reporter, clock))]
        if plan.bus:
            background.append(group.create_task(reporter.serve(lambda: _connect(plan), lambda bus: _listen(bus, plan, gate))))
        async with serving(plan, gate, reporter, upstreams) as address:
            on_ready(address)
            await stop.wait()
        _report(plan, gate, reporter)
        reporter.leave()
        await _ended(set(background))


def main(given: Mapping[str, Any]) -> None:
    """Run as a process; exits with status 1 and one line on stderr when it can't go on."""
    configure_logging(NAME)
    try:
        endpoint = Settings.from_environment().otlp_endpoint
        uvloop.run(_main(plan_of(given), endpoint))
    except (ServiceError, SettingsError) as error:
        sys.exit(f"mica gate: {error}")
    except ExceptionGroup as group:
        expected, unexpected = group.split(ServiceError)
        if unexpected is not None or expected is None:
            raise
        sys.exit(f"mica gate: {expected.exceptions[0]}")


async def _main(plan: Plan, endpoint: str) -> None:
    gc.freeze()
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def told() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told)

    def ready(address: str) -> None:
        print(f"mica gate: slice {plan.slice} at {address}, before {', '.join(plan.upstreams)}", flush=True)
        announce_ready(NAME)

    tracing = tracer(NAME, endpoint)
    try:
        await run(plan, stop, tracing, on_ready=ready)
    finally:
        tracing.close()


async def _ended(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel these, repeatedly: a cancellation can get lost in a library's ``wait_for``."""
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=CANCEL_AGAIN_S)


async def _windows(plan: Plan, gate: Gate, reporter: Reporter, clock: Clock) -> None:
    """End a window after another."""
    while True:
        await clock.sleep(plan.window_s)
        _report(plan, gate, reporter)


def _report(plan: Plan, gate: Gate, reporter: Reporter) -> None:
    report = gate.end_window()
    if report is not None and plan.bus:
        reporter.tell(report)


async def _connect(plan: Plan) -> Bus:
    return await JetStreamBus.connect(plan.nats_url, name="mica-gate")


async def _listen(bus: Bus, plan: Plan, gate: Gate) -> None:
    """Follow what the slice is promised, and the policy of its gates."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_follow_promises(bus, plan, gate))
        group.create_task(_follow_policies(bus, plan, gate))


async def _follow_promises(bus: Bus, plan: Plan, gate: Gate) -> None:
    async for slo in promises(bus, plan.slice):
        gate.meter.slo = slo


async def _follow_policies(bus: Bus, plan: Plan, gate: Gate) -> None:
    async for policy in policies(bus, plan.slice):
        gate.change(limits_of(plan, policy))
