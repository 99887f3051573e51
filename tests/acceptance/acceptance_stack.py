"""A whole system of its own for a test: ``mica up`` as real processes on a free port, in directories that are gone afterwards."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mica.bus import JetStreamBus
from mica.hardware import Books

SERVICES = ("discovery", "planner", "enforcer", "telemetry", "slo_guard")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
GIB = 1 << 30


class Client:
    """examples/cuda_client.py inside a slice."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.first = self.answer()

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, *words: object) -> None:
        """One command, without waiting for its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(str(word) for word in words) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """The next answer; fails when the program has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the client ended with status {self.process.wait()}"
        return dict(json.loads(line))

    def ask(self, *words: object) -> dict[str, Any]:
        """One command and its answer."""
        self.send(*words)
        return self.answer()

    def kill(self) -> None:
        """SIGKILL, and reap it."""
        self.process.kill()
        self.process.wait()


RECOVERED_S = 30.0


class Stack:
    """A running system, and what a test may do to it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.runtime_dir = home / "run"
        self.data_dir = home / "data"
        self.log = home / "up.log"
        self.clients: list[Client] = []
        self.url = ""
        self._up: subprocess.Popen[str] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a client of this system needs."""
        own = {
            "MICA_NATS_URL": self.url,
            "MICA_RUNTIME_DIR": str(self.runtime_dir),
            "MICA_SIM_DIR": str(self.runtime_dir / "sim"),
        }
        return os.environ | own

    def start(self, *options: str) -> dict[str, Any]:
        """``mica up`` until it is ready; what its ready line says."""
        command = [
            sys.executable,
            "-m",
            "mica.cli",
            "up",
            "--json",
            "--runtime-dir",
            self.runtime_dir,
            "--data-dir",
            self.data_dir,
        ]
        options = options or ("--port", self.url.rpartition(":")[2] or "0")
        with self.log.open("a") as log:
            self._up = subprocess.Popen(
                [str(part) for part in (*command, *options)], stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self._up.stdout is not None
        line = self._up.stdout.readline()
        assert line, f"mica up did not start: {self.log.read_text()[-2000:]}"
        ready: dict[str, Any] = json.loads(line)
        self.url = ready["url"]
        return ready

    @property
    def process(self) -> subprocess.Popen[str]:
        """``mica up`` itself."""
        assert self._up is not None
        return self._up

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it and wait; its exit status."""
        self.process.send_signal(number)
        status = self.process.wait(30)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._up = None
        return status

    def close(self) -> None:
        """Whatever still runs is ended."""
        for client in self.clients:
            if client.process.poll() is None:
                client.kill()
            for pipe in (client.process.stdin, client.process.stdout):
                if pipe is not None:
                    pipe.close()
        if self._up is not None:
            self.stop()

    def pids(self) -> dict[str, int]:
        """The children, by the name of their service; NATS is ``nats-server``."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        found = {}
        for child in children:
            try:
                words = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            found[words[words.index("service") + 1] if "service" in words else Path(words[0]).name] = int(child)
        return found

    def kill(self, service: str) -> None:
        """SIGKILL one child; ``mica up`` starts it again."""
        os.kill(wait_for(lambda: self.pids().get(service)), signal.SIGKILL)

    def mica(self, *arguments: object, status: int | None = 0) -> str:
        """Run a ``mica`` command against the system; what it printed."""
        command = [sys.executable, "-m", "mica.cli", *map(str, arguments)]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert status is None or done.returncode == status, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def json(self, *arguments: object, status: int | None = 0) -> Any:
        """The answer of a ``mica`` command, for programs."""
        return json.loads(self.mica(*arguments, "--json", status=status))

    def request(self, slice_id: str, vram: str, *options: object) -> Any:
        """A slice that is ready."""
        return self.json("request", "--tenant", "tester", "--id", slice_id, "--vram", vram, *options)

    def client(self, slice_id: str) -> Client:
        """The cuda-bindings program, running inside a slice."""
        command = [sys.executable, "-m", "mica.cli", "run", slice_id, "--", sys.executable, str(EXAMPLES / "cuda_client.py")]
        process = subprocess.Popen(command, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        client = Client(process)
        self.clients.append(client)
        return client

    def books(self) -> Books:
        """The simulated driver's own books. A process can read those of one node only, so another one does."""
        import msgspec

        return msgspec.convert(self.json("sim", "books"), type=Books)

    def audit(self) -> None:
        """Nothing disagrees."""
        said = self.mica("audit", status=None)
        assert said.rstrip().endswith(" 0 disagreements"), said

    def audit_recovered(self) -> None:
        """Nothing disagrees, once what was killed has had time to find out where it stands."""
        deadline = time.monotonic() + RECOVERED_S
        while not (said := self.mica("audit", status=None)).rstrip().endswith(" 0 disagreements"):
            assert time.monotonic() < deadline, said

    async def bus(self) -> JetStreamBus:
        """A connection; close it."""
        return await JetStreamBus.connect(self.url, name="mica-test", wait_s=20)


def wait_for(condition: Callable[[], Any], limit_s: float = 30.0) -> Any:
    """What ``condition`` returns once it is true: for what other processes do; fails after ``limit_s``.

    Looking takes no more than half of the time: what is waited for needs the processor, too.
    """
    deadline = time.monotonic() + limit_s
    while True:
        begun = time.monotonic()
        if value := condition():
            return value
        now = time.monotonic()
        assert now < deadline, f"not within {limit_s:g} s: {condition}"
        time.sleep(max(0.02, now - begun))


async def soon(condition: Callable[[], Any], limit_s: float = 30.0) -> Any:
    """The same, without holding up the event loop."""
    return await asyncio.to_thread(wait_for, condition, limit_s)


def new_home() -> Path:
    """A directory on a tmpfs, where regions belong."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="mica-test-", dir=memory if os.access(memory, os.W_OK) else None))
