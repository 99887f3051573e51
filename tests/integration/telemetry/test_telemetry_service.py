"""Telemetry over a real server and real usage regions."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mica.bus import BusError, JetStreamBus, Settings
from mica.events import (
    Ledger,
    LedgerEntry,
    Mode,
    Observed,
    ObservedSlice,
    ObservedState,
    SliceSampled,
    Tier,
    UsageLedger,
)
from mica.region import RuntimeDir, TenantRegion, create_usage
from mica.telemetry.__main__ import run

GPU = "GPU-1"
LIMIT = 8 << 30


@pytest.fixture
async def bus(nats_server: Any) -> AsyncIterator[JetStreamBus]:
    """A connection of the test's own."""
    connection = await JetStreamBus.connect(nats_server.url, wait_s=10)
    yield connection
    await connection.close()


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICA_SAMPLE_S", "0.02")
    monkeypatch.delenv("MICA_SIM_DIR", raising=False)


@asynccontextmanager
async def telemetry(url: str, root: Path) -> AsyncIterator[None]:
    """The service, with a connection of its own, for the length of the block."""
    connection = await JetStreamBus.connect(url, wait_s=10)
    task = asyncio.create_task(run(connection, Settings(nats_url=url, node="n1", runtime_dir=root)))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await connection.close()


async def place(bus: JetStreamBus, root: Path, *slices: str) -> None:
    """Do the planner's and the enforcer's part: these slices, and no others, are live on GPU-1."""
    entries = {
        slice_id: LedgerEntry(
            id=slice_id,
            tenant="acme",
            generation=1,
            tier=Tier.GUARANTEED,
            mode=Mode.FCSP,
            vram_bytes=LIMIT,
            share_ppm=250_000,
        )
        for slice_id in slices
    }
    seen = ObservedSlice(generation=1, state=ObservedState.LIVE, mode=Mode.FCSP, vram_bytes=LIMIT, share_ppm=250_000)
    for slice_id in slices:
        RuntimeDir(root).ensure_slice(slice_id)
        create_usage(RuntimeDir(root).usage_path(slice_id, GPU), GPU, slice_id, os.getuid())
    await bus.state.put("ledger.n1", Ledger(node="n1", generation=1, devices={GPU: entries}))
    await bus.state.put("observed.n1", Observed(node="n1", boot_id="b", devices={GPU: dict.fromkeys(slices, seen)}))


async def next_sample(heard: AsyncIterator[Any], slice_id: str, vram_bytes: int) -> SliceSampled:
    """The next sample of a slice that holds so much."""
    async for one in heard:
        event = one.event
        if isinstance(event, SliceSampled) and event.id == slice_id and event.vram_used_bytes == vram_bytes:
            return event
    raise AssertionError("the stream of samples ended")


async def stored(bus: JetStreamBus) -> UsageLedger:
    """The usage ledger as it is in KV."""
    entry = await bus.state.get("usage.n1", UsageLedger)
    return entry.value if entry is not None else UsageLedger(node="n1")


async def test_what_a_process_holds(nats_server: Any, bus: JetStreamBus, tmp_path: Path) -> None:
    """A process's reservation shows in the next samples, and its end in those after; a broken neighbour hides neither."""
    await place(bus, tmp_path, "s1", "broken")
    os.truncate(RuntimeDir(tmp_path).usage_path("broken", GPU), 64)
    async with asyncio.timeout(30), telemetry(nats_server.url, tmp_path), bus.following("telemetry.slice.*") as heard:
        with TenantRegion(RuntimeDir(tmp_path).usage_path("s1", GPU)) as process:
            assert process.reserve(3 << 30, LIMIT)
            sample = await next_sample(heard, "s1", 3 << 30)
            assert (sample.processes, sample.tenant, sample.vram_limit_bytes) == (1, "acme", LIMIT)
        after = await next_sample(heard, "s1", 0)
        assert (after.processes, after.vram_peak_bytes) == (0, 3 << 30)


async def test_usage_over_restarts_and_release(nats_server: Any, bus: JetStreamBus, tmp_path: Path) -> None:
    """Stopping stores what was used, starting goes on from it, and a release stores it at once; it never shrinks."""
    await place(bus, tmp_path, "s1")
    seen = [0.0]
    async with asyncio.timeout(60):
        with TenantRegion(RuntimeDir(tmp_path).usage_path("s1", GPU)) as process:
            assert process.reserve(1 << 30, LIMIT)
            for _ in range(3):
                async with bus.following("telemetry.slice.s1") as heard, telemetry(nats_server.url, tmp_path):
                    for _ in range(3):
                        await next_sample(heard, "s1", 1 << 30)
                seen.append((await stored(bus)).slices["s1"].vram_byte_s)
                assert seen[-1] > seen[-2]
        async with bus.following("telemetry.slice.s1") as heard, telemetry(nats_server.url, tmp_path):
            await next_sample(heard, "s1", 0)
            await place(bus, tmp_path)
            entry = await bus.state.get("usage.n1", UsageLedger)
            assert entry is not None
            async for changes in bus.state.watch("usage.n1", UsageLedger):
                if any(change.revision > entry.revision for change in changes):
                    break
    assert (await stored(bus)).slices["s1"].vram_byte_s >= seen[-1]


async def test_a_crash_of_the_server(nats_server: Any, bus: JetStreamBus, tmp_path: Path) -> None:
    """After the server died and came back, the stream that it held in memory fills again, and usage is stored."""
    await place(bus, tmp_path, "s1")
    async with asyncio.timeout(60), telemetry(nats_server.url, tmp_path), bus.following("telemetry.slice.s1") as heard:
        await next_sample(heard, "s1", 0)
        nats_server.kill()
        nats_server.start()
        while not await samples_kept(bus):
            await asyncio.sleep(0.05)
    assert "s1" in (await stored(bus)).slices


async def samples_kept(bus: JetStreamBus) -> int:
    """How many samples the stream holds; none while the server or the stream is still coming up."""
    try:
        return len(await bus.history("TELEMETRY", ["telemetry.slice.*"]))
    except BusError:
        return 0
