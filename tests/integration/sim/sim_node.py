"""A simulated node in a directory, and real clients as separate processes on it."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from mica.hardware import Books, BooksReader, NodeFile, write_node_desc
from mica.native import LIB_DIR, sim_dir

NODE = """
name = "simtest"
[[device]]
model = "L4"
[[device]]
model = "H100-SXM-80GB"
mig = true
[[device]]
model = "P40"
[costs]
launch_ns = 1000
block_ns = 100000
[[costs.kernel]]
name = "long_*"
block_ns = 1000000000
"""


class ClientError(Exception):
    """What a client was asked to do failed there."""


class Client:
    """A running client program. Call it with Python for it to run."""

    def __init__(self, environment: dict[str, str], prefix: list[str]) -> None:
        self._process = subprocess.Popen(
            [*prefix, sys.executable, str(Path(__file__).with_name("client.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdout.close()
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def send(self, code: str) -> None:
        """Ask, without waiting for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """The answer to the oldest question."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ClientError(f"the client is gone: exit status {self._process.wait()}")
        reply = json.loads(line)
        if "error" in reply:
            raise ClientError(reply["error"])
        return reply["value"]

    def __call__(self, code: str) -> Any:
        self.send(code)
        return self.answer()

    def run(self, code: str) -> None:
        """Run statements."""
        self("exec:" + code)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        self.wait()

    def wait(self) -> None:
        """Wait until it is gone."""
        self._process.wait()


class Node:
    """One simulated node."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stack = ExitStack()
        self._libraries = 0
        self.describe(NODE)

    def describe(self, text: str) -> None:
        """Make the node what ``text`` says, from its next start on."""
        self.file = NodeFile.parse(text.encode())
        write_node_desc(self.file, self.directory)

    def reboot(self) -> None:
        """Forget all state. No client may be running."""
        self._stack.close()
        (self.directory / "engine.state").unlink()

    def environment(self, **more: str) -> dict[str, str]:
        base = {key: value for key, value in os.environ.items() if key not in {"CUDA_VISIBLE_DEVICES", "LD_PRELOAD"}}
        return base | {"MICA_SIM_DIR": str(self.directory), "LD_LIBRARY_PATH": str(sim_dir())} | more

    def client(self, prefix: list[str] | None = None, **environment: str) -> Client:
        """A client process, started by the command ``prefix`` if given, killed at the latest when the test ends."""
        return self._stack.enter_context(Client(self.environment(**environment), prefix or []))

    def books(self) -> Books:
        """The engine's books."""
        return self._reader().read()

    def control(self, command: str) -> str:
        """Do to the node what a person or a fault would."""
        return self._reader().control(command)

    def _reader(self) -> BooksReader:
        """A library maps one node per process, so each reading node gets a copy of it."""
        self._libraries += 1
        copy = self.directory / f"books-{self._libraries}.so"
        shutil.copy(LIB_DIR / "sim" / "libmica-sim-books.so", copy)
        return BooksReader(self.directory, copy)

    def close(self) -> None:
        self._stack.close()
