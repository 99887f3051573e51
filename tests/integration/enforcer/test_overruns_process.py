"""Real programs on a simulated device that nothing preempts, with kernels that do not end."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from enforcer_site import LIMIT_S, Site

from mica.bench._device import TenantProcess
from mica.bus import JetStreamBus
from mica.events import (
    Grace,
    LedgerEntry,
    Mode,
    Overruns,
    OverrunStep,
    PoolPolicy,
    SliceOverran,
    SpotGrace,
    Tier,
    Window,
)
from mica.region import read_usage

GIB = 1 << 30
MS = 1_000_000
COSTS = """[costs]
timeslice_ns = 0
kernel = [{ name = "endless", block_ns = 3_600_000_000_000 }, { name = "brief", block_ns = 200_000 }]
"""
QUICK = SpotGrace(throttle_s=0.1, pause_s=0.1, terminate_s=0.1)
PATIENT = SpotGrace(throttle_s=3600, pause_s=3600, terminate_s=3600)

ENDLESS = """
import ctypes, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
cuda, device, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.c_void_p()
module, function = ctypes.c_void_p(), ctypes.c_void_p()
code = b".version 7.0\\n.target sm_70\\n.address_size 64\\n.visible .entry endless() { ret; }\\n"
codes = [cuda.cuInit(0), cuda.cuDeviceGet(ctypes.byref(device), 0), cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)]
codes += [cuda.cuCtxSetCurrent(context), cuda.cuModuleLoadData(ctypes.byref(module), code)]
codes += [cuda.cuModuleGetFunction(ctypes.byref(function), module, b"endless")]
codes += [cuda.cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, None, None, None)]
print(codes, flush=True)
time.sleep(3600)
"""
"""Launches one kernel, and never calls the driver again."""


@pytest.fixture
async def slow(root: Path, nats_server: Any) -> AsyncIterator[Site]:
    """A node whose kernels run to their end, and with a kernel that has none."""
    bus = await JetStreamBus.connect(nats_server.url, wait_s=LIMIT_S)
    site = Site(root, nats_server.url, bus, COSTS)
    await site.inventory()
    yield site
    if site.process is not None:
        site.kill()
    await bus.close()


def entry(id_: str, tier: Tier, offset_ms: int) -> LedgerEntry:
    """Half of a device, by time."""
    window = Window(offset_ns=offset_ms * MS, length_ns=50 * MS, period_ns=100 * MS)
    fields = {"mode": Mode.TIMESLICE, "vram_bytes": GIB, "share_ppm": 500_000, "window": window}
    return LedgerEntry(id=id_, tenant="acme", generation=1, tier=tier, **fields)


async def two_halves(site: Site, overruns: Overruns) -> None:
    """The endless program's slice, and a neighbour."""
    await site.bus.policy.put("pool.default", PoolPolicy(overruns=overruns))
    await site.start()
    await site.ledger({site.devices[0]: [entry("hog", Tier.SPOT, 0), entry("meek", Tier.GUARANTEED, 50)]})
    for id_ in ("hog", "meek"):
        await site.until_said("ready", id_)


def neighbour(site: Site) -> TenantProcess:
    """A program that waits for each kernel before it launches the next."""
    attach = json.loads(site.runtime.attach_path("meek").read_text())
    program = TenantProcess(("work", "brief", "1"), os.environ | attach["env"])
    program.wait_ready()
    program.go()
    return program


def launches(site: Site) -> int:
    """The neighbour's."""
    return read_usage(site.runtime.usage_path("meek", site.devices[0])).launches


async def until_more_launches(site: Site, than: int) -> None:
    """Until the neighbour has got on."""
    async with asyncio.timeout(LIMIT_S):
        while launches(site) < than:
            await asyncio.sleep(0.01)


async def until_step(site: Site, step: OverrunStep) -> list[SliceOverran]:
    """Every step that was told, once that one was."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            facts = [fact for fact in await site.said("overran") if isinstance(fact, SliceOverran)]
            if facts and facts[-1].step is step:
                return facts
            await asyncio.sleep(0.01)


@pytest.mark.timeout(90)
async def test_a_program_with_a_kernel_that_never_ends_is_throttled_paused_and_ended_and_the_device_is_free(slow: Site) -> None:
    """Though it never calls the driver again; its neighbour, whose work was behind it all the time, is not blamed."""
    await two_halves(slow, Overruns(spot=QUICK, guaranteed=Grace(throttle_s=0.1, pause_s=0.1, terminate_s=0.1)))
    meek = neighbour(slow)
    try:
        await until_more_launches(slow, 10)
        hog = slow.tenant("hog", ENDLESS)
        assert await asyncio.to_thread(hog.stdout.readline) == f"{[0] * 7}\n"  # type: ignore[union-attr]
        facts = await until_step(slow, OverrunStep.TERMINATED)
        assert await asyncio.to_thread(hog.wait, LIMIT_S) == -9
        hog.communicate()
        assert [fact.step for fact in facts] == [OverrunStep.THROTTLED, OverrunStep.PAUSED, OverrunStep.TERMINATED]
        assert {(fact.id, fact.pid, fact.allowed_ns, fact.window_length_ns) for fact in facts} == {
            ("hog", hog.pid, 50 * MS, 50 * MS)
        }
        ran_ns = [fact.ran_ns for fact in facts]
        assert ran_ns == sorted(ran_ns)
        assert ran_ns[0] >= 150 * MS
        await until_more_launches(slow, launches(slow) + 20)
        assert {fact.id for fact in await slow.said("overran")} == {"hog"}
        meek.stop()
    finally:
        meek.kill()


@pytest.mark.timeout(90)
async def test_the_control_that_must_fail_without_grace_spent_nobody_ends_it_and_the_neighbour_stands_still(slow: Site) -> None:
    """What frees the device is the enforcer and nothing else: where it is patient, the kernel keeps it."""
    await two_halves(slow, Overruns(spot=PATIENT))
    meek = neighbour(slow)
    hog = None
    try:
        await until_more_launches(slow, 10)
        hog = slow.tenant("hog", ENDLESS)
        assert await asyncio.to_thread(hog.stdout.readline) == f"{[0] * 7}\n"  # type: ignore[union-attr]
        await asyncio.sleep(0.5)
        before = launches(slow)
        await asyncio.sleep(1.0)
        assert launches(slow) == before
        assert hog.poll() is None
        assert await slow.said("overran") == []
    finally:
        meek.kill()
        if hog is not None:
            hog.kill()
            hog.communicate()
