"""Which processors are near a device. Invariant: only what the kernel lists is told; what it does not, is not known."""

from pathlib import Path
from typing import Final

NODES: Final = Path("/sys/devices/system/node")


def cpus_of(numa_node: int, nodes: Path = NODES) -> str:
    """The processors of a NUMA node as the kernel lists them (``0-31,64-95``); empty where there is no such node here."""
    try:
        return (nodes / f"node{numa_node}" / "cpulist").read_text().strip() if numa_node >= 0 else ""
    except OSError:
        return ""
