"""The programs of ``mica bench slo`` on the simulated driver, and their device time by the driver's own books.

Invariant: a process reads the books of one simulated node only.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from mica.bench._device import LAUNCH_NS, kernel
from mica.bench._regions import monotonic_ns
from mica.bench._slo_run import Command, Reading
from mica.hardware import BooksReader, Costs, DeviceEntry, KernelCost, NodeFile
from mica.native import bench_server, bench_tenant

MODEL: Final = "L4"
FOREIGN: Final = ("MICA_", "CUDA_", "LD_PRELOAD", "LD_LIBRARY_PATH")


class Kernels(Struct, frozen=True, kw_only=True):
    """How long kernels take alone (us): of the server's prompts and steps, and of the flood. ``batch``: requests in a step."""

    prefill_us: int = 2_000
    step_us: int = 2_000
    flood_us: int = 500
    batch: int = 16


def node_file(kernels: Kernels, name: str) -> NodeFile:
    """A node with one device that knows these kernels."""
    durations = sorted({kernels.prefill_us, kernels.step_us, kernels.flood_us})
    rules = tuple(KernelCost(name=kernel(each), block_ns=each * 1000 - LAUNCH_NS) for each in durations)
    return NodeFile(name=name, device=(DeviceEntry(model=MODEL),), costs=Costs(launch_ns=LAUNCH_NS, kernel=rules))


def node_toml(kernels: Kernels, name: str) -> str:
    """The same for ``mica up``."""
    durations = sorted({kernels.prefill_us, kernels.step_us, kernels.flood_us})
    rules = ", ".join(f'{{ name = "{kernel(each)}", block_ns = {each * 1000 - LAUNCH_NS} }}' for each in durations)
    return f'name = "{name}"\n[costs]\nlaunch_ns = {LAUNCH_NS}\nkernel = [{rules}]\n[[device]]\nmodel = "{MODEL}"\n'


def server_command(kernels: Kernels, path: Path, environment: Mapping[str, str]) -> Command:
    """The inference server, with its requests in a file."""
    names = (kernel(kernels.prefill_us), kernel(kernels.step_us), str(kernels.batch))
    return Command((str(bench_server()), *names, str(path)), environment)


def flood_command(kernels: Kernels, environment: Mapping[str, str]) -> Command:
    """The program that launches as much as it can."""
    return Command((str(bench_tenant()), "work", kernel(kernels.flood_us), "0"), environment)


def plain_environment() -> dict[str, str]:
    """Ours, without what could lead a tenant elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}


class BooksMeter:
    """Device time as the simulated driver has booked it."""

    def __init__(self, sim_dir: Path) -> None:
        self._books = BooksReader(sim_dir)

    def read(self, server: int, flood: int | None, said: Sequence[str]) -> Reading:
        """What both have had so far."""
        del said
        books = self._books.read()
        taken = {
            process.pid: sum(account.kernel_ns for account in process.accounts) for process in books.processes if process.live
        }
        return Reading(books.now_ns or monotonic_ns(), taken.get(server, 0), taken.get(flood, 0) if flood is not None else 0)
