"""Keeps child processes alive. Owns their start, their restart and their end.

Invariant: a child runs in a session of its own, so that the terminal's Ctrl-C reaches only us and we decide the order of
the end; and the kernel sends it SIGTERM should we be killed ourselves.
"""

import asyncio
import ctypes
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from msgspec import Struct

STOP_S: Final = 8.0
BACKOFF_FIRST_S: Final = 0.05
BACKOFF_LAST_S: Final = 5.0
HEALTHY_S: Final = 10.0
LINE_LIMIT: Final = 1 << 20
PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None, use_errno=True)


class StartError(Exception):
    """A child ended before it was ready; the message is its own last line."""


class Program(Struct, frozen=True, kw_only=True):
    """What to run. A line that ends in ``ready`` says that it serves; the others go to ``on_line``.

    ``claims`` are descriptors that the child keeps open.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    ready: str
    claims: tuple[int, ...]
    on_line: Callable[[str], None]


class Supervised:
    """One program, started again whenever it ends."""

    def __init__(self, program: Program, say: Callable[[str], None]) -> None:
        self.program = program
        self.ready = asyncio.Event()
        self._say = say
        self._last_lines: deque[str] = deque(maxlen=20)

    async def run(self) -> None:
        """Keep it running until cancelled; it is gone when this returns.

        Raises:
            StartError: it ended before it was ready for the first time.
        """
        loop = asyncio.get_running_loop()
        backoff_s = BACKOFF_FIRST_S
        while True:
            begun = loop.time()
            status = await self._once()
            if not self.ready.is_set():
                raise StartError(self._why(status))
            healthy = loop.time() - begun >= HEALTHY_S
            backoff_s = BACKOFF_FIRST_S if healthy else min(2 * backoff_s, BACKOFF_LAST_S)
            self._say(f"{self.program.name} ended ({describe_status(status)}); starting it again")
            await asyncio.sleep(backoff_s)

    async def _once(self) -> int:
        process = await self._start()
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(process.stdout))
                pumps.create_task(self._pump(process.stderr))
            return await process.wait()
        finally:
            await stop(process)

    async def _start(self) -> Process:
        program = self.program
        try:
            return await asyncio.create_subprocess_exec(
                *program.command, env=dict(program.environment), stdin=DEVNULL, stdout=PIPE, stderr=PIPE, limit=LINE_LIMIT,
                start_new_session=True, preexec_fn=_die_with(os.getpid()), pass_fds=program.claims,
            )  # fmt: skip
        except OSError as error:
            raise StartError(f"{program.name}: {program.command[0]}: {error.strerror}") from None

    async def _pump(self, stream: asyncio.StreamReader | None) -> None:
        assert stream is not None
        while True:
            try:
                raw = await stream.readline()
            except ValueError:
                continue
            if not raw:
                return
            line = raw.decode(errors="replace").rstrip()
            if line.endswith(self.program.ready):
                self.ready.set()
                continue
            self._last_lines.append(line)
            self.program.on_line(line)

    def _why(self, status: int) -> str:
        last = next((line for line in reversed(self._last_lines) if line.strip()), "")
        return f"{self.program.name} can't start ({describe_status(status)}): {last or 'it said nothing'}"


async def stop(process: Process, limit_s: float = STOP_S) -> None:
    """SIGTERM, and SIGKILL after ``limit_s``; the process is reaped when this returns."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(limit_s):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def describe_status(status: int) -> str:
    """``status 1`` or ``SIGKILL``."""
    if status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def _die_with(parent: int) -> Callable[[], None]:
    """What a child does before it becomes the program: ask for SIGTERM when its parent dies."""

    def prepare() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return prepare
