"""A gate and the bus: what it tells, what it is told, and that it needs neither to serve."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from gate_house import PATIENCE_S, Client, UpstreamByHand, closed, upstream_by_hand

from mica.bus import JetStreamBus, ManualClock
from mica.events import (
    BreakerState,
    GatePolicy,
    Mode,
    Phase,
    Placement,
    RequestSlice,
    SliceRecord,
    Slo,
    SloReported,
    SloTripped,
    Vendor,
)
from mica.gate.__main__ import run
from mica.gate.plan import plan_of
from mica.observability import PassingTracer

PLACEMENT = Placement(
    node="n1", device_id="GPU-1", model="L4", vendor=Vendor.NVIDIA, mode=Mode.FCSP, vram_bytes=1 << 30, share_ppm=200_000
)


def record(slo: Slo | None) -> SliceRecord:
    """The record of s1, that was promised ``slo``."""
    request = RequestSlice(tenant="acme", vram_bytes=1 << 30, slo=slo)
    return SliceRecord(
        id="s1", request=request, phase=Phase.PLACED, generation=1, sequence=1, request_sequence=1, placements=(PLACEMENT,)
    )


class Site:
    """A gate that runs as its process would, and a client and an upstream by hand."""

    def __init__(self, upstream: UpstreamByHand, client: Client, clock: ManualClock) -> None:
        self.upstream = upstream
        self.client = client
        self.clock = clock

    async def one(self, took_s: float = 0, status: str = "200 OK") -> None:
        """One request, which takes that long."""
        await self.client.ask()
        asked = await self.upstream.asked()
        self.clock.advance(took_s)
        await asked.answer(status)
        await self.client.answer()

    async def own(self, name: str) -> str:
        """A page of the gate's own."""
        await self.client.ask(f"/mica/{name}", method="GET", body="")
        return (await self.client.answer())[1]

    async def until(self, holds: Callable[[str], bool]) -> None:
        """Wait until the gate's statistics say so."""
        while not holds(await self.own("stats")):
            await asyncio.sleep(0.005)


@asynccontextmanager
async def site(url: str, **options: Any) -> AsyncIterator[Site]:
    """A gate before s1 with windows of a minute, whose bus is at ``url``."""
    clock, stop, addresses = ManualClock(), asyncio.Event(), asyncio.Queue[str]()
    async with asyncio.timeout(3 * PATIENCE_S), upstream_by_hand() as upstream:
        given = {
            "slice": "s1",
            "upstreams": [upstream.url],
            "listen": "127.0.0.1:0",
            "nats_url": url,
            "window_s": 60.0,
            "grace_s": 0.0,
        }
        running = asyncio.create_task(
            run(plan_of(given | options), stop, PassingTracer(), clock=clock, on_ready=addresses.put_nowait)
        )
        host, port = (await addresses.get()).removeprefix("http://").split(":")
        client = Client(*await asyncio.open_connection(host, int(port)))
        try:
            yield Site(upstream, client, clock)
        finally:
            await closed(client.writer)
            stop.set()
            await running


@asynccontextmanager
async def bus_at(url: str) -> AsyncIterator[JetStreamBus]:
    """A connection of the test's own."""
    bus = await JetStreamBus.connect(url, wait_s=10)
    yield bus
    await bus.close()


async def told(bus: JetStreamBus, subject: str, count: int = 1) -> list[Any]:
    """The first so many events on a subject, waited for."""
    while len(found := [heard.event for heard in await bus.history("SLO", [subject])]) < count:
        await asyncio.sleep(0.01)
    return found


async def test_a_window_is_published(nats_server: Any) -> None:
    """What a window was like is on slo.report.s1, with the requests that broke the SLO of the slice's record as it is then."""
    async with bus_at(nats_server.url) as bus:
        await bus.state.put("slice.s1", record(Slo(p99_ms=500)))
        async with site(nats_server.url) as here:
            await here.until(lambda stats: '"p99_ms":500.0' in stats)
            for took_s in (0, 1, 2):
                await here.one(took_s)
            here.clock.advance(60)
            report = (await told(bus, "slo.report.s1"))[0]
            assert isinstance(report, SloReported)
            assert (report.requests, report.late, report.errors, report.source) == (3, 2, 0, "gate")
            assert report.p50_ms is not None
            assert (abs(report.p50_ms - 1000) < 4, report.p99_ms) == (True, 2000)
            await bus.state.put("slice.s1", record(Slo(p99_ms=5000)))
            await here.until(lambda stats: '"p99_ms":5000.0' in stats)
            await here.one(2)
            here.clock.advance(60)
            assert [each.late for each in await told(bus, "slo.report.s1", 2)] == [2, 0]


async def test_a_slice_that_nobody_knows(nats_server: Any) -> None:
    """Reports of it are told, and late is not counted; a record that goes away takes its SLO along."""
    async with bus_at(nats_server.url) as bus, site(nats_server.url) as here:
        await here.until(lambda stats: '"bus":true' in stats)
        await here.one(5)
        here.clock.advance(60)
        assert [(each.requests, each.late) for each in await told(bus, "slo.report.s1")] == [(1, None)]
        await bus.state.put("slice.s1", record(Slo(p99_ms=500)))
        await here.until(lambda stats: '"p99_ms":500.0' in stats)
        await bus.state.delete("slice.s1")
        await here.until(lambda stats: '"slo":null' in stats)


async def test_without_a_bus_it_serves_and_tells_later(nats_server: Any) -> None:
    """Before the server is there, while it is away and after it came back, requests are answered; what was kept is told then."""
    nats_server.kill()
    async with site(nats_server.url) as here:
        await here.one()
        here.clock.advance(60)
        assert '"bus":false' in await here.own("stats")
        nats_server.start()
        await here.until(lambda stats: here.clock.advance(1) or '"bus":true' in stats)
        async with bus_at(nats_server.url) as bus:
            assert (await told(bus, "slo.report.s1"))[0].requests == 1
        nats_server.kill()
        for _ in range(3):
            await here.one()
        here.clock.advance(60)
        await here.one()
        nats_server.start()
        async with bus_at(nats_server.url) as bus:
            while not any(each.requests for each in await told(bus, "slo.report.s1")):
                await here.one()
                here.clock.advance(60)


async def test_what_can_not_be_told_is_dropped(nats_server: Any) -> None:
    """Without a bus a day of windows takes no more memory than a minute's, and each that was dropped is counted."""
    nats_server.kill()
    async with site(nats_server.url) as here:
        for number in range(70):
            await here.one()
            here.clock.advance(60)
            await here.until(lambda stats, number=number: f'"dropped":{max(0, number + 1 - 64)}' in stats)  # type: ignore[misc]


async def test_a_policy_changes_the_guardrails(nats_server: Any) -> None:
    """gate.s1 in the policy bucket holds at once, above what the gate was started with, and its end gives that back."""
    async with bus_at(nats_server.url) as bus, site(nats_server.url, concurrency=9) as here:
        await bus.policy.put("gate.s1", GatePolicy(rate_hz=2.5, burst=3))
        await here.until(lambda stats: '"rate_hz":2.5,"burst":3,"concurrency":9' in stats)
        await bus.policy.delete("gate.s1")
        await here.until(lambda stats: '"rate_hz":0.0,"burst":0,"concurrency":9' in stats)


async def test_a_breaker_that_opens_is_told(nats_server: Any) -> None:
    """slo.tripped.s1 says what it is now, and why, with the numbers."""
    async with bus_at(nats_server.url) as bus, site(nats_server.url, breaker_least=2) as here:
        for _ in range(2):
            await here.one(status="503 Service Unavailable")
        tripped = (await told(bus, "slo.tripped.s1"))[0]
        assert isinstance(tripped, SloTripped)
        assert (tripped.state, tripped.reason) == (BreakerState.OPEN, "too many requests fail")
        assert (tripped.requests, tripped.errors, tripped.source) == (2, 2, "gate")


async def test_the_last_window_is_told(nats_server: Any) -> None:
    """What came after the last report is told when the gate is stopped."""
    async with bus_at(nats_server.url) as bus:
        async with site(nats_server.url) as here:
            await here.until(lambda stats: '"bus":true' in stats)
            await here.one()
        assert (await told(bus, "slo.report.s1"))[0].requests == 1
