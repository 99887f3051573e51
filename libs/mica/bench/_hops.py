"""The limit that ``mica bench pipeline`` approaches: a bare chain of the same bus hops, with no work in between.

Command to a durable consumer, three chained compare-and-sets of which a watcher in another process sees the last, a fact back:
what any planner and enforcer over JetStream must pay. Run as a module it is one of the two relays.
"""

import asyncio
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from mica.bench._machine import Percentiles, percentiles
from mica.bus import JetStreamBus, Write
from mica.events import Ledger, RequestSlice, SliceReady, TenantHoldings, decode

NODE = "hops"
WARM_UP = 50


async def plan(url: str) -> None:
    """The planner's hops: consume, then write a record, a charge and the ledger in one trip."""
    bus = await JetStreamBus.connect(url, wait_s=10)
    charged = revision = generation = 0
    holdings = TenantHoldings(tenant="hops")
    async for batch in bus.consume("COMMANDS", "hops"):
        for delivery in batch:
            request = decode(delivery.subject, delivery.data)
            assert isinstance(request, RequestSlice)
            generation += 1
            ledger = Ledger(node=NODE, generation=generation)
            _, charged, revision = await bus.state.chain(
                (
                    Write(f"slice.{request.id}", holdings, 0),
                    Write("tenant.hops", holdings, charged),
                    Write(f"ledger.{NODE}", ledger, revision),
                )
            )
            await delivery.ack()


async def enforce(url: str) -> None:
    """The enforcer's hops: see the ledger, answer. A watch may skip revisions, so every generation up to it is answered."""
    bus = await JetStreamBus.connect(url, wait_s=10)
    answered = 0
    async for changes in bus.state.watch(f"ledger.{NODE}", Ledger):
        newest = max((change.value.generation for change in changes if change.value is not None), default=0)
        for generation in range(answered, newest):
            await bus.publish(SliceReady(at=time.time_ns(), id=f"hop-{generation}", placements=()))
        answered = max(answered, newest)


async def ask(url: str, rate_hz: float, count: int) -> list[float]:
    """Milliseconds of each of ``count`` round trips through the chain, open arrivals."""
    bus = await JetStreamBus.connect(url, wait_s=10)
    waiting: dict[str, asyncio.Future[float]] = {}
    loop = asyncio.get_running_loop()

    async def one(name: str) -> float:
        future: asyncio.Future[float] = loop.create_future()
        waiting[name] = future
        begun = time.perf_counter()
        await bus.publish(RequestSlice(id=name, tenant="hops"))
        async with asyncio.timeout(30):
            ended = await future
        return (ended - begun) * 1e3

    async def listen(started: asyncio.Event) -> None:
        async with bus.following("slice.ready.*") as heard:
            started.set()
            async for item in heard:
                future = waiting.pop(getattr(item.event, "id", ""), None)
                if future is not None:
                    future.set_result(time.perf_counter())

    started = asyncio.Event()
    listener = asyncio.create_task(listen(started))
    await started.wait()
    begun = loop.time()
    tasks = []
    for number in range(count + WARM_UP):
        await asyncio.sleep(max(0.0, begun + number / rate_hz - loop.time()))
        tasks.append(asyncio.create_task(one(f"hop-{number}")))
    latencies_ms = await asyncio.gather(*tasks)
    listener.cancel()
    await bus.close()
    return latencies_ms[WARM_UP:]


def measure_hops(rate_hz: float, count: int) -> Percentiles:
    """Run the chain on a private server."""
    with _server() as url:
        relays = [subprocess.Popen([sys.executable, "-m", "mica.bench._hops", role, url]) for role in ("plan", "enforce")]
        try:
            return percentiles(uvloop.run(ask(url, rate_hz, count)))
        finally:
            for relay in relays:
                relay.kill()
                relay.wait()


@contextmanager
def _server() -> Iterator[str]:
    store = tempfile.mkdtemp(prefix="mica-hops-")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Path(sys.executable).with_name("nats-server")
    process = subprocess.Popen([str(program), "-js", "-sd", store, "-a", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        yield f"nats://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(store, ignore_errors=True)


if __name__ == "__main__":
    uvloop.run({"plan": plan, "enforce": enforce}[sys.argv[1]](sys.argv[2]))
