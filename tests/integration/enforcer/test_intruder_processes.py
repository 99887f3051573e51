"""Real processes on the simulated driver that use a device around the slices."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from enforcer_site import Site

from mica.enforcer.processes import NodeProcesses
from mica.events import IntruderAction, LedgerEntry, Mode, PoolPolicy, SliceIntruder, Tier
from mica.native import sim_cuda
from mica.region import RuntimeDir

GIB = 1 << 30
LIMIT_S = 60.0

DRIVER = """
import ctypes, os, sys
def use(library, size):
    cuda, device, context, pointer = ctypes.CDLL(library), ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    codes = [cuda.cuInit(0), cuda.cuDeviceGet(ctypes.byref(device), 0)]
    codes += [cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)]
    codes += [cuda.cuCtxSetCurrent(context), cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(size))]
    assert codes == [0] * 5, codes
"""
HOLD = "print(os.getpid(), flush=True); sys.stdin.read()"
STRANGER = f"{DRIVER}\nuse(sys.argv[1], {GIB}); {HOLD}"
HONEST = f"{DRIVER}\nuse('libcuda.so.1', {GIB}); {HOLD}"
LIAR = f"{DRIVER}\nuse('libcuda.so.1', 1 << 20); use(sys.argv[1], {2 * GIB}); {HOLD}"
"""Attaches as it should, and takes most of its memory from the driver behind the shim's back."""
PARENT = f"""{DRIVER}
import subprocess
use('libcuda.so.1', 1 << 20)
child = subprocess.Popen([sys.executable, '-c', sys.argv[2], sys.argv[1]], env={{'MICA_SIM_DIR': os.environ['MICA_SIM_DIR']}},
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
print(int(child.stdout.readline()), flush=True)
sys.stdin.read()
child.kill()
"""


@contextmanager
def program(command: list[str], environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A running program, and the pid that it says."""
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def around(site: Site) -> dict[str, str]:
    """The environment of a program that knows of the driver and of no slice."""
    return {"MICA_SIM_DIR": str(site.sim), "PATH": os.environ["PATH"]}


def inside(site: Site) -> dict[str, str]:
    """The environment of the slice's own programs."""
    attach = json.loads(site.runtime.attach_path("s1").read_text())
    return dict(os.environ) | attach["env"]


async def told(site: Site, condition: Callable[[dict[int, SliceIntruder]], bool]) -> dict[int, SliceIntruder]:
    """The last fact about each process, once it is as the condition says."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        heard = await site.bus.history("SLICES", ["slice.intruder.*"])
        last = {each.event.pid: each.event for each in heard if isinstance(each.event, SliceIntruder)}
        if condition(last):
            return last
        assert time.monotonic() < deadline, f"only {last}"
        await asyncio.sleep(0.1)


@pytest.mark.timeout(120)
async def test_who_comes_around_the_slices_is_found_and_ended_by_policy_and_who_lies_is_told_of(site: Site) -> None:
    """Strangers and children with a cleared environment are ended, a process that charges too little is reported."""
    await site.bus.policy.put("pool.default", PoolPolicy(intruders=IntruderAction.TERMINATE))
    await site.start()
    slice_ = LedgerEntry(
        id="s1", tenant="acme", generation=1, tier=Tier.GUARANTEED, mode=Mode.FCSP, vram_bytes=4 * GIB, share_ppm=300_000
    )
    await site.ledger({site.devices[0]: [slice_]})
    await site.until_said("ready", "s1")
    driver = str(sim_cuda())
    with (
        program([sys.executable, "-c", STRANGER, driver], around(site)) as (stranger, stranger_pid),
        program([sys.executable, "-c", PARENT, driver, STRANGER], inside(site)) as (parent, child_pid),
        program([sys.executable, "-c", LIAR, driver], inside(site)) as (liar, liar_pid),
        program([sys.executable, "-c", HONEST], inside(site)) as (honest, honest_pid),
    ):
        last = await told(site, lambda facts: {stranger_pid, child_pid, liar_pid} <= facts.keys())
        assert (last[stranger_pid].action, last[stranger_pid].id) == ("terminated", "")
        assert (last[child_pid].action, last[child_pid].id) == ("terminated", "s1")
        assert (last[liar_pid].action, last[liar_pid].id) == ("reported", "s1")
        assert last[liar_pid].vram_bytes >= 2 * GIB > last[liar_pid].charged_bytes >= 1 << 20
        assert not {honest_pid, parent.pid} & last.keys()
        assert await asyncio.to_thread(stranger.wait, LIMIT_S) == -15
        assert [each.poll() for each in (parent, liar, honest)] == [None] * 3


def test_a_process_is_known_by_its_start_and_its_ancestors() -> None:
    """The enforcer's own ancestors are the node's own; a child of ours is not, whatever it calls itself."""
    processes = NodeProcesses(RuntimeDir(Path("/nowhere")))
    command = [
        sys.executable,
        "-c",
        "import sys; open('/proc/self/comm', 'w').write('nvidia-cuda-mps'); print(0, flush=True); sys.stdin.read()",
    ]
    with program(command, {"PATH": os.environ["PATH"]}) as (child, _):
        identity = processes.identify(child.pid)
        assert identity is not None
        assert identity.started > 0
        assert identity.ancestors[0] == os.getpid()
        assert not identity.of_node
    assert processes.identify(child.pid) is None
    for pid in (1, os.getpid(), os.getppid()):
        own = processes.identify(pid)
        assert own is not None
        assert own.of_node
