"""``mica bench resize``: from ``slice.resize`` to the limits in force in the region, for compute and memory, up and down.

One private system, a program at work in the slice and others beside it. The moment is the one at which the quota record that the
program's shim reads says the new generation with the new numbers; the fact that tells it comes after. The limit is measured in
the same run: a bare chain of as many bus hops, without mica.

Invariant: a figure counts resizes of which the record said all that was asked for, under one generation, and a fact was told.
"""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import uvloop
from msgspec import Struct

from mica.bench._device import LAUNCH_NS, TenantProcess, kernel
from mica.bench._errors import BenchError
from mica.bench._hops import measure_hops
from mica.bench._machine import Machine, Percentiles, describe_machine, percentiles
from mica.bench._regions import monotonic_ns
from mica.bench._stack import Stack, running_stack
from mica.bus import Bus, JetStreamBus
from mica.events import PPM, ResizeSlice, SliceFact, SliceRefused, SliceResized
from mica.region import Limits, QuotaRegion, RegionBusyError, RuntimeDir

KERNEL_US: Final = 200
NODE: Final = f"""
name = "bench"
[costs]
launch_ns = {LAUNCH_NS}
kernel = [{{ name = "{kernel(KERNEL_US)}", block_ns = {KERNEL_US * 1000 - LAUNCH_NS} }}]
[[device]]
model = "L4"
"""
GIB: Final = 1 << 30
SLICE: Final = "resized"
TARGET_MS: Final = 50.0
ANSWER_S: Final = 5.0
LOOK_S: Final = 0.0002
"""How often the record is looked at: a spin would take one of a small machine's cores from those who are measured."""
WARM_UP: Final = 4
HOP_RATE_HZ: Final = 20.0


class Plan(Struct, frozen=True, kw_only=True):
    """What to run: ``count`` resizes of each kind, one every ``pause_s``, beside ``neighbours`` other slices."""

    count: int = 100
    pause_s: float = 0.05
    neighbours: int = 6


class Report(Struct, frozen=True, kw_only=True):
    """What came out, in ms from just before the publish; ``target_met``: the p99 of all kinds together is at most the target.

    ``told_ms``: until the client heard ``slice.resized``.
    """

    share_up_ms: Percentiles
    share_down_ms: Percentiles
    vram_up_ms: Percentiles
    vram_down_ms: Percentiles
    in_force_ms: Percentiles
    told_ms: Percentiles
    resizes: int
    target_p99_ms: float
    target_met: bool
    hop_limit_ms: Percentiles
    ratio_to_limit: float
    audit_clean: bool
    machine: Machine
    device: str = "simulated driver"


class Change(Struct, frozen=True):
    """A resize, and what the record says when it is in force."""

    kind: str
    vram_bytes: int | None = None
    share_ppm: int | None = None


CHANGES: Final = (
    Change("share_up", share_ppm=PPM * 4 // 10),
    Change("vram_up", vram_bytes=4 * GIB),
    Change("share_down", share_ppm=PPM // 5),
    Change("vram_down", vram_bytes=2 * GIB),
)
"""In turn: each leads back to where the others began."""


class Moments(Struct, frozen=True):
    """Of one resize, in ms."""

    in_force: float
    told: float


class Sight:
    """The slice's quota record as its processes see it."""

    def __init__(self, quota: QuotaRegion) -> None:
        index = quota.find(SLICE)
        assert index is not None
        self._quota, self._index = quota, index
        self._last: Limits | None = None

    def _read(self) -> Limits | None:
        """The record; as a shim does, the last good one where its writer was interrupted while it writes."""
        with suppress(RegionBusyError):
            self._last = self._quota.read(self._index)
        return self._last

    def generation(self) -> int:
        """Of the record in force."""
        limits = self._read()
        return limits.generation if limits is not None else -1

    def has(self, change: Change, after: int) -> bool:
        """Whether a later generation is in force that says what was asked for."""
        limits = self._read()
        if limits is None or limits.generation <= after:
            return False
        wanted = (change.vram_bytes or limits.vram_limit_bytes, change.share_ppm or limits.share_ppm)
        return (limits.vram_limit_bytes, limits.share_ppm) == wanted

    async def wait(self, change: Change, after: int) -> int:
        """The moment at which it was first seen so (monotonic ns)."""
        while not self.has(change, after):  # noqa: ASYNC110 - nothing tells when a word of shared memory has changed
            await asyncio.sleep(LOOK_S)
        return monotonic_ns()


class Ear:
    """Hears what becomes of the resizes."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._told: dict[int, int] = {}
        self._news = asyncio.Event()
        self.refused = ""

    async def listen(self, started: asyncio.Event) -> None:
        """Note every generation that is told, until cancelled."""
        async with self._bus.following(f"slice.resized.{SLICE}", "slice.refused.*") as heard:
            started.set()
            async for each in heard:
                if isinstance(each.event, SliceRefused):
                    self.refused = each.event.message
                elif isinstance(each.event, SliceResized) and isinstance(each.event, SliceFact):
                    self._told.setdefault(each.event.generation, monotonic_ns())
                self._news.set()

    async def wait(self, after: int) -> int:
        """The moment at which a later generation was told."""
        while True:
            later = [at for generation, at in self._told.items() if generation > after]
            if later:
                return min(later)
            if self.refused:
                raise BenchError(f"a resize was refused: {self.refused}")
            self._news.clear()
            await self._news.wait()


async def _resize(bus: Bus, change: Change, sight: Sight, ear: Ear) -> Moments:
    after = sight.generation()
    command = ResizeSlice(id=SLICE, vram_bytes=change.vram_bytes, share_ppm=change.share_ppm)
    try:
        async with asyncio.timeout(ANSWER_S), asyncio.TaskGroup() as group:
            begun_ns = monotonic_ns()
            seen = group.create_task(sight.wait(change, after))
            told = group.create_task(ear.wait(after))
            await bus.publish(command)
    except TimeoutError:
        raise BenchError(f"{change.kind}: not in force within {ANSWER_S:g} s") from None
    if sight.generation() != after + 1:
        raise BenchError(f"{change.kind}: took {sight.generation() - after} generations, expected 1")
    return Moments((seen.result() - begun_ns) / 1e6, (told.result() - begun_ns) / 1e6)


async def _drive(stack: Stack, plan: Plan) -> dict[str, list[Moments]]:
    runtime = RuntimeDir(stack.runtime_dir)
    [device_id] = runtime.devices()
    found: dict[str, list[Moments]] = {change.kind: [] for change in CHANGES}
    bus = await JetStreamBus.connect(stack.url, name="mica-bench", wait_s=10)
    ear, started = Ear(bus), asyncio.Event()
    listener = asyncio.create_task(ear.listen(started))
    try:
        await started.wait()
        with QuotaRegion(runtime.quota_path(device_id)) as quota:
            sight = Sight(quota)
            for number in range(plan.count + WARM_UP):
                for change in CHANGES:
                    moments = await _resize(bus, change, sight, ear)
                    if number >= WARM_UP:
                        found[change.kind].append(moments)
                    await asyncio.sleep(plan.pause_s)
    finally:
        listener.cancel()
        await bus.close()
    return found


@contextmanager
def _at_work(stack: Stack) -> Iterator[None]:
    """A program in the slice, with more to do than it may."""
    attach = json.loads(RuntimeDir(stack.runtime_dir).attach_path(SLICE).read_bytes())
    tenant = TenantProcess(("work", kernel(KERNEL_US), "0"), attach["env"])
    try:
        tenant.wait_ready()
        tenant.go()
        yield
    finally:
        tenant.kill()


def _slices(stack: Stack, neighbours: int) -> None:
    sizes = [(SLICE, "2GiB", "20%")] + [(f"beside-{number}", "1GiB", "5%") for number in range(neighbours)]
    for slice_id, vram, share in sizes:
        answer = stack.mica("request", "--id", slice_id, "--tenant", "bench", "--vram", vram, "--share", share, "--mode", "fcsp")
        if answer.returncode != 0:
            raise BenchError(f"slice {slice_id}: {answer.stderr or answer.stdout}")


def report_of(found: dict[str, list[Moments]], limit: Percentiles, *, audit_clean: bool) -> Report:
    """The figures of all that was measured."""
    share_up, vram_up, share_down, vram_down = (percentiles([each.in_force for each in found[its.kind]]) for its in CHANGES)
    every = [each for moments in found.values() for each in moments]
    in_force = percentiles([each.in_force for each in every])
    return Report(
        share_up_ms=share_up,
        share_down_ms=share_down,
        vram_up_ms=vram_up,
        vram_down_ms=vram_down,
        in_force_ms=in_force,
        told_ms=percentiles([each.told for each in every]),
        resizes=len(every),
        target_p99_ms=TARGET_MS,
        target_met=in_force.p99 <= TARGET_MS,
        hop_limit_ms=limit,
        ratio_to_limit=round(in_force.p50 / limit.p50, 2),
        audit_clean=audit_clean,
        machine=describe_machine(),
    )


def run(plan: Plan) -> Report:
    """Carry the benchmark out.

    Raises:
        BenchError: the system did not come up, a resize was refused, or was not in force in time under one generation.
    """
    limit = measure_hops(HOP_RATE_HZ, plan.count)
    with running_stack(NODE) as stack:
        _slices(stack, plan.neighbours)
        with _at_work(stack):
            try:
                found = uvloop.run(_drive(stack, plan))
            except ExceptionGroup as group:
                raise BenchError(str(group.exceptions[0])) from group
        return report_of(found, limit, audit_clean=stack.mica("audit").returncode == 0)
