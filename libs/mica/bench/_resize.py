"""How long ``slice.resize`` takes until the device follows, through a whole system: planner, enforcer, record, shim.

Runs in a process of its own, because a process can read the books of one simulated node only. Invariant: all moments are of one
clock, CLOCK_MONOTONIC, from just before the command is published.
"""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack

import msgspec
from msgspec import Struct

from mica.bench._device import LAUNCH_NS, TenantProcess, kernel, monotonic_ns
from mica.bench._errors import BenchError
from mica.bench._isolation_report import Resize, spread
from mica.bench._shares import Reading, jump
from mica.bench._stack import Stack, running_stack
from mica.bus import Bus, Heard, JetStreamBus
from mica.events import PPM, ResizeSlice, SliceResized
from mica.hardware import BooksReader
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
SLICES = ("changed", "other")
SETTLE_S = 1.0
STEP_S = 0.6
READ_S = 0.001
PATIENCE_S = 120.0


class Moments(Struct, frozen=True):
    """Of each resize, in ms."""

    record: list[float]
    fact: list[float]
    books: list[float]


def measure_resize(count: int) -> Resize:
    """Resize a slice ``2 * count`` times, down and up in turn.

    Raises:
        BenchError: the system did not come up, or a resize had no effect.
    """
    command = [sys.executable, "-m", "mica.bench._resize", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    if done.returncode != 0:
        raise BenchError(f"slice.resize could not be measured: {done.stderr.strip()[-500:]}")
    moments = msgspec.json.decode(done.stdout, type=Moments)
    return Resize(record_ms=spread(moments.record), fact_ms=spread(moments.fact), books_ms=spread(moments.books))


def _measure(count: int) -> Moments:
    with running_stack(NODE) as stack, ExitStack() as cleanup:
        for slice_id in SLICES:
            answer = stack.mica("request", "--id", slice_id, "--tenant", "bench", "--vram", "1GiB", "--share", "40%")
            if answer.returncode != 0:
                raise BenchError(f"slice {slice_id}: {answer.stderr or answer.stdout}")
        tenants = [_start(stack, slice_id) for slice_id in SLICES]
        for tenant in tenants:
            cleanup.callback(tenant.kill)
        for tenant in tenants:
            tenant.wait_ready()
        for tenant in tenants:
            tenant.go()
        return asyncio.run(_resizes(stack, tenants[0].pid, count))


def _start(stack: Stack, slice_id: str) -> TenantProcess:
    class Attach(Struct):
        env: dict[str, str]

    path = RuntimeDir(stack.runtime_dir).attach_path(slice_id)
    return TenantProcess(("work", kernel(KERNEL_US), "0"), msgspec.json.decode(path.read_bytes(), type=Attach).env)


async def _resizes(stack: Stack, pid: int, count: int) -> Moments:
    reader = BooksReader(stack.sim_dir)
    runtime = RuntimeDir(stack.runtime_dir)
    [device_id] = runtime.devices()
    moments = Moments([], [], [])
    bus = await JetStreamBus.connect(stack.url)
    try:
        with QuotaRegion(runtime.quota_path(device_id)) as quota:
            index = quota.find(SLICES[0])
            assert index is not None

            def generation() -> int:
                limits = quota.read(index)
                return limits.generation if limits is not None else -1

            def read() -> Reading:
                books = reader.read()
                process = books.process(pid)
                assert process is not None, "the tenant is gone"
                return Reading(books.now_ns, {pid: sum(account.kernel_ns for account in process.accounts)})

            await asyncio.sleep(SETTLE_S)
            for share_ppm in (PPM // 5, PPM * 2 // 5) * count:
                await _resize(bus, share_ppm, generation, read, moments)
    finally:
        await bus.close()
    return moments


async def _resize(bus: Bus, share_ppm: int, generation: Callable[[], int], read: Callable[[], Reading], moments: Moments) -> None:
    """One resize, watched from three sides."""
    readings = [read()]
    end_ns = monotonic_ns() + int(STEP_S / 2 * 1e9)
    while monotonic_ns() < end_ns:
        await asyncio.sleep(READ_S)
        readings.append(read())
    before, recorded_ns, heard_ns = generation(), 0, 0

    async with bus.following(f"slice.resized.{SLICES[0]}") as facts:

        async def hear() -> None:
            nonlocal heard_ns
            async for heard in facts:
                if _is_newer(heard, before):
                    heard_ns = monotonic_ns()
                    return

        async with asyncio.TaskGroup() as group:
            hearing = group.create_task(hear())
            from_ns = monotonic_ns()
            sending = group.create_task(bus.publish(ResizeSlice(id=SLICES[0], share_ppm=share_ppm)))
            while monotonic_ns() < from_ns + int(STEP_S * 1e9):
                await asyncio.sleep(READ_S if recorded_ns else 0)
                if not recorded_ns and generation() > before:
                    recorded_ns = monotonic_ns()
                if recorded_ns or len(readings) % 8:
                    readings.append(read())
            await sending
            hearing.cancel()
    if not recorded_ns or not heard_ns:
        raise BenchError(f"slice.resize to {share_ppm} ppm had no effect in {STEP_S:g} s")
    moments.record.append((recorded_ns - from_ns) / 1e6)
    moments.fact.append((heard_ns - from_ns) / 1e6)
    moments.books.append(jump(readings, pid_of(readings), from_ns, int(STEP_S / 2 * 1e9)).after_ms)


def pid_of(readings: list[Reading]) -> int:
    """The only process that they are about."""
    [pid] = readings[0].kernel_ns
    return pid


def _is_newer(heard: Heard, generation: int) -> bool:
    return isinstance(heard.event, SliceResized) and heard.event.generation > generation


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_measure(int(sys.argv[1]))))
