"""What tests share: a private NATS server on a free port."""

import asyncio
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

BELOW_EPHEMERAL: Final = range(20_000, 32_768)
"""The kernel gives connections ports from 32768 on."""


def nats_server_path() -> Path:
    """The embedded server's binary, beside the running Python."""
    return Path(sys.executable).with_name("nats-server")


def free_port() -> int:
    """A TCP port on which nobody listens, and which no connection of another test is given before the server has it."""
    for port in random.sample(BELOW_EPHEMERAL, len(BELOW_EPHEMERAL)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError(f"no free port in {BELOW_EPHEMERAL}")


class NatsServer:
    """A private server with a file store; ``kill`` and ``start`` let a test break it."""

    def __init__(self, store: Path) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._store = store
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; who connects waits until it listens."""
        command = [nats_server_path(), "-js", "-sd", self._store, "-a", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen([str(part) for part in command], stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A running private server."""
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.kill()


async def eventually(condition: "asyncio.Future[None] | object", limit_s: float = 20.0) -> None:
    """Wait until ``condition()`` is true: for what another process does; fails after ``limit_s``."""
    assert callable(condition)
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.01)
