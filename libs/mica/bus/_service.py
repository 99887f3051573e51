"""How a service process lives: connect, serve until told to stop, and say what went wrong in one line.

Invariant: SIGINT and SIGTERM end the process with status 0 after its last write; every other end has another status.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from mica.bus._collector import NEW_S, Collector
from mica.bus._errors import BusError, BusUnavailableError
from mica.bus._jetstream import JetStreamBus
from mica.bus._port import Bus
from mica.bus._settings import Settings, SettingsError

PATIENCE_S = 2.0
WAIT_FOR_SERVER_S = 30.0
CANCEL_AGAIN_S = 1.0


class ServiceError(Exception):
    """The service can not do its work here; the message is the one line that the operator sees."""


EXPECTED = (BusError, ServiceError, SettingsError)


def announce_ready(name: str) -> None:
    """Tell whoever started the process that it serves."""
    print(f"mica-{name} ready", flush=True)


def run_service(name: str, main: Callable[[Bus, Settings], Awaitable[None]]) -> None:
    """Run ``main`` until a signal comes; exits with status 1 and one line on stderr when it can't go on."""
    try:
        uvloop.run(_serve(name, main))
    except EXPECTED as error:
        sys.exit(f"mica-{name}: {error}")
    except ExceptionGroup as group:
        expected, unexpected = group.split(EXPECTED)
        if unexpected is not None or expected is None:
            raise
        sys.exit(f"mica-{name}: {_first(expected)}")


def _first(group: ExceptionGroup[Exception]) -> Exception:
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


async def _serve(name: str, main: Callable[[Bus, Settings], Awaitable[None]]) -> None:
    settings = Settings.from_environment()
    collecting = asyncio.ensure_future(_collect())
    bus = await _connect(settings.nats_url, name)
    task = asyncio.ensure_future(main(bus, settings))
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    try:
        await _until_done(task, told)
    finally:
        collecting.cancel()
        await bus.close()


async def _collect() -> None:
    """Search for cycles from time to time, never in the middle of something."""
    collector = Collector()
    try:
        while True:
            await asyncio.sleep(NEW_S)
            collector.step()
    finally:
        collector.end()


async def _connect(url: str, name: str) -> JetStreamBus:
    """Connect; when nobody answers yet, say so at once and wait: services and server may start together."""
    try:
        return await JetStreamBus.connect(url, name=f"mica-{name}", wait_s=PATIENCE_S)
    except BusUnavailableError as error:
        print(f"mica-{name}: {error}; waiting up to {WAIT_FOR_SERVER_S:.0f} s", file=sys.stderr, flush=True)
        return await JetStreamBus.connect(url, name=f"mica-{name}", wait_s=WAIT_FOR_SERVER_S)


async def _until_done(task: "asyncio.Future[None]", told: asyncio.Event) -> None:
    """Wait for ``task``, or cancel it once ``told``: repeatedly, as a cancellation can get lost in a library's ``wait_for``.

    A task group tells its children once, so those that were told and went on are told again along with ``task``.
    """
    waiter: asyncio.Future[Any] = asyncio.ensure_future(told.wait())
    both: set[asyncio.Future[Any]] = {task, waiter}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    while not task.done():
        task.cancel()
        for other in asyncio.all_tasks() - both - {asyncio.current_task()}:
            if other.cancelling():
                other.cancel()
        await asyncio.wait({task}, timeout=CANCEL_AGAIN_S)
    if not task.cancelled():
        task.result()
