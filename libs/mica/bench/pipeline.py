"""``mica bench pipeline``: from ``slice.request`` to ``slice.ready``, how fast and how many.

Two phases on one private system. Latency: open arrivals at 50 requests/s. Sustained: a fixed number of requests under way, a
new one for each that was released. Every request becomes ready and is then released; answers are counted afterwards from the
stream itself, by a consumer of its own. The limit is measured in the same run: a bare chain of as many bus hops, without mica.

Invariant: a figure is only reported together with the count of missing and double answers and the audit's verdict.
"""

import asyncio
import time
from collections import Counter
from typing import Any

import uvloop
from msgspec import Struct

from mica.bench._errors import BenchError
from mica.bench._hops import measure_hops
from mica.bench._machine import Machine, Percentiles, describe_machine, percentiles
from mica.bench._stack import Stack, running_stack
from mica.bus import Bus, JetStreamBus
from mica.events import ReleaseSlice, RequestSlice, SliceFailed, SliceReady, SliceRejected, SliceReleased

NODE = """
name = "bench"
[[device]]
model = "L4"
count = 4
"""
SLICE_VRAM_BYTES = 64 << 20
SLICE_SHARE_PPM = 10_000
ANSWER_S = 30.0
WARM_UP = 50


class Plan(Struct, frozen=True, kw_only=True):
    """What to run. ``commands_per_s`` is the planner's throttle per tenant."""

    rate_hz: float = 50.0
    latency_requests: int = 500
    sustained_s: float = 10.0
    under_way: int = 64
    tenants: int = 8
    commands_per_s: int = 1000


class Report(Struct, frozen=True, kw_only=True):
    """What came out. ``sustained_rps`` counts requests that were ready and released again."""

    request_to_ready_ms: Percentiles
    sustained_rps: float
    requests: int
    answered: int
    missing: int
    doubled: int
    audit_clean: bool
    hop_limit_ms: Percentiles
    ratio_to_limit: float
    throttle: dict[str, int]
    machine: Machine
    device: str = "simulated driver"


class _Client:
    """The tenants: publishes requests, hears answers, releases what is ready."""

    def __init__(self, bus: Bus, plan: Plan) -> None:
        self._bus = bus
        self._plan = plan
        self._ready: dict[str, asyncio.Future[float]] = {}
        self._released: dict[str, asyncio.Future[None]] = {}
        self.asked: list[str] = []

    async def listen(self, started: asyncio.Event) -> None:
        """Resolve whoever waits for an answer; runs until cancelled."""
        subjects = ("slice.ready.*", "slice.released.*", "slice.rejected.*", "slice.failed.*")
        async with self._bus.following(*subjects) as heard:
            started.set()
            async for item in heard:
                event = item.event
                match event:
                    case SliceReady():
                        _resolve(self._ready.get(event.id), time.perf_counter())
                    case SliceReleased():
                        _resolve(self._released.get(event.id), None)
                    case SliceRejected() | SliceFailed():
                        future = self._ready.get(event.id)
                        if future is not None and not future.done():
                            future.set_exception(BenchError(f"{event.id}: {event.message}"))

    async def one(self) -> float:
        """Request, ready, release, released; milliseconds from the publish to ``slice.ready``."""
        number = len(self.asked)
        name = f"bench-{number}"
        self.asked.append(name)
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[float] = loop.create_future()
        released: asyncio.Future[None] = loop.create_future()
        self._ready[name], self._released[name] = ready, released
        request = RequestSlice(
            id=name, tenant=f"tenant-{number % self._plan.tenants}", vram_bytes=SLICE_VRAM_BYTES, share_ppm=SLICE_SHARE_PPM
        )
        begun = time.perf_counter()
        async with asyncio.timeout(ANSWER_S):
            await self._bus.publish(request)
            ended = await ready
            await self._bus.publish(ReleaseSlice(id=name))
            await released
        del self._ready[name], self._released[name]
        return (ended - begun) * 1e3


def _resolve(future: "asyncio.Future[Any] | None", value: object) -> None:
    if future is not None and not future.done():
        future.set_result(value)


async def _open_arrivals(client: _Client, count: int, rate_hz: float) -> list[float]:
    """``count`` requests, one every 1/rate, whatever the answers do."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with asyncio.TaskGroup() as group:
        tasks = []
        for number in range(count):
            await asyncio.sleep(max(0.0, begun + number / rate_hz - loop.time()))
            tasks.append(group.create_task(client.one()))
    return [task.result() for task in tasks]


async def _closed_loop(client: _Client, under_way: int, seconds: float) -> float:
    """Requests finished per second with ``under_way`` of them always under way."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    finished = 0

    async def lane() -> None:
        nonlocal finished
        while loop.time() - begun < seconds:
            await client.one()
            finished += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(under_way):
            group.create_task(lane())
    return finished / (loop.time() - begun)


async def _count_answers(bus: Bus, asked: list[str]) -> tuple[int, int, int]:
    """Requests answered, without an answer, and with more than one, as the stream tells."""
    history = await bus.history("SLICES", ("slice.ready.*", "slice.rejected.*", "slice.failed.*"))
    answers = Counter(getattr(item.event, "id", "") for item in history)
    counts = [answers[name] for name in asked]
    return sum(count > 0 for count in counts), counts.count(0), sum(count > 1 for count in counts)


async def _drive(stack: Stack, plan: Plan, limit: Percentiles) -> Report:
    bus = await JetStreamBus.connect(stack.url, name="mica-bench", wait_s=10)
    client = _Client(bus, plan)
    started = asyncio.Event()
    listener = asyncio.create_task(client.listen(started))
    try:
        await started.wait()
        await _open_arrivals(client, WARM_UP, plan.rate_hz)
        latencies_ms = await _open_arrivals(client, plan.latency_requests, plan.rate_hz)
        rate = await _closed_loop(client, plan.under_way, plan.sustained_s)
        answered, missing, doubled = await _count_answers(bus, client.asked)
    finally:
        listener.cancel()
        await bus.close()
    audit = await asyncio.to_thread(stack.mica, "audit")
    latency = percentiles(latencies_ms)
    return Report(
        request_to_ready_ms=latency,
        sustained_rps=round(rate, 1),
        requests=len(client.asked),
        answered=answered,
        missing=missing,
        doubled=doubled,
        audit_clean=audit.returncode == 0,
        hop_limit_ms=limit,
        ratio_to_limit=round(latency.p50 / limit.p50, 2),
        throttle={"commands_per_s_per_tenant": plan.commands_per_s, "tenants": plan.tenants},
        machine=describe_machine(),
    )


def run(plan: Plan) -> Report:
    """Carry the benchmark out.

    Raises:
        BenchError: the system did not come up, or a request was refused.
    """
    limit = measure_hops(plan.rate_hz, plan.latency_requests)
    with running_stack(NODE, {"MICA_COMMANDS_PER_S": str(plan.commands_per_s)}) as stack:
        try:
            return uvloop.run(_drive(stack, plan, limit))
        except ExceptionGroup as group:
            raise BenchError(f"a request failed: {group.exceptions[0]}") from group
        except TimeoutError:
            raise BenchError(f"a request had no answer within {ANSWER_S:.0f} s") from None
