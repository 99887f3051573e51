"""What the node has of its own for slices: processors and memory, less what is kept for the system.

Invariant: it is the whole machine's, whatever cgroup discovery itself runs in, since slices do not run there; a simulated node
has what its node file says and nothing of this machine's. 0 stands for what is not known.
"""

import os
import re
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Final

from msgspec import Struct

from mica.hardware import read_simulated_host

RESERVE: Final = "MICA_HOST_RESERVE"
MEMINFO: Final = Path("/proc/meminfo")
ALLOWED: Final = "cpu=NUMBER, memory=NUMBERGiB or both, as in cpu=2,memory=16GiB"
_CPU: Final = re.compile(r"cpu=(\d{1,5}(?:\.\d{1,3})?)")
_MEMORY: Final = re.compile(r"memory=(\d{1,9})(GiB|MiB)")


class HostError(ValueError):
    """MICA_HOST_RESERVE says what can not be: what was given and what is allowed."""


class Host(Struct, frozen=True, kw_only=True):
    """Thousandths of a processor and bytes."""

    cpu_milli: int = 0
    memory_bytes: int = 0


def own_host(sim_dir: Path | None, environment: Mapping[str, str] = os.environ, meminfo: Path = MEMINFO) -> Host:
    """What is left for slices.

    Raises:
        HostError: MICA_HOST_RESERVE has another form, or leaves nothing.
    """
    whole = (
        _simulated(sim_dir) if sim_dir is not None else Host(cpu_milli=1000 * (os.cpu_count() or 0), memory_bytes=_total(meminfo))
    )
    kept = parse_reserve(environment.get(RESERVE) or "")
    return Host(
        cpu_milli=_left("cpu", whole.cpu_milli, kept.cpu_milli),
        memory_bytes=_left("memory", whole.memory_bytes, kept.memory_bytes),
    )


def parse_reserve(text: str) -> Host:
    """What is kept for the system in ``cpu=2,memory=16GiB``; nothing for the empty text.

    Raises:
        HostError: it has another form.
    """
    cpu_milli = memory_bytes = 0
    for part in (each.strip() for each in text.split(",")) if text else ():
        if (cpu := _CPU.fullmatch(part)) is not None:
            cpu_milli = int(Fraction(cpu[1]) * 1000)
        elif (memory := _MEMORY.fullmatch(part)) is not None:
            memory_bytes = int(memory[1]) << (30 if memory[2] == "GiB" else 20)
        else:
            raise HostError(f"{RESERVE}: got {part[:80]!r}, allowed: {ALLOWED}")
    return Host(cpu_milli=cpu_milli, memory_bytes=memory_bytes)


def _left(what: str, whole: int, kept: int) -> int:
    """Nothing left would read as not known, and limit nothing."""
    if whole and kept >= whole:
        raise HostError(f"{RESERVE}: {what}: got {kept}, allowed: less than the node has, {whole}")
    return whole - kept if whole else 0


def _simulated(directory: Path) -> Host:
    described = read_simulated_host(directory)
    return Host(cpu_milli=1000 * described.cpus, memory_bytes=described.memory_gib << 30)


def _total(meminfo: Path) -> int:
    try:
        found = re.search(r"^MemTotal:\s+(\d+) kB$", meminfo.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) << 10 if found is not None else 0
