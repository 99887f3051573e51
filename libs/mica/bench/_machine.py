"""What a benchmark ran on. Invariant: every report names its machine and whether a device was real or simulated."""

import os
import platform
from pathlib import Path
from statistics import quantiles

from msgspec import Struct


class Machine(Struct, frozen=True, kw_only=True):
    """The machine of a report."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    load_1m: float


def describe_machine() -> Machine:
    """This machine, now."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(memory_bytes / (1 << 30), 1),
        kernel=platform.release(),
        python=platform.python_version(),
        load_1m=round(os.getloadavg()[0], 2),
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "CPU part"):
            return f"{platform.machine()}, {value.strip()}"
    return platform.machine()


class Percentiles(Struct, frozen=True, kw_only=True):
    """The middle and the tail of a sample, in its unit."""

    p50: float
    p99: float


def percentiles(sample: list[float]) -> Percentiles:
    """p50 and p99 of at least two values."""
    cuts = quantiles(sample, n=100, method="inclusive")
    return Percentiles(p50=round(cuts[49], 3), p99=round(cuts[98], 3))
