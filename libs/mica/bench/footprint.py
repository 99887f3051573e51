"""``mica bench footprint``: what mica costs when nothing happens.

Time until ``mica up`` is ready, resident memory and processor time of each service at idle, and what the shim adds to a tenant's
process: its own memory at start, and bytes per live allocation. The shim is measured against the same program without it.

Invariant: every figure is read from the kernel (/proc), none from mica itself.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import msgspec
from msgspec import Struct

from mica.bench._errors import BenchError
from mica.bench._machine import Machine, describe_machine
from mica.bench._stack import Stack, running_stack
from mica.native import shim_cuda, sim_dir

NODE = """
name = "bench"
[[device]]
model = "L4"
count = 2
"""
SETTLE_S = 3.0
RUNS = 5
SLICE = "footprint"
MIB = 1 << 20


class Idle(Struct, frozen=True, kw_only=True):
    """One process at idle: proportional and resident memory, and the part of one core that it uses."""

    rss_mib: float
    cpu_percent: float


class ShimCost(Struct, frozen=True, kw_only=True):
    """What the shim adds to a tenant's process, private and shared pages together."""

    base_kib: float
    bytes_per_allocation: float
    allocations: int


class Report(Struct, frozen=True, kw_only=True):
    """What came out."""

    ready_s: float
    idle: dict[str, Idle]
    shim: ShimCost
    idle_window_s: float
    machine: Machine
    device: str = "simulated driver"


def run(window_s: float = 20.0, allocations: int = 100_000) -> Report:
    """Carry the benchmark out."""
    with running_stack(NODE) as stack:
        time.sleep(SETTLE_S)
        idle = _measure_idle(stack, window_s)
        shim = _measure_shim(stack, allocations)
        return Report(ready_s=stack.ready_s, idle=idle, shim=shim, idle_window_s=window_s, machine=describe_machine())


def _measure_idle(stack: Stack, window_s: float) -> dict[str, Idle]:
    processes = dict(_descendants(stack.process_id))
    before = {pid: _cpu_s(pid) for pid in processes}
    begun = time.monotonic()
    time.sleep(window_s)
    elapsed = time.monotonic() - begun
    return {
        name: Idle(rss_mib=round(_rss_bytes(pid) / MIB, 1), cpu_percent=round((_cpu_s(pid) - before[pid]) / elapsed * 100, 2))
        for pid, name in sorted(processes.items(), key=lambda item: item[1])
    }


def _descendants(root: int) -> Iterator[tuple[int, str]]:
    """The process ``root`` and its children, with names as an operator knows them."""
    yield root, "up"
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _parent(int(entry.name)) == root:
            arguments = (entry / "cmdline").read_bytes().decode().split("\0")
            service = "service" in arguments
            yield int(entry.name), arguments[arguments.index("service") + 1] if service else Path(arguments[0]).name


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat after the command's name."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _parent(pid: int) -> int:
    try:
        return int(_stat(pid)[1])
    except OSError:
        return 0


def _cpu_s(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Reading(Struct, frozen=True, kw_only=True):
    """What the measured tenant says of itself: resident bytes after cuInit, and how many more with its allocations alive."""

    after_init_bytes: float
    grown_bytes: float


def _measure_shim(stack: Stack, allocations: int) -> ShimCost:
    answer = stack.mica("request", "--id", SLICE, "--tenant", "bench", "--vram", "8GiB", "--share", "50%")
    if answer.returncode != 0:
        raise BenchError(f"the slice was refused: {answer.stderr or answer.stdout}")
    bare = dict(os.environ) | {"LD_LIBRARY_PATH": str(sim_dir()), "MICA_SIM_DIR": str(stack.sim_dir)}
    client = [sys.executable, "-m", "mica.bench._tenant", str(allocations)]
    without = _read(client, bare)
    inside = [sys.executable, "-m", "mica.cli", "run", SLICE, "--", *client]
    within = _read(inside, dict(os.environ) | stack.environment)
    base = within.after_init_bytes - without.after_init_bytes
    growth = within.grown_bytes - without.grown_bytes
    return ShimCost(base_kib=round(base / 1024, 1), bytes_per_allocation=round(growth / allocations, 1), allocations=allocations)


def _read(command: list[str], environment: dict[str, str]) -> Reading:
    """The medians of several runs; a process's resident memory moves from run to run with what the kernel maps ahead."""
    readings = []
    for _ in range(RUNS):
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise BenchError(f"the tenant failed: {result.stderr[-500:]} (shim: {shim_cuda()})")
        readings.append(msgspec.json.decode(result.stdout, type=Reading))
    return Reading(
        after_init_bytes=median(reading.after_init_bytes for reading in readings),
        grown_bytes=median(reading.grown_bytes for reading in readings),
    )
