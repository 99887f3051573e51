"""``host.json``: what a simulated node has of its own, beside its devices. Invariant: 0 for what its node file does not say."""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

HOST_FILE = "host.json"

Cpus = Annotated[int, Meta(ge=0, le=8192)]
MemoryGib = Annotated[int, Meta(ge=0, le=1 << 20)]


class SimulatedHost(Struct, frozen=True):
    """Processors (hardware threads) and memory."""

    cpus: Cpus = 0
    memory_gib: MemoryGib = 0


def write_host(host: SimulatedHost, directory: Path) -> None:
    """Write it beside ``node.desc``. Raises OSError."""
    (directory / HOST_FILE).write_bytes(msgspec.json.encode(host))


def read_simulated_host(directory: Path) -> SimulatedHost:
    """What was written; nothing is known where it is not there, or is none."""
    try:
        return msgspec.json.decode((directory / HOST_FILE).read_bytes(), type=SimulatedHost)
    except (OSError, msgspec.DecodeError):
        return SimulatedHost()
