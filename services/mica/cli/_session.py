"""One connection per command. Invariant: it is closed before the command ends, and its errors come out as one line."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mica.cli._errors import CliError

if TYPE_CHECKING:
    from mica.bus import Bus

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def server_option(command: F) -> F:
    """``--server``: which NATS server to speak to."""
    return click.option("--server", metavar="URL", help="NATS server [MICA_NATS_URL, nats://127.0.0.1:4222].")(command)


def json_option(command: F) -> F:
    """``--json``: the answer for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")(command)


@asynccontextmanager
async def connected(server: str | None) -> AsyncIterator["Bus"]:
    """A bus, closed at the end of the block."""
    from mica.bus import JetStreamBus, Settings

    bus = await JetStreamBus.connect(server or Settings.from_environment().nats_url, name="mica-cli", wait_s=0)
    try:
        yield bus
    finally:
        await bus.close()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to the end.

    Raises:
        CliError: for what the bus could not do.
    """
    import asyncio

    from mica.bus import BusError, BusUnavailableError
    from mica.events import EventError

    try:
        return asyncio.run(coroutine)
    except BusUnavailableError as error:
        hint = "; is `mica up` running?" if "no NATS server" in str(error) else ""
        raise CliError(f"{error}{hint}") from None
    except (BusError, EventError) as error:
        raise CliError(str(error)) from None
