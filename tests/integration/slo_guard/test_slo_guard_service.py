"""The guard over a real server: replicas, restarts, and a planner that refuses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from mica.bus import JetStreamBus, Settings, SystemClock
from mica.events import (
    Fact,
    GuardState,
    Mode,
    Phase,
    Placement,
    RequestSlice,
    ResizeSlice,
    SliceRecord,
    SliceRefused,
    SliceSampled,
    Slo,
    SloActed,
    SloReported,
    Vendor,
    decode,
)
from mica.observability import PassingTracer
from mica.slo_guard.__main__ import follow_telemetry, run
from mica.slo_guard.handlers import Guard
from mica.slo_guard.weighing import Patience

CLOCK = SystemClock()
PLACEMENT = Placement(
    node="n1", device_id="GPU-1", model="L4", vendor=Vendor.NVIDIA, mode=Mode.FCSP, vram_bytes=1 << 30, share_ppm=200_000
)


class Times:
    """When the first window of a test was: what is reported is of the seconds before it began, and not stale while it runs."""

    start_ns = 0


@pytest.fixture(autouse=True)
def _begin() -> None:
    Times.start_ns = CLOCK.unix_ns() - 12_000_000_000


@pytest.fixture
async def bus(nats_server: Any) -> AsyncIterator[JetStreamBus]:
    """A connection of the test's own."""
    connection = await JetStreamBus.connect(nats_server.url, wait_s=10)
    yield connection
    await connection.close()


@asynccontextmanager
async def guarding(url: str) -> AsyncIterator[None]:
    """One replica of the guard, with a connection of its own, for the length of the block."""
    connection = await JetStreamBus.connect(url, wait_s=10)
    task = asyncio.create_task(run(connection, Settings(nats_url=url, node="n1")))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await connection.close()


async def place(bus: JetStreamBus, slice_id: str = "s1") -> None:
    """Write the record of a slice that was promised 50 ms."""
    request = RequestSlice(tenant="acme", vram_bytes=1 << 30, slo=Slo(p99_ms=50))
    record = SliceRecord(
        id=slice_id,
        request=request,
        phase=Phase.PLACED,
        generation=1,
        sequence=1,
        request_sequence=1,
        placements=(PLACEMENT,),
    )
    await bus.state.put(f"slice.{slice_id}", record)


def bad(index: int, slice_id: str = "s1") -> SloReported:
    """The bad window of a second that ended some seconds ago, the tenth now."""
    return SloReported(at=Times.start_ns + index * 1_000_000_000, id=slice_id, p99_ms=90.0)


async def report(bus: JetStreamBus, count: int, slice_id: str = "s1") -> None:
    """Publish so many bad windows, one after the other in time."""
    for index in range(count):
        await bus.publish(bad(index, slice_id))


async def actions(bus: JetStreamBus, slice_id: str, count: int) -> list[SloActed]:
    """The first ``count`` actions of a slice."""
    while True:
        found = [heard.event for heard in await bus.history("SLO", [f"slo.action.{slice_id}"])]
        acted = [event for event in found if isinstance(event, SloActed)]
        if len(acted) >= count:
            return acted
        await asyncio.sleep(0.02)


@asynccontextmanager
async def collecting(bus: JetStreamBus) -> AsyncIterator[list[ResizeSlice]]:
    """The resizes that a planner would get, as they come."""
    found: list[ResizeSlice] = []
    task = asyncio.create_task(_collect(bus, found))
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _collect(bus: JetStreamBus, found: list[ResizeSlice]) -> None:
    async for deliveries in bus.consume("COMMANDS", "planner"):
        for delivery in deliveries:
            command = decode(delivery.subject, delivery.data, delivery.content_type)
            assert isinstance(command, ResizeSlice)
            found.append(command)
            await delivery.ack()


@asynccontextmanager
async def replicas(url: str, count: int) -> AsyncIterator[None]:
    """So many replicas of the guard."""
    async with AsyncExitStack() as stack:
        for _ in range(count):
            await stack.enter_async_context(guarding(url))
        yield


async def test_replicas_act_once(nats_server: Any, bus: JetStreamBus) -> None:
    """Three replicas that share the reports of ten slices count together, and ask for one resize each."""
    slices = [f"s{index}" for index in range(10)]
    for slice_id in slices:
        await place(bus, slice_id)
    async with asyncio.timeout(60), collecting(bus) as commands, replicas(nats_server.url, 3):
        for index in range(9):
            await asyncio.gather(*(judged(bus, index, slice_id) for slice_id in slices))
        for slice_id in slices:
            await actions(bus, slice_id, 1)
    assert sorted(command.id for command in commands) == slices
    for slice_id in slices:
        assert [(act.action, act.share_ppm) for act in await actions(bus, slice_id, 1)] == [("ceiling", None)]


async def test_a_burst_of_reports(nats_server: Any, bus: JetStreamBus) -> None:
    """Reports of one slice that replicas handle at the same time never make it act twice."""
    await place(bus)
    async with asyncio.timeout(60), collecting(bus) as commands, replicas(nats_server.url, 3):
        await asyncio.gather(*(bus.publish(bad(index // 5)) for index in range(35)))
        index = 7
        while not commands:
            index += 1
            await judged(bus, index)
        for _ in range(4):
            index += 1
            await judged(bus, index)
    assert [command.limits.ceiling_ppm for command in commands] == [1_000_000]
    assert len(await actions(bus, "s1", 1)) == 1


async def judged(bus: JetStreamBus, index: int, slice_id: str = "s1") -> None:
    """Report one bad window and wait until it has been counted."""
    sequence = await bus.publish(bad(index, slice_id))
    while True:
        state = await bus.state.get(f"guard.{slice_id}", GuardState)
        if state is not None and state.value.sequence >= sequence:
            return
        await asyncio.sleep(0.02)


async def test_a_restart_between_windows(nats_server: Any, bus: JetStreamBus) -> None:
    """A guard that is restarted after each window still counts to three."""
    await place(bus)
    async with asyncio.timeout(30):
        for index in range(2):
            async with guarding(nats_server.url):
                await judged(bus, index)
        async with guarding(nats_server.url):
            await judged(bus, 2)
            assert (await actions(bus, "s1", 1))[0].action == "ceiling"


async def test_a_refused_resize(nats_server: Any, bus: JetStreamBus) -> None:
    """What the planner refuses ends in the action "none", with the planner's reason."""
    await place(bus)
    async with asyncio.timeout(30), guarding(nats_server.url):
        await report(bus, 3)
        await actions(bus, "s1", 1)
        await refuse(bus)
        acted = await actions(bus, "s1", 2)
    assert [act.action for act in acted] == ["ceiling", "none"]
    assert "only 50000 ppm are free" in acted[1].message


async def refuse(bus: JetStreamBus) -> None:
    """Do the planner's part: take the command off the queue and refuse it."""
    async for deliveries in bus.consume("COMMANDS", "planner"):
        (delivery,) = deliveries
        command = decode(delivery.subject, delivery.data, delivery.content_type)
        assert isinstance(command, ResizeSlice)
        fact: Fact = SliceRefused(
            at=CLOCK.unix_ns(),
            sequence=delivery.sequence,
            command="slice.resize",
            id=command.id,
            field="share_ppm",
            given=str(command.share_ppm),
            allowed="50000",
            message="only 50000 ppm are free",
        )
        await bus.publish(fact)
        await delivery.ack()
        return


async def test_garbage_does_not_block(nats_server: Any, bus: JetStreamBus) -> None:
    """Reports that are none are dropped, and what comes behind them is judged."""
    await place(bus)
    for body in (b"", b"{", b"\x00" * 100, b"[]", b'{"at": -1, "id": "s1"}'):
        await bus.publish_raw("slo.report.s1", body)
    async with asyncio.timeout(30), guarding(nats_server.url):
        await report(bus, 3)
        assert (await actions(bus, "s1", 1))[0].action == "ceiling"


async def test_replicas_follow_telemetry(nats_server: Any, bus: JetStreamBus) -> None:
    """Each replica hears every sample by itself, and nothing is left of it on the server when it ends."""
    await place(bus)
    async with asyncio.timeout(30), AsyncExitStack() as stack:
        guards = [await stack.enter_async_context(seeing(nats_server.url)) for _ in range(2)]
        second = 0
        while any(len(guard.sightings.rates("GPU-1", "s1")) < 3 for guard in guards):
            second += 1
            await bus.publish(sample("s1", second))
            await asyncio.sleep(0.02)
    assert [round(guard.sightings.rates("GPU-1", "s1")[0].gpu, 3) for guard in guards] == [0.25, 0.25]


@asynccontextmanager
async def seeing(url: str) -> AsyncIterator[Guard]:
    """A replica that follows telemetry."""
    connection = await JetStreamBus.connect(url, wait_s=10)
    guard = Guard(connection, Patience(), CLOCK, PassingTracer())
    task = asyncio.create_task(follow_telemetry(connection, guard))
    try:
        yield guard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await connection.close()


def sample(slice_id: str, second: int) -> SliceSampled:
    """A reading of a slice at a second of the node's clock: it uses a quarter of the device."""
    return SliceSampled(
        at=Times.start_ns + second * 1_000_000_000, id=slice_id, tenant="t", node="n1", device_id="GPU-1", vram_used_bytes=0,
        vram_peak_bytes=0, vram_limit_bytes=1, gpu_ns=second * 250_000_000, share_ppm=200_000,
    )  # fmt: skip
