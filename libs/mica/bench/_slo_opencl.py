"""``mica bench slo`` on this machine's own OpenCL device: its programs, and their device time by the kernels that ended.

Nobody keeps books there: a program's time is the kernels that it has seen end, each counted as long as one takes alone. One
processor is the device, and the programs' own work and all of mica's runs on the others, as beside a device of another kind.
Invariant: kernels are as long as asked on the driver itself, by a program alone, in the same run.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mica.bench._opencl_device import OpenClDevice
from mica.bench._regions import monotonic_ns
from mica.bench._slo_run import Command, Reading, told
from mica.bench._slo_sim import Kernels

PROGRAM: Final = Path(__file__).with_name("_slo_opencl_program.py")
FLOOD_DEPTH: Final = 4
KERNELS: Final = Kernels(prefill_us=4_000, step_us=4_000, flood_us=4_000, batch=16)
"""Long beside what a launch costs there, some 0.1 ms."""
DEVICE_CPU: Final = 0
ONE_UNIT: Final = {"POCL_MAX_PTHREAD_COUNT": "1", "POCL_AFFINITY": "1"}
"""PoCL computes on processor 0 alone, wherever else the program may run."""


class OpenCl:
    """The device, and kernels of a known length on it."""

    def __init__(self, kernels: Kernels, ns_per_round: float) -> None:
        self.kernels = kernels
        self._ns_per_round = ns_per_round

    def server(self, path: Path, environment: Mapping[str, str]) -> Command:
        """The inference server, with its requests in a file."""
        rounds = (self._rounds(self.kernels.prefill_us), self._rounds(self.kernels.step_us))
        return Command((sys.executable, str(PROGRAM), "serve", *rounds, str(self.kernels.batch), str(path)), environment)

    def flood(self, environment: Mapping[str, str]) -> Command:
        """The program that launches as much as it can."""
        return Command(
            (sys.executable, str(PROGRAM), "flood", self._rounds(self.kernels.flood_us), str(FLOOD_DEPTH)), environment
        )

    def read(self, server: int, flood: int | None, said: Sequence[str]) -> Reading:
        """By the kernels that have ended."""
        del server, flood
        of_server, of_flood = (told(line) for line in said)
        kernels = self.kernels
        server_us = of_server.get("prefills", 0) * kernels.prefill_us + of_server.get("steps", 0) * kernels.step_us
        return Reading(monotonic_ns(), server_us * 1000, of_flood.get("ended", 0) * kernels.flood_us * 1000)

    def _rounds(self, microseconds: int) -> str:
        return str(max(1, int(microseconds * 1000 / self._ns_per_round)))


def on_device(device: OpenClDevice, kernels: Kernels = KERNELS) -> OpenCl:
    """Programs for that device."""
    return OpenCl(kernels, device.ns_per_round)


@contextmanager
def device_apart() -> Iterator[bool]:
    """Have one processor be the device, and everything that is started here run on the others; False: there are no others."""
    may = os.sched_getaffinity(0)
    others = may - {DEVICE_CPU}
    if others == may or not others:
        yield False
        return
    before = {name: os.environ.get(name) for name in ONE_UNIT}
    os.environ.update(ONE_UNIT)
    os.sched_setaffinity(0, others)
    try:
        yield True
    finally:
        os.sched_setaffinity(0, may)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
