"""The options of ``mica request`` and ``mica resize`` that set a slice's own limits. Invariant: one table, for both commands."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from mica.cli._quantities import BURST, CEILING, COUNT, PINNED, RATE, SPEED

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS: Final = (
    ("--pinned", "pinned_bytes", PINNED, "Pinned host memory at most: 4GiB; none lifts it."),
    ("--launch-rate", "launch_rate_hz", RATE, "Launches a second at most: 500, 2kHz; none lifts it."),
    ("--inflight", "inflight_max", COUNT, "Launches submitted and not finished at most: 64; none lifts it."),
    ("--copy-bandwidth", "copy_bytes_per_s", SPEED, "Copies and memsets at most: 10GiB/s; none lifts it."),
    ("--burst", "burst_ns", BURST, "How far it may run ahead of its share: 20ms; none is the node's own."),
    ("--ceiling", "ceiling_ppm", CEILING, "What it may use of the device while others leave it idle: 80%; none: its share."),
)


def limit_options(command: F) -> F:
    """Add the options to a command."""
    for flag, name, kind, text in reversed(OPTIONS):
        command = click.option(flag, name, type=kind, help=text)(command)
    return command


def take_limits(fields: dict[str, Any]) -> dict[str, int]:
    """Take what was given out of a command's fields, as ``limits`` of the event."""
    given = {name: fields.pop(name, None) for _, name, _, _ in OPTIONS}
    return {name: value for name, value in given.items() if value is not None}
