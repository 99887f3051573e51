"""``mica bench suspend``: what it takes to have a slice yield its device, and to bring it back.

A whole system on a simulated L4; one slice with one program that holds ``size_bytes`` and has written all of them. In each round
the slice is suspended and resumed by commands, as anybody would. The parts are the enforcer's own times, as its facts tell them;
the whole is from the command to the fact, as a client sees it. Between the rounds the program copies as many bytes in other ways,
by which the parts are judged: within the host, to fresh memory (of large pages, as a checkpoint asks for) and again to the same,
and by the driver's own copies. Memory that the machine itself has to find first is slow to touch, so that fresh memory varies.

Invariant: a round counts only where every byte was found again; the limit is measured in the same run, between the rounds.
"""

import asyncio
import json
import os
import subprocess
import sys
from contextlib import closing
from statistics import median
from typing import Any

from msgspec import Struct

from mica.bench._errors import BenchError
from mica.bench._machine import Machine, describe_machine
from mica.bench._regions import monotonic_ns
from mica.bench._stack import Stack, mica_command, running_stack
from mica.bus import Bus, JetStreamBus
from mica.events import Command, ResumeSlice, SliceResumed, SliceSuspended, SuspendSlice

__all__ = ["Plan", "Report", "run"]

NODE = 'name = "bench"\n[[device]]\nmodel = "L4"\n'
SLICE = "yielding"
OVERHEAD_BYTES = 1 << 30
PATIENCE_S = 120.0


class Plan(Struct, frozen=True, kw_only=True):
    """How much to measure."""

    size_bytes: int = 1 << 30
    rounds: int = 5


class Suspending(Struct, frozen=True, kw_only=True):
    """ms, medians: until nothing is under way; until the memory is on the host after that; from the command to the fact."""

    lock: float
    checkpoint: float
    whole: float


class Resuming(Struct, frozen=True, kw_only=True):
    """ms, medians: until the memory is back; until the program can go on after that; from the command to the fact."""

    restore: float
    unlock: float
    whole: float


class Copies(Struct, frozen=True, kw_only=True):
    """GiB/s, medians, of as many bytes: within the host to fresh and to touched memory, and by the driver each way."""

    memcpy_fresh: float
    memcpy_warm: float
    driver_to_host: float
    driver_to_device: float


class Report(Struct, frozen=True, kw_only=True):
    """What was measured. ``of_memcpy``: the copy of a checkpoint, and of a restore, as parts of a plain copy to fresh memory."""

    size_bytes: int
    rounds: int
    suspend_ms: Suspending
    resume_ms: Resuming
    copies_gib_s: Copies
    checkpoint_of_memcpy: float
    restore_of_memcpy: float
    driver: str
    machine: Machine


class _Round(Struct, frozen=True):
    """One round's facts, how long each command took as a whole, and the program's own figures."""

    suspended: SliceSuspended
    resumed: SliceResumed
    whole_ns: tuple[int, int]
    copies: dict[str, float]


def run(plan: Plan) -> Report:
    """Carry the benchmark out.

    Raises:
        BenchError: the system did not come up, a command had no effect, or a byte was not found again.
    """
    with running_stack(NODE) as stack:
        _must(stack.mica("request", "--tenant", "bench", "--id", SLICE, "--vram", str(plan.size_bytes + OVERHEAD_BYTES)))
        command = ["run", SLICE, "--", sys.executable, "-m", "mica.bench._suspended_tenant", str(plan.size_bytes)]
        with _program(stack, command) as program:
            rounds = asyncio.run(_rounds(stack, program, plan.rounds))
    return _report(plan, rounds)


def _report(plan: Plan, rounds: list[_Round]) -> Report:
    gib = plan.size_bytes / (1 << 30)

    def ms(values: list[int]) -> float:
        return round(median(values) / 1e6, 2)

    def rate(name: str) -> float:
        return round(gib / median(each.copies[name] for each in rounds) * 1e3, 3)

    suspend = Suspending(
        lock=ms([each.suspended.lock_ns for each in rounds]),
        checkpoint=ms([each.suspended.copy_ns for each in rounds]),
        whole=ms([each.whole_ns[0] for each in rounds]),
    )
    resume = Resuming(
        restore=ms([each.resumed.copy_ns for each in rounds]),
        unlock=ms([each.resumed.unlock_ns for each in rounds]),
        whole=ms([each.whole_ns[1] for each in rounds]),
    )
    copies = Copies(
        memcpy_fresh=rate("fresh_ms"), memcpy_warm=rate("warm_ms"), driver_to_host=rate("to_host_ms"),
        driver_to_device=rate("to_device_ms"),
    )  # fmt: skip
    return Report(
        size_bytes=plan.size_bytes,
        rounds=len(rounds),
        suspend_ms=suspend,
        resume_ms=resume,
        copies_gib_s=copies,
        checkpoint_of_memcpy=round(gib / suspend.checkpoint * 1e3 / copies.memcpy_fresh, 3),
        restore_of_memcpy=round(gib / resume.restore * 1e3 / copies.memcpy_fresh, 3),
        driver="simulated",
        machine=describe_machine(),
    )


async def _rounds(stack: Stack, program: "_Program", count: int) -> list[_Round]:
    bus = await JetStreamBus.connect(stack.url, name="mica-bench", wait_s=PATIENCE_S)
    found = []
    try:
        for _ in range(count):
            suspended, suspend_ns = await _done(bus, SuspendSlice(id=SLICE), SliceSuspended)
            resumed, resume_ns = await _done(bus, ResumeSlice(id=SLICE), SliceResumed)
            copies = await asyncio.to_thread(program.measure)
            found.append(_Round(suspended, resumed, (suspend_ns, resume_ns), copies))
    finally:
        await bus.close()
    return found


async def _done(bus: Bus, command: Command, kind: type[Any]) -> tuple[Any, int]:
    """The fact that a command ended in, and how long that took."""
    async with bus.following(f"slice.*.{SLICE}") as heard, asyncio.timeout(PATIENCE_S):
        began_ns = monotonic_ns()
        await bus.publish(command)
        async for each in heard:
            if isinstance(each.event, kind):
                return each.event, monotonic_ns() - began_ns
    raise BenchError(f"{type(command).__name__}: the bus was closed")


class _Program:
    """The tenant's program in its slice."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._answer()

    def measure(self) -> dict[str, float]:
        """Its figures of one round. Raises BenchError: a byte is not what it was."""
        assert self._process.stdin is not None
        self._process.stdin.write("measure\n")
        self._process.stdin.flush()
        figures = self._answer()
        if not figures.pop("same"):
            raise BenchError("the program does not find its memory as it was")
        return figures

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, errors = self._process.communicate()
            raise BenchError(f"the program ended: {errors.strip()[-500:]}")
        return dict(json.loads(line))


def _program(stack: Stack, arguments: list[str]) -> "closing[_Program]":
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        mica_command(*arguments), env=os.environ | stack.environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )
    return closing(_Program(process))


def _must(done: "subprocess.CompletedProcess[str]") -> None:
    if done.returncode != 0:
        raise BenchError(f"no slice: {(done.stdout + done.stderr).strip()[-500:]}")
