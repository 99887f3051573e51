"""How soon the device follows a whole system, planner to shim: shares that are resized, and idle time that is lent.

Runs in a process of its own, because a process can read the books of one simulated node only. Invariant: all moments are of one
clock, CLOCK_MONOTONIC, from just before what sets the change off.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from msgspec import Struct

from mica.bench._device import LAUNCH_NS, TenantProcess, kernel
from mica.bench._errors import BenchError
from mica.bench._isolation_report import Lending, Resize, System, spread
from mica.bench._regions import monotonic_ns
from mica.bench._shares import Reading, jump
from mica.bench._stack import Stack, running_stack
from mica.bus import Bus, Heard, JetStreamBus
from mica.events import PPM, ResizeSlice, SliceResized
from mica.hardware import Books, BooksReader
from mica.region import QuotaRegion, RuntimeDir

KERNEL_US = 200
NODE = f"""
name = "bench"
[costs]
launch_ns = {LAUNCH_NS}
kernel = [{{ name = "{kernel(KERNEL_US)}", block_ns = {KERNEL_US * 1000 - LAUNCH_NS} }}]
[[device]]
model = "L4"
"""
RESIZED, OTHER, BORROWER = "resized", "other", "borrower"
SLICES = {RESIZED: ("40%", "guaranteed"), OTHER: ("20%", "guaranteed"), BORROWER: ("40%", "burst")}
SHARES_PPM = (PPM // 5, PPM * 2 // 5)
SETTLE_S = 1.0
STEP_S = 0.6
LOAN_S = 1.0
READ_S = 0.001
PATIENCE_S = 180.0


class Moments(Struct, frozen=True):
    """Of each change, in ms."""

    record: list[float] = []
    fact: list[float] = []
    books: list[float] = []
    lent: list[float] = []
    withdrawn: list[float] = []
    served: list[float] = []


def measure_system(count: int) -> System:
    """Resize a slice ``2 * count`` times, down and up in turn; stop it and let it go on ``count`` times beside a borrower.

    Raises:
        BenchError: the system did not come up, or a change had no effect.
    """
    command = [sys.executable, "-m", "mica.bench._system", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    if done.returncode != 0:
        raise BenchError(f"the whole system could not be measured: {done.stderr.strip()[-500:]}")
    moments = msgspec.json.decode(done.stdout, type=Moments)
    return System(
        resize=Resize(record_ms=spread(moments.record), fact_ms=spread(moments.fact), books_ms=spread(moments.books)),
        lending=Lending(
            lent_ms=spread(moments.lent), withdrawn_ms=spread(moments.withdrawn), neighbour_ms=spread(moments.served)
        ),
    )


def _measure(count: int) -> Moments:
    with running_stack(NODE) as stack:
        for slice_id, (share, tier) in SLICES.items():
            options = ("--vram", "1GiB", "--share", share, "--tier", tier)
            answer = stack.mica("request", "--id", slice_id, "--tenant", "bench", *options)
            if answer.returncode != 0:
                raise BenchError(f"slice {slice_id}: {answer.stderr or answer.stdout}")
        return asyncio.run(_changes(stack, count))


@contextmanager
def _at_work(stack: Stack, slice_ids: tuple[str, ...]) -> Iterator[dict[str, int]]:
    """A program in each of the slices, with more to do than it may; their pids."""
    tenants: dict[str, TenantProcess] = {}
    try:
        for slice_id in slice_ids:
            tenants[slice_id] = _start(stack, slice_id)
        for tenant in tenants.values():
            tenant.wait_ready()
        for tenant in tenants.values():
            tenant.go()
        yield {slice_id: tenant.pid for slice_id, tenant in tenants.items()}
    finally:
        for tenant in tenants.values():
            tenant.kill()


class _Attach(Struct):
    env: dict[str, str]


def _start(stack: Stack, slice_id: str) -> TenantProcess:
    path = RuntimeDir(stack.runtime_dir).attach_path(slice_id)
    return TenantProcess(("work", kernel(KERNEL_US), "0"), msgspec.json.decode(path.read_bytes(), type=_Attach).env)


class Sight:
    """The books and the record, as they are now."""

    def __init__(self, stack: Stack, quota: QuotaRegion, pids: dict[str, int]) -> None:
        self._reader = BooksReader(stack.sim_dir)
        self._quota = quota
        self.pids = pids
        index = quota.find(RESIZED)
        assert index is not None
        self._index = index

    def generation(self) -> int:
        """Of the record in force."""
        limits = self._quota.read(self._index)
        return limits.generation if limits is not None else -1

    def read(self) -> Reading:
        """Both programs' kernel time."""
        books = self._reader.read()
        return Reading(books.now_ns, {pid: _kernel_ns(books, pid) for pid in self.pids.values()})

    async def watch(self, seconds: float) -> list[Reading]:
        """Readings over the next ``seconds``."""
        readings = [self.read()]
        while readings[-1].at_ns < readings[0].at_ns + int(seconds * 1e9):
            await asyncio.sleep(READ_S)
            readings.append(self.read())
        return readings


def _kernel_ns(books: Books, pid: int) -> int:
    process = books.process(pid)
    if process is None:
        raise BenchError(f"the tenant with pid {pid} is gone")
    return sum(account.kernel_ns for account in process.accounts)


async def _changes(stack: Stack, count: int) -> Moments:
    runtime = RuntimeDir(stack.runtime_dir)
    [device_id] = runtime.devices()
    moments = Moments()
    bus = await JetStreamBus.connect(stack.url)
    try:
        with QuotaRegion(runtime.quota_path(device_id)) as quota:
            with _at_work(stack, (RESIZED, OTHER)) as pids:
                await asyncio.sleep(SETTLE_S)
                for share_ppm in SHARES_PPM * count:
                    await _resize(bus, share_ppm, Sight(stack, quota, pids), moments)
            with _at_work(stack, (RESIZED, BORROWER)) as pids:
                await asyncio.sleep(SETTLE_S)
                for _ in range(count):
                    await _lend(Sight(stack, quota, pids), moments)
    finally:
        await bus.close()
    return moments


async def _resize(bus: Bus, share_ppm: int, sight: Sight, moments: Moments) -> None:
    """One resize, watched from three sides: the record, the fact and the books."""
    readings = await sight.watch(STEP_S / 2)
    before, recorded_ns, heard_ns = sight.generation(), 0, 0
    async with bus.following(f"slice.resized.{RESIZED}") as facts:

        async def hear() -> None:
            nonlocal heard_ns
            async for heard in facts:
                if _is_newer(heard, before):
                    heard_ns = monotonic_ns()
                    return

        async with asyncio.TaskGroup() as group:
            hearing = group.create_task(hear())
            from_ns = monotonic_ns()
            sending = group.create_task(bus.publish(ResizeSlice(id=RESIZED, share_ppm=share_ppm)))
            while not recorded_ns and monotonic_ns() < from_ns + int(STEP_S * 1e9):
                await asyncio.sleep(0)
                recorded_ns = monotonic_ns() if sight.generation() > before else 0
            readings += await sight.watch(STEP_S)
            await sending
            hearing.cancel()
    if not recorded_ns or not heard_ns:
        raise BenchError(f"slice.resize to {share_ppm} ppm had no effect in {STEP_S:g} s")
    moments.record.append((recorded_ns - from_ns) / 1e6)
    moments.fact.append((heard_ns - from_ns) / 1e6)
    moments.books.append(max(moments.record[-1], _after_ms(readings, sight.pids[RESIZED], from_ns, STEP_S / 2)))


async def _lend(sight: Sight, moments: Moments) -> None:
    """The neighbour of a burst slice stops, and goes on: when the loan is there, when it is gone, and when he is served."""
    borrower, neighbour = sight.pids[BORROWER], sight.pids[RESIZED]
    for number, taken in ((signal.SIGSTOP, moments.lent), (signal.SIGCONT, moments.withdrawn)):
        readings = await sight.watch(LOAN_S / 2)
        from_ns = monotonic_ns()
        os.kill(neighbour, number)
        readings += await sight.watch(LOAN_S)
        taken.append(_after_ms(readings, borrower, from_ns, LOAN_S / 2))
    moments.served.append(_after_ms(readings, neighbour, from_ns, LOAN_S / 2))


def _after_ms(readings: list[Reading], pid: int, from_ns: int, settled_s: float) -> float:
    try:
        return max(0.0, jump(readings, pid, from_ns, int(settled_s * 1e9)).after_ms)
    except ValueError as error:
        raise BenchError(f"something was changed and {error}") from None


def _is_newer(heard: Heard, generation: int) -> bool:
    return isinstance(heard.event, SliceResized) and heard.event.generation > generation


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_measure(int(sys.argv[1]))))
