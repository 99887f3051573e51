"""A private ``mica up`` for one benchmark: own port, own directories, gone afterwards.

Invariant: leaving the block leaves no process and no file.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from mica.bench._errors import BenchError

READY_S = 60.0
STOP_S = 20.0


class Stack(Struct, frozen=True, kw_only=True):
    """A running system."""

    url: str
    node: str
    runtime_dir: Path
    sim_dir: Path
    process_id: int
    ready_s: float

    def mica(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a ``mica`` command against this system."""
        return subprocess.run(
            mica_command(*arguments), env=os.environ | self.environment, capture_output=True, text=True, check=False
        )

    @property
    def environment(self) -> dict[str, str]:
        """What a client of this system needs."""
        return {
            "MICA_NATS_URL": self.url,
            "MICA_RUNTIME_DIR": str(self.runtime_dir),
            "MICA_SIM_DIR": str(self.sim_dir),
            "MICA_NODE": self.node,
        }


def mica_command(*arguments: str) -> list[str]:
    """The ``mica`` command of the running Python."""
    return [sys.executable, "-m", "mica.cli", *arguments]


@contextmanager
def running_stack(node_toml: str, environment: Mapping[str, str] | None = None, *, opencl: bool = False) -> Iterator[Stack]:
    """Start everything on a simulated node described by ``node_toml``, with this machine's processor beside it if ``opencl``.

    Raises:
        BenchError: it was not ready in time; carries what it printed.
    """
    memory = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())  # noqa: S108 - regions need a tmpfs
    home = Path(tempfile.mkdtemp(prefix="mica-bench-", dir=memory))
    store = Path(tempfile.mkdtemp(prefix="mica-bench-"))
    try:
        node_file = home / "node.toml"
        node_file.write_text(node_toml)
        port = _free_port()
        arguments = ["up", "--node", str(node_file), "--port", str(port), "--json"]
        arguments += ["--runtime-dir", str(home / "run"), "--data-dir", str(store)]
        arguments += ["--opencl"] if opencl else []
        log = (store / "log").open("w+")
        begun = time.monotonic()
        process = subprocess.Popen(
            mica_command(*arguments), stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | dict(environment or {})
        )
        try:
            ready = _wait_ready(process, store / "log")
            yield Stack(
                url=ready["url"],
                node=ready["node"],
                runtime_dir=Path(ready["runtime_dir"]),
                sim_dir=Path(ready["sim_dir"]),
                process_id=process.pid,
                ready_s=round(time.monotonic() - begun, 2),
            )
        finally:
            _stop(process)
            log.close()
    finally:
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(store, ignore_errors=True)


def _wait_ready(process: subprocess.Popen[str], log: Path) -> dict[str, str]:
    """The ready line, as JSON."""
    assert process.stdout is not None
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        line = process.stdout.readline()
        if not line:
            break
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if message.get("event") == "ready":
            return {key: str(value) for key, value in message.items()}
    raise BenchError(f"mica up was not ready within {READY_S:.0f} s; it said: {log.read_text()[-2000:]}")


def _stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise BenchError(f"mica up did not stop within {STOP_S:.0f} s of SIGTERM") from None
    finally:
        if process.stdout is not None:
            process.stdout.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
