"""Device nodes, and who has one open. Invariant: a process that cannot be looked into is taken to be on every vNPU of its chip.

DCMI lists the processes of a chip and not on which vNPU each is; but a process reaches a vNPU through its node alone, under
whatever name a container knows it.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from mica.vendors._tools import SIMULATION


def directory() -> Path:
    """Where device nodes are: the host's, or the simulated node's own."""
    simulated = os.environ.get(SIMULATION)
    return Path(simulated, "dev") if simulated else Path("/dev")


def chip_node(physical: int) -> Path:
    """The node of a whole chip."""
    return directory() / f"davinci{physical}"


def vnpu_node(number: int) -> Path:
    """The node of a vNPU."""
    return directory() / f"vdavinci{number}"


def shared_nodes() -> tuple[Path, ...]:
    """The nodes that every process needs beside its chip's."""
    return tuple(directory() / name for name in ("davinci_manager", "devmm_svm", "hisi_hdc"))


def holders(node: Path, pids: Iterable[int]) -> frozenset[int]:
    """Which of the processes have the node open, or may have."""
    try:
        wanted = _identity(node.stat())
    except OSError:
        return frozenset()
    return frozenset(pid for pid in pids if _holds(pid, wanted))


def _holds(pid: int, wanted: tuple[int, int]) -> bool:
    try:
        descriptors = tuple(Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return any(_opened(each) == wanted for each in descriptors)


def _opened(descriptor: Path) -> tuple[int, int] | None:
    try:
        return _identity(descriptor.stat())
    except OSError:
        return None


def _identity(status: os.stat_result) -> tuple[int, int]:
    """A device node is its device's number, wherever it lies; a plain file stands in for one in a simulation."""
    return (0, status.st_rdev) if status.st_rdev else (status.st_dev, status.st_ino)
