"""The planner's process on a real server: it serves, is killed, and goes on where it was."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "planner"))

from planner_house import SimulatedEnforcer, ask, mixed

from mica.bus import Heard, JetStreamBus, SystemClock
from mica.events import Ledger, Mode, ReleaseSlice, SliceReady, SliceRejected, SliceReleased, TenantHoldings


def start_planner(url: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "mica.planner"], env={**os.environ, "MICA_NATS_URL": url}, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"mica-planner ready\n"
    return process


@asynccontextmanager
async def node(url: str) -> AsyncIterator[JetStreamBus]:
    """A simulated node whose enforcer follows its ledger."""
    bus = await JetStreamBus.connect(url, name="node", wait_s=20)
    await bus.state.put("inventory.n1", mixed())
    enforcer = SimulatedEnforcer(bus, SystemClock(), "n1")
    await enforcer.step()

    async def follow() -> None:
        async for _ in bus.state.watch("ledger.n1", Ledger):
            await enforcer.step()

    task = asyncio.create_task(follow())
    yield bus
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await bus.close()


async def test_a_planner_that_is_killed_amid_requests_answers_each_of_them_once(nats_server) -> None:
    """SIGKILL in the middle of a burst: its successor answers the rest, and in the end nothing is charged or left."""
    count = 40
    async with node(nats_server.url) as bus:
        first = await asyncio.to_thread(start_planner, nats_server.url)
        ready: list[str] = []
        released: set[str] = set()
        async with bus.following("slice.ready.*", "slice.released.*") as heard:
            await asyncio.gather(*(bus.publish(ask(f"s{i}", 0.25, mode=Mode.FCSP, share_ppm=10_000)) for i in range(count)))
            first.send_signal(signal.SIGKILL)
            first.wait()
            second = await asyncio.to_thread(start_planner, nats_server.url)
            async with asyncio.timeout(60):
                async for each in heard:
                    if isinstance(each.event, SliceReady):
                        ready.append(each.event.id)
                        await bus.publish(ReleaseSlice(id=each.event.id))
                    elif isinstance(each.event, SliceReleased):
                        released.add(each.event.id)
                    if len(released) == count:
                        break
        assert sorted(ready) == sorted(f"s{i}" for i in range(count))
        async with asyncio.timeout(30):
            while (await holdings(bus)) or not await is_empty(bus):
                await asyncio.sleep(0.05)
        second.terminate()
        assert second.wait(10) == 0
        for process in (first, second):
            process.stdout.close()


async def test_no_replica_refuses_what_another_has_just_freed(nats_server) -> None:
    """Two processes take turns as the server likes: whoever is asked knows that the device is free again, or is full."""
    async with node(nats_server.url) as bus:
        planners = [await asyncio.to_thread(start_planner, nats_server.url) for _ in range(2)]
        try:
            await take_turns(bus)
        finally:
            for process in planners:
                process.terminate()
                assert process.wait(10) == 0
                process.stdout.close()


async def take_turns(bus: JetStreamBus) -> None:
    """Fill the device, ask for more, empty it, again and again."""
    async with bus.following("slice.ready.*", "slice.rejected.*") as heard, asyncio.timeout(30):
        for turn in range(12):
            await bus.publish(ask(f"s{turn}", 70))
            assert await told(heard, f"s{turn}") is SliceReady
            await bus.publish(ask(f"more{turn}", 70))
            assert await told(heard, f"more{turn}") is SliceRejected
            await bus.publish(ReleaseSlice(id=f"s{turn}"))
            while (await holdings(bus)) or not await is_empty(bus):
                await asyncio.sleep(0.005)


async def told(heard: AsyncIterator[Heard], slice_id: str) -> type[object]:
    """What is said first of the slice."""
    async for each in heard:
        if each.event.id == slice_id:
            return type(each.event)
    raise AssertionError(f"nothing is said of {slice_id}")


async def holdings(bus: JetStreamBus) -> dict[str, object]:
    entry = await bus.state.get("tenant.t1", TenantHoldings)
    return dict(entry.value.holdings) if entry is not None else {}


async def is_empty(bus: JetStreamBus) -> bool:
    entry = await bus.state.get("ledger.n1", Ledger)
    return entry is not None and not (entry.value.devices or entry.value.departures or entry.value.held)


def test_a_rate_that_is_no_number_is_one_clear_line(nats_server) -> None:
    """A wrong environment ends the process with what was given and what is allowed."""
    environment = {**os.environ, "MICA_NATS_URL": nats_server.url, "MICA_COMMANDS_PER_S": "many"}
    done = subprocess.run([sys.executable, "-m", "mica.planner"], env=environment, capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.decode().strip() == "mica-planner: MICA_COMMANDS_PER_S: got many, allowed: a whole number of at least 1"
