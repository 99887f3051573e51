"""The measuring process of ``mica bench turns``: a private system, slices of one time-sliced device, and its books.

Invariant: all moments are of one clock, CLOCK_MONOTONIC; slices and programs of one part are gone before the next begins.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
from msgspec import Struct

from mica.bench._device import LAUNCH_NS, TenantProcess, kernel
from mica.bench._errors import BenchError
from mica.bench._isolation_report import spread
from mica.bench._regions import monotonic_ns
from mica.bench._shares import PERCENT, Reading
from mica.bench._stack import Stack, running_stack
from mica.bench._turns_report import Hold, Lending, Measured, Plan, Scenario, Share, Switch, grace_s, scenario_of
from mica.bench._withheld import withheld_ns
from mica.bus import JetStreamBus
from mica.events import PPM, Mode, Overruns, OverrunStep, ReleaseSlice, RequestSlice, SliceOverran, SliceReady, Tier, Window
from mica.hardware import BooksReader
from mica.region import RuntimeDir, TokenSnapshot, read_token

SETTLE_S = 1.0
LENT_S = 1.5
PATIENCE_S = 60.0
READ_S = 0.002
IDLE_S = 0.3
"""How long an owner is idle before it comes back: longer than a period of the windows, and of the lending."""
INTO_WINDOW_NS = 5_000_000
VRAM_BYTES = 1 << 30
NS = 1e9


class _Attach(Struct):
    env: dict[str, str]


class Bench:
    """The running system."""

    def __init__(self, stack: Stack, bus: JetStreamBus) -> None:
        self.stack = stack
        self.bus = bus
        self.runtime = RuntimeDir(stack.runtime_dir)
        self._books = BooksReader(stack.sim_dir)
        self._parts = 0
        self._ids: dict[str, str] = {}

    @asynccontextmanager
    async def slices(
        self, wanted: dict[str, tuple[float, Tier]], mode: Mode = Mode.TIMESLICE
    ) -> AsyncIterator[dict[str, SliceReady]]:
        """Slices of the device by name, with their shares (percent) and tiers; their ids are never used again."""
        self._parts += 1
        self._ids = {name: f"{name}-{self._parts}" for name in wanted}
        ready = {}
        try:
            for name, (share_pct, tier) in wanted.items():
                request = RequestSlice(
                    id=self._ids[name],
                    tenant="bench",
                    vram_bytes=VRAM_BYTES,
                    share_ppm=round(share_pct / PERCENT * PPM),
                    tier=tier,
                    mode=mode,
                    queue_s=PATIENCE_S,
                )
                ready[name] = await self._request(self._ids[name], request)
            yield ready
        finally:
            for name in ready:
                await self.bus.publish(ReleaseSlice(id=self._ids[name], grace_s=0))
            paths = [self.runtime.attach_path(self._ids[name]) for name in ready]
            await self._until(lambda: not any(path.exists() for path in paths), "slices are not released")

    async def _request(self, id_: str, request: RequestSlice) -> SliceReady:
        async with self.bus.following(f"slice.*.{id_}") as facts, asyncio.timeout(PATIENCE_S):
            await self.bus.publish(request)
            async for heard in facts:
                if isinstance(heard.event, SliceReady):
                    return heard.event
                if heard.subject.startswith(("slice.rejected", "slice.failed")):
                    raise BenchError(f"slice {id_}: {heard.event}")
        raise BenchError(f"slice {id_} is not ready")

    async def steps(self, name: str, pid: int) -> tuple[str, ...]:
        """What was done about a process that overran its time until it was ended, and after how long."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            heard = await self.bus.history("SLICES", [f"slice.overran.{self._ids[name]}"])
            facts = [each.event for each in heard if isinstance(each.event, SliceOverran) and each.event.pid == pid]
            if facts and facts[-1].step is OverrunStep.TERMINATED:
                return tuple(f"{fact.step} at {fact.ran_ns / NS:.2f} s" for fact in facts)
            if time.monotonic() > deadline:
                raise BenchError(f"nobody said that process {pid} was ended for its overrun, only {facts}")
            await asyncio.sleep(READ_S)

    async def _until(self, condition: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline:
                raise BenchError(otherwise)
            await asyncio.sleep(0.02)

    def start(self, name: str, kernel_us: int, depth: int) -> TenantProcess:
        """A program inside the slice of that name that may begin."""
        env = msgspec.json.decode(self.runtime.attach_path(self._ids[name]).read_bytes(), type=_Attach).env
        program = TenantProcess(("work", kernel(kernel_us), str(depth)), env)
        program.wait_ready()
        return program

    def read(self, pids: Sequence[int]) -> Reading:
        """What the books say of the processes' kernels."""
        books = self._books.read()
        of_pid = {process.pid: process for process in books.processes if process.live}
        return Reading(
            books.now_ns,
            {pid: sum(account.kernel_ns for account in of_pid[pid].accounts) if pid in of_pid else 0 for pid in pids},
            withheld_ns(pids),
        )

    def token(self) -> TokenSnapshot:
        """What the shims know of the device."""
        [device_id] = self.runtime.devices()
        return read_token(self.runtime.token_path(device_id))


async def measure(plan: Plan) -> Measured:
    """Carry the plan out.

    Raises:
        BenchError: the system did not come up, or a tenant failed.
    """
    endless_us = plan.endless_s * 1_000_000
    lengths = {share.kernel_us for scenario in plan.scenarios for share in scenario} | {200, endless_us}
    rules = ", ".join(f'{{ name = "{kernel(us)}", block_ns = {us * 1000 - LAUNCH_NS} }}' for us in sorted(lengths))
    costs = f"[costs]\nlaunch_ns = {LAUNCH_NS}\ntimeslice_ns = 0\nkernel = [{rules}]\n"
    with running_stack(f'name = "bench"\n{costs}[[device]]\nmodel = "L4"\n') as stack:
        bus = await JetStreamBus.connect(stack.url)
        try:
            bench = Bench(stack, bus)
            scenarios = [await _share(bench, each, plan.seconds) for each in plan.scenarios]
            lending = [await _lend(bench, mode, plan.comebacks) for mode in (Mode.TIMESLICE, Mode.FCSP)]
            holds = [await _hold(bench, tier, endless_us) for tier in plan.holds]
        finally:
            await bus.close()
    return Measured(tuple(scenarios), tuple(lending), tuple(holds))


async def _share(bench: Bench, shares: Sequence[Share], seconds: float) -> Scenario:
    """All at work at once, each with more to do than it may."""
    wanted = {f"tenant{index}": (share.share_pct, Tier.GUARANTEED) for index, share in enumerate(shares)}
    programs: list[TenantProcess] = []
    async with bench.slices(wanted):
        try:
            programs = [bench.start(id_, share.kernel_us, 0) for id_, share in zip(wanted, shares, strict=True)]
            for program in programs:
                program.go()
            pids = [program.pid for program in programs]
            await asyncio.sleep(SETTLE_S)
            before, windows = bench.read(pids), bench.token().switches
            await asyncio.sleep(seconds)
            after, token = bench.read(pids), bench.token()
        finally:
            for program in programs:
                program.kill()
    whole_ns = after.at_ns - before.at_ns
    used_ns = [after.kernel_ns[pid] - before.kernel_ns[pid] for pid in pids]
    switch = _switch(whole_ns - sum(used_ns) - round(whole_ns * (1 - sum(s.share_pct for s in shares) / PERCENT)), windows, token)
    withheld_pct = PERCENT * (after.withheld_ns - before.withheld_ns) / whole_ns
    return scenario_of(shares, [PERCENT * each / whole_ns for each in used_ns], switch, withheld_pct)


def _switch(lost_ns: int, windows_before: int, token: TokenSnapshot) -> Switch:
    """What lies between the windows, with what the shims say of it."""
    windows = max(1, token.switches - windows_before)
    ns = (lost_ns / windows, token.switch_ns, token.late_ns, token.guard_ns)
    lost, began, late, guard = (round(each / 1e6, 4) for each in ns)
    return Switch(lost, began, late, guard, windows)


async def _lend(bench: Bench, mode: Mode, comebacks: int) -> Lending:
    """A borrower that always works, beside an owner that is not there, that works, and that comes back now and then."""
    wanted = {"owner": (50.0, Tier.GUARANTEED), "borrower": (50.0, Tier.BURST)}
    async with bench.slices(wanted, mode) as ready:
        programs = [bench.start("borrower", 200, 0)]
        try:
            programs[0].go()
            await asyncio.sleep(SETTLE_S)
            [lent_pct] = await _parts(bench, programs)
            programs.append(bench.start("owner", 200, 0))
            programs[1].go()
            await asyncio.sleep(SETTLE_S)
            both_pct, owner_pct = await _parts(bench, programs)
            window = ready["owner"].placements[0].window
            back_ms = [await _come_back(bench, programs[1], window) for _ in range(comebacks)]
        finally:
            for program in programs:
                program.kill()
    return Lending(mode, lent_pct, both_pct, owner_pct, spread(back_ms))


async def _parts(bench: Bench, programs: Sequence[TenantProcess]) -> list[float]:
    """Each program's part of the device over some periods (percent)."""
    pids = [program.pid for program in programs]
    before = bench.read(pids)
    await asyncio.sleep(LENT_S)
    after = bench.read(pids)
    whole_ns = after.at_ns - before.at_ns
    return [round(PERCENT * (after.kernel_ns[pid] - before.kernel_ns[pid]) / whole_ns, 2) for pid in pids]


async def _come_back(bench: Bench, owner: TenantProcess, window: Window | None) -> float:
    """The owner is stopped for some time, and goes on, inside its window if it has one: until its work is on the device (ms)."""
    os.kill(owner.pid, signal.SIGSTOP)
    await asyncio.sleep(IDLE_S)
    if window is not None:
        phase_ns = (monotonic_ns() - window.offset_ns - INTO_WINDOW_NS) % window.period_ns
        await asyncio.sleep((window.period_ns - phase_ns) / NS)
    before = bench.read([owner.pid]).kernel_ns[owner.pid]
    from_ns = monotonic_ns()
    os.kill(owner.pid, signal.SIGCONT)
    while monotonic_ns() < from_ns + int(PATIENCE_S * NS):
        reading = bench.read([owner.pid])
        on_device_ns = reading.kernel_ns[owner.pid] - before
        if on_device_ns > 0:
            return max(0.0, (reading.at_ns - on_device_ns - from_ns) / 1e6)
        await asyncio.sleep(READ_S / 10)
    raise BenchError("an owner that went on did not get its window back")


async def _hold(bench: Bench, tier: Tier, endless_us: int) -> Hold:
    """A kernel without end in a slice of that tier, beside a neighbour that works: until the neighbour goes on."""
    async with bench.slices({"hog": (50, tier), "meek": (50, Tier.GUARANTEED)}) as ready:
        programs = [bench.start("meek", 200, 1), bench.start("hog", endless_us, 1)]
        meek, hog = (program.pid for program in programs)
        window = ready["hog"].placements[0].window
        assert window is not None
        try:
            programs[0].go()
            await asyncio.sleep(SETTLE_S)
            programs[1].go()
            hold_s = await _until_it_goes_on(bench, hog, meek)
        finally:
            for program in programs:
                program.kill()
        steps = await bench.steps("hog", hog)
    return Hold(tier, round(hold_s, 3), grace_s(tier, window.length_ns / NS, Overruns()), steps)


async def _until_it_goes_on(bench: Bench, hog: int, meek: int) -> float:
    """From the kernel's begin until the neighbour's next kernel begins (s)."""
    deadline_ns = monotonic_ns() + int(PATIENCE_S * NS)
    begun_ns, stood_ns = 0, -1
    while monotonic_ns() < deadline_ns:
        reading = bench.read([hog, meek])
        if not begun_ns and reading.kernel_ns[hog]:
            begun_ns, stood_ns = reading.at_ns - reading.kernel_ns[hog], reading.kernel_ns[meek]
        elif begun_ns and reading.kernel_ns[meek] > stood_ns:
            return (reading.at_ns - (reading.kernel_ns[meek] - stood_ns) - begun_ns) / NS
        await asyncio.sleep(READ_S)
    raise BenchError("a kernel without end kept the device")


if __name__ == "__main__":
    try:
        found = asyncio.run(measure(msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)))
        sys.stdout.buffer.write(msgspec.json.encode(found))
    except BenchError as error:
        raise SystemExit(str(error)) from None
