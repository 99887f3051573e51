"""From the ledger to a running program: control words, and a part of the device under MPS."""

import asyncio
import json
import subprocess
import sys
from typing import Any

from enforcer_site import LIMIT_S, NODE, Site

from mica.events import Control, LedgerEntry, Mode, SliceReady, SliceResized, Tier
from mica.hardware import NodeFile, write_node_desc

GIB = 1 << 30
HELD_S = 0.3
"""A launch that gets no answer for so long is held; on a slow machine it is held all the same."""

PROGRAM = """
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
device, context, module, kernel = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
code = b".version 7.0\\n.target sm_70\\n.address_size 64\\n.visible .entry spin() { ret; }\\n\\0"
codes = [cuda.cuInit(0), cuda.cuDeviceGet(ctypes.byref(device), 0), cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)]
codes += [cuda.cuCtxSetCurrent(context), cuda.cuModuleLoadData(ctypes.byref(module), code)]
codes += [cuda.cuModuleGetFunction(ctypes.byref(kernel), module, b"spin")]
print(max(codes), flush=True)
for line in sys.stdin:
    pointer = ctypes.c_uint64()
    if line == "launch\\n":
        print(cuda.cuLaunchKernel(kernel, 1, 1, 1, 32, 1, 1, 0, None, None, None) or cuda.cuCtxSynchronize(), flush=True)
    else:
        print(cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(1 << 20)), flush=True)
"""
READ_BOOKS = """
import sys
from pathlib import Path
import msgspec
from mica.hardware import read_books
sys.stdout.buffer.write(msgspec.json.encode(read_books(Path(sys.argv[1])).processes))
"""


def software(generation: int, **fields: Any) -> LedgerEntry:
    """An entry of 4 GiB and a quarter of the device."""
    defaults: dict[str, Any] = {"id": "s1", "tenant": "acme", "tier": Tier.GUARANTEED, "mode": Mode.FCSP}
    return LedgerEntry(generation=generation, vram_bytes=4 * GIB, share_ppm=250_000, **(defaults | fields))


async def answer(program: subprocess.Popen[str], command: str = "") -> int:
    """What the driver answers in the program."""
    assert program.stdin is not None
    assert program.stdout is not None
    if command:
        program.stdin.write(f"{command}\n")
        program.stdin.flush()
    return int(await asyncio.wait_for(asyncio.to_thread(program.stdout.readline), LIMIT_S))


async def in_force(site: Site, generation: int, **fields: Any) -> None:
    """Write the entry, and wait until the enforcer says that it holds."""
    await site.ledger({site.devices[0]: [software(generation, **fields)]})
    async with asyncio.timeout(LIMIT_S):
        while not any(
            isinstance(fact, SliceReady | SliceResized) and fact.generation == generation
            for fact in [*await site.said("ready", "s1"), *await site.said("resized", "s1")]
        ):
            await asyncio.sleep(0.01)


async def test_every_control_word_of_the_ledger_acts_on_a_running_program(site: Site) -> None:
    """Pause holds its launches until run lets go; drain refuses memory alone; kill fails every call."""
    await site.start()
    await in_force(site, 1)
    program = site.tenant("s1", PROGRAM)
    try:
        assert await answer(program) == 0
        assert await answer(program, "launch") == 0
        await in_force(site, 2, control=Control.PAUSE)
        held = asyncio.create_task(answer(program, "launch"))
        assert not (await asyncio.wait([held], timeout=HELD_S))[0]
        await in_force(site, 3, control=Control.RUN)
        assert await held == 0
        await in_force(site, 4, control=Control.THROTTLE)
        assert await answer(program, "launch") == 0
        await in_force(site, 5, control=Control.DRAIN)
        assert await answer(program, "launch") == 0
        assert await answer(program, "allocate") != 0
        await in_force(site, 6, control=Control.KILL)
        assert await answer(program, "launch") != 0
        assert await answer(program, "allocate") != 0
    finally:
        program.kill()
        program.communicate()


async def clients_of_mps(site: Site) -> dict[int, bool]:
    """By pid, whether the driver takes a process for a client of MPS."""
    command = [sys.executable, "-c", READ_BOOKS, str(site.sim)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
    return {each["pid"]: each["mps"] for each in json.loads(done.stdout) if each["live"]}


async def test_a_tenant_alone_on_an_mps_node_has_its_part_and_a_second_one_shares_by_time(site: Site) -> None:
    """The driver takes processes of the first for clients of the daemon, and those that start beside another tenant for none."""
    (site.sim / "engine.state").unlink()
    write_node_desc(NodeFile.parse(f'name = "{NODE}"\nmps = true\n[[device]]\nmodel = "L4"\n'.encode()), site.sim)
    await site.inventory()
    await site.start()
    await in_force(site, 1)
    alone = site.tenant("s1", PROGRAM)
    started = [alone]
    try:
        assert await answer(alone) == 0
        assert await answer(alone, "launch") == 0
        other = software(1, id="s2", tenant="other")
        await site.ledger({site.devices[0]: [software(1), other]})
        await site.until_said("ready", "s2")
        beside = site.tenant("s2", PROGRAM)
        started.append(beside)
        assert await answer(beside) == 0
        assert await answer(beside, "launch") == 0
        clients = await clients_of_mps(site)
        assert (clients[alone.pid], clients[beside.pid]) == (True, False)
    finally:
        for program in started:
            program.kill()
            program.communicate()
