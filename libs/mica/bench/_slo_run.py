"""One run of ``mica bench slo``: an inference server answers requests, alone or beside a program that floods the device.

Owns the programs of a run. Invariant: none of them outlives it, and a program that failed is a failed run.
"""

import asyncio
import json
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from msgspec import Struct

from mica.bench._errors import BenchError
from mica.bench._regions import monotonic_ns
from mica.bench._slo_figures import NS_PER_S, Answer
from mica.bench._slo_load import Load

LEAD_NS: Final = 200_000_000
"""Between the word to begin and the beginning."""
SETTLE_S: Final = 1.0
"""A flood is under way for so long before the first request, unless it comes later."""
TICK_S: Final = 0.1
OVERTIME: Final = 5.0
"""A run that takes so many times as long as its requests come is broken off: what is not answered then is late for ever."""


class Command(Struct, frozen=True):
    """A program and its environment."""

    arguments: Sequence[str]
    environment: Mapping[str, str]


class Reading(Struct, frozen=True):
    """The device time of both programs so far, at a moment of CLOCK_MONOTONIC (all ns)."""

    at_ns: int
    server_ns: int
    flood_ns: int


class Meter(Protocol):
    """Says how much device time programs have had."""

    def read(self, server: int, flood: int | None, said: Sequence[str]) -> Reading:
        """Of the two processes. ``said``: the last line of what each of them told of its kernels, if it does."""


class Run(Struct, frozen=True, kw_only=True):
    """What came of a run. ``unanswered``: requests without an answer when it was broken off."""

    begin_ns: int
    answers: tuple[Answer, ...]
    readings: tuple[Reading, ...]
    unanswered: int = 0
    flood_ns: int = 0
    """When the flood began."""


class Watch(Struct):
    """What a run is like while it goes on, for who looks at it every tick."""

    begin_ns: int
    answers: list[Answer]
    arrived: Callable[[int], int]


class Programs(Struct, frozen=True, kw_only=True):
    """The programs of a run. ``flood``: None, if the server is alone; it begins ``flood_after_s`` after the requests do."""

    server: Command
    flood: Command | None
    meter: Meter
    flood_after_s: float | None = None


OnTick = Callable[[Watch], Awaitable[None]]


async def run_programs(load: Load, programs: Programs, path: Path, on_tick: OnTick | None = None) -> Run:
    """Have the requests answered.

    Args:
        path: where the file of requests is put.
        on_tick: called every TICK_S.

    Raises:
        BenchError: a program failed.
    """
    await asyncio.to_thread(path.write_text, load.text())
    started: list[_Program] = []
    try:
        server = await _Program.start(programs.server, started)
        server.tokens = [request.tokens for request in load.requests]
        flood = await _Program.start(programs.flood, started) if programs.flood is not None else None
        flood_ns = 0
        if flood is not None and programs.flood_after_s is None:
            flood_ns = await flood.go("go")
            await asyncio.sleep(SETTLE_S)
        begin_ns = monotonic_ns() + LEAD_NS
        await server.go(str(begin_ns))
        watch = Watch(begin_ns, server.answers, _arrivals(load, begin_ns))
        readings = []
        deadline_ns = begin_ns + int(load.seconds * OVERTIME * NS_PER_S)
        while not server.ended and monotonic_ns() < deadline_ns:
            due_ns = begin_ns + int((programs.flood_after_s or 0.0) * NS_PER_S)
            if flood is not None and not flood_ns and monotonic_ns() >= due_ns:
                flood_ns = await flood.go("go")
            if on_tick is not None:
                await on_tick(watch)
            said = (server.said, flood.said if flood is not None else "")
            readings.append(programs.meter.read(server.pid, flood.pid if flood is not None else None, said))
            await asyncio.sleep(TICK_S)
        if flood is not None:
            flood.check()
        server.check()
        unanswered = len(load.requests) - len(server.answers)
        return Run(
            begin_ns=begin_ns, answers=tuple(server.answers), readings=tuple(readings), unanswered=unanswered, flood_ns=flood_ns
        )
    finally:
        for program in started:
            await program.kill()


def _arrivals(load: Load, begin_ns: int) -> Callable[[int], int]:
    moments = [begin_ns + request.at_ns for request in load.requests]

    def arrived(now_ns: int) -> int:
        return sum(moment <= now_ns for moment in moments)

    return arrived


class _Program:
    """A running program, whose lines are read as they come."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.pid = process.pid
        self.answers: list[Answer] = []
        self.tokens: list[int] = []
        self.said = ""
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, command: Command, started: "list[_Program]") -> "_Program":
        environment = dict(command.environment)
        process = await asyncio.create_subprocess_exec(*command.arguments, env=environment, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        program = cls(process)
        started.append(program)
        assert process.stdout is not None
        if await process.stdout.readline() != b"ready\n":
            raise BenchError(f"a tenant did not start: {await program.errors()}")
        return program

    @property
    def ended(self) -> bool:
        return self._reading is not None and self._reading.done()

    async def go(self, word: str) -> int:
        """Let it begin; when that was (CLOCK_MONOTONIC, ns)."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())
        await self._process.stdin.drain()
        self._reading = asyncio.create_task(self._read())
        return monotonic_ns()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            if line[:1].isdigit():
                number, arrived_ns, first_ns, ended_ns = map(int, line.split())
                self.answers.append(Answer(number, arrived_ns, first_ns, ended_ns, self.tokens[number]))
            else:
                self.said = line.decode()

    def check(self) -> None:
        """Raise BenchError if it has failed."""
        if self._process.returncode not in (None, 0):
            raise BenchError(f"a tenant failed with status {self._process.returncode}")

    async def errors(self) -> str:
        """The end of what it said on stderr, once it is killed."""
        await end(self._process)
        assert self._process.stderr is not None
        return (await self._process.stderr.read()).decode().strip()[-500:]

    async def kill(self) -> None:
        """End it, whatever it does."""
        await end(self._process)
        if self._reading is not None:
            await self._reading
        self._process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001


async def end(process: Process) -> None:
    """Kill a program that still runs, and wait for its end.

    Not by ``process.kill``, which may take its status from its watcher.
    """
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    await process.wait()


def told(line: str) -> dict[str, int]:
    """A line by which a program tells of its kernels; nothing, before it has."""
    return {str(name): int(value) for name, value in json.loads(line).items()} if line.startswith("{") else {}
