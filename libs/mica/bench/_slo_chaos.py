"""``mica bench slo``, the kills: services, tenants and the NATS server die at random while the guard has work to do.

Two slices with programs in them, one of them with an SLO that it can not keep by itself, and tenants that come and go. Whoever is
killed is started again: a service by ``mica up``, a program by us. Invariant: what is counted at the end is read from the streams
and the state themselves, and from ``mica audit``, not from what was heard in between.
"""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from msgspec import Struct

from mica.bench._errors import BenchError
from mica.bench._slo_load import poisson
from mica.bench._slo_run import Command, end
from mica.bench._slo_sim import Kernels, flood_command, node_toml, server_command
from mica.bench._slo_system import FLOOD, REPORT_EVERY_S, SERVER, Order, environment_in, grant
from mica.bench._stack import Stack, running_stack
from mica.bus import Bus, BusError, JetStreamBus
from mica.events import (
    SLICES,
    SLO,
    Phase,
    ReleaseSlice,
    RequestSlice,
    SliceFailed,
    SliceReady,
    SliceRecord,
    SliceRejected,
    SliceReleased,
    Slo,
    SloActed,
    SloReported,
)

PAUSE_S: Final = (0.1, 0.9)
"""Between two kills."""
LOOK_EVERY: Final = 50
"""Kills between two looks at everything."""
RECOVERED_S: Final = 60.0
ANSWER_S: Final = 90.0
PATIENCE_S: Final = 60.0
SERVICES: Final = ("discovery", "planner", "enforcer", "telemetry", "slo_guard", "nats-server")
TENANTS: Final = (SERVER, FLOOD)
FINAL: Final = (SliceReady, SliceRejected, SliceFailed)
JOB_BYTES: Final = 64 << 20
T = TypeVar("T")


class Chaos(Struct, frozen=True, kw_only=True):
    """What 200 deaths came to.

    ``disagreements``: of ``mica audit`` in its looks, each once everybody had had time to find out where it stands.
    ``unanswered`` and ``answered_twice`` are requests, ``lost`` slices that nobody gave back, ``acted_twice`` actions of the
    guard that were published more than once.
    """

    seed: int
    kills: dict[str, int]
    seconds: float
    looks: int
    disagreements: int
    requests: int
    unanswered: int
    answered_twice: int
    lost: int
    actions: int
    acted_twice: int

    @property
    def clean(self) -> bool:
        """Whether nothing was lost and nothing happened twice."""
        return not (self.disagreements or self.unanswered or self.answered_twice or self.lost or self.acted_twice)


def run_chaos(kills: int, seed: int, say: Callable[[str], None] = lambda _: None) -> Chaos:
    """Kill so often.

    Raises:
        BenchError: the system did not come up, or did not come back.
    """
    kernels = Kernels()
    with running_stack(node_toml(kernels, "chaos")) as stack:
        return asyncio.run(_Chaos(stack, kernels, seed).run(kills, say))


class _Chaos:
    def __init__(self, stack: Stack, kernels: Kernels, seed: int) -> None:
        self._stack = stack
        self._kernels = kernels
        self._seed = seed
        self._chance = random.Random(seed)  # noqa: S311 - who dies next, not a secret
        self._killed: Counter[str] = Counter()
        self._programs: dict[str, int] = {}
        self._jobs: list[str] = []
        self._closing = asyncio.Event()
        self._looks = 0
        self._disagreements = 0

    async def run(self, kills: int, say: Callable[[str], None]) -> Chaos:
        begun = time.monotonic()
        bus = await JetStreamBus.connect(self._stack.url)
        try:
            await grant(bus, Order(kernels=self._kernels, load=poisson(8, 8), slo=Slo(p99_ms=5.0), shares_ppm=(100_000, 50_000)))
            busy = [
                asyncio.create_task(work) for work in (self._serve(), self._flood(), self._report(bus), self._come_and_go(bus))
            ]
            for number in range(kills):
                _check(busy)
                await self._kill_one()
                await asyncio.sleep(self._chance.uniform(*PAUSE_S))
                if (number + 1) % LOOK_EVERY == 0:
                    await self._look(say, number + 1)
            self._closing.set()
            await busy.pop()
            await _cancel(busy)
            await self._look(say, kills)
            return await self._count(bus, time.monotonic() - begun)
        finally:
            await bus.close()

    async def _kill_one(self) -> None:
        """SIGKILL somebody who lives, anybody."""
        deadline = time.monotonic() + PATIENCE_S
        while not (living := self._living()):
            if time.monotonic() > deadline:
                raise BenchError(f"chaos: nobody was alive for {PATIENCE_S:g} s")
            await asyncio.sleep(0.05)
        name = self._chance.choice(sorted(living))
        with suppress(ProcessLookupError):
            os.kill(living[name], signal.SIGKILL)
            self._killed[name] += 1

    def _living(self) -> dict[str, int]:
        children = Path(f"/proc/{self._stack.process_id}/task/{self._stack.process_id}/children").read_text().split()
        found = {name: pid for child in children if (name := _service_of(child)) in SERVICES for pid in (int(child),)}
        return found | self._programs

    async def _serve(self) -> None:
        path = self._stack.runtime_dir.parent / "requests"
        path.write_text(poisson(20, 20).text())
        while True:
            command = server_command(self._kernels, path, environment_in(self._stack, SERVER))
            await self._keep(SERVER, command, lambda: str(time.clock_gettime_ns(time.CLOCK_MONOTONIC)))

    async def _flood(self) -> None:
        while True:
            await self._keep(FLOOD, flood_command(self._kernels, environment_in(self._stack, FLOOD)), lambda: "go")

    async def _keep(self, name: str, command: Command, word: Callable[[], str]) -> None:
        """Run a program until it ends or is killed."""
        process = await asyncio.create_subprocess_exec(
            *command.arguments, env=dict(command.environment), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if await process.stdout.readline() == b"ready\n":
                self._programs[name] = process.pid
                process.stdin.write(f"{word()}\n".encode())
                while await process.stdout.readline():
                    pass
        finally:
            self._programs.pop(name, None)
            await end(process)
            process.stdin.close()
        await asyncio.sleep(0.1)

    async def _report(self, bus: Bus) -> None:
        """A promise that is never kept, so that the guard always has something to do."""
        while True:
            report = SloReported(
                at=time.time_ns(), id=SERVER, window_s=REPORT_EVERY_S, requests=10, late=10, p99_ms=50.0, rate_hz=20.0, inflight=8
            )
            with suppress(BusError):
                await bus.publish(report)
            await asyncio.sleep(REPORT_EVERY_S)

    async def _come_and_go(self, bus: Bus) -> None:
        """Slices that are asked for and given back; each that was asked for is, before it ends."""
        while not self._closing.is_set():
            slice_id = f"job-{len(self._jobs)}"
            self._jobs.append(slice_id)
            wanted = RequestSlice(id=slice_id, tenant="jobs", vram_bytes=JOB_BYTES, share_ppm=10_000, queue_s=30)
            await insist(partial(bus.publish, wanted))
            await asyncio.sleep(self._chance.uniform(0.2, 1.0))
            await insist(partial(bus.publish, ReleaseSlice(id=slice_id)))
            await asyncio.sleep(self._chance.uniform(0.2, 1.0))

    async def _look(self, say: Callable[[str], None], kills: int) -> None:
        """Everything is compared with everything, once it has come back."""
        deadline = time.monotonic() + RECOVERED_S
        while True:
            said = (await asyncio.to_thread(self._stack.mica, "audit")).stdout.rstrip()
            if said.endswith(" 0 disagreements"):
                found = 0
                break
            if time.monotonic() > deadline:
                found = sum(1 for line in said.splitlines() if line) or 1
                say(f"chaos: after {kills} kills the audit says: {said[-600:]}")
                break
            await asyncio.sleep(0.5)
        self._looks += 1
        self._disagreements += found
        say(f"chaos: {kills} kills, {found} disagreements")

    async def _count(self, bus: Bus, seconds: float) -> Chaos:
        answers = await self._answers(bus)
        actions = Counter(
            heard.event.action_id
            for heard in await insist(lambda: bus.history(SLO.name, ("slo.action.*",)))
            if isinstance(heard.event, SloActed) and heard.event.action_id
        )
        kept = [await insist(partial(bus.state.get, f"slice.{name}", SliceRecord)) for name in TENANTS]
        return Chaos(
            seed=self._seed,
            kills=dict(sorted(self._killed.items())),
            seconds=round(seconds, 1),
            looks=self._looks,
            disagreements=self._disagreements,
            requests=len(self._jobs),
            unanswered=sum(not answers[job] for job in self._jobs),
            answered_twice=sum(len(answers[job]) > 1 for job in self._jobs),
            lost=sum(entry is None or entry.value.phase is not Phase.PLACED for entry in kept),
            actions=len(actions),
            acted_twice=sum(times > 1 for times in actions.values()),
        )

    async def _answers(self, bus: Bus) -> dict[str, set[tuple[str, int]]]:
        """The final answers to each job, once all have one or it has been long enough; a repetition is the same answer.

        Of a job that was given back before it was ready, its release is the end.
        """
        deadline = time.monotonic() + ANSWER_S
        while True:
            found: dict[str, set[tuple[str, int]]] = {job: set() for job in self._jobs}
            given_back: set[str] = set()
            for heard in await insist(lambda: bus.history(SLICES.name, ("slice.*.*",))):
                if isinstance(heard.event, FINAL) and heard.event.id in found:
                    found[heard.event.id].add((type(heard.event).__name__, heard.event.generation))
                elif isinstance(heard.event, SliceReleased):
                    given_back.add(heard.event.id)
            for job in given_back & found.keys():
                found[job] = found[job] or {(SliceReleased.__name__, 0)}
            if all(found.values()) or time.monotonic() > deadline:
                return found
            await asyncio.sleep(0.5)


def _service_of(pid: str) -> str:
    """The service that a child of ``mica up`` is, or what its program is called; empty when it is gone."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return words[words.index("service") + 1] if "service" in words else Path(words[0]).name


def _check(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            task.result()
            raise BenchError("chaos: one of the tenants' lives has ended")


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def insist(attempt: Callable[[], Coroutine[Any, Any, T] | Awaitable[T]]) -> T:
    """Again, until the server takes it: what may or may not have been stored can be repeated.

    Raises:
        BenchError: it did not for a minute.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await attempt()
        except BusError as error:
            if time.monotonic() > deadline:
                raise BenchError(f"chaos: the bus does not come back: {error}") from error
            await asyncio.sleep(0.1)
