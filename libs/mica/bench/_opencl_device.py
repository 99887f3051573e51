"""This machine's own OpenCL device with slices on it, and PyOpenCL programs in them (``mica bench isolation --backend opencl``).

Invariant: whatever was started here is gone when its context ends, and no program's result is taken that its own check refused.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Final, Self

import msgspec
from msgspec import Struct

from mica.bench._errors import BenchError
from mica.bench._regions import Regions, monotonic_ns
from mica.native import opencl_layer
from mica.region import RuntimeDir
from mica.vendors.opencl import device_id

NODE: Final = "isolation"
TENANT: Final = Path(__file__).with_name("_opencl_tenant.py")
"""Not imported: it is a program, and this process computes nothing."""

PATIENCE_S: Final = 120.0
TEACH_ROUNDS: Final = 100_000
TEACH_S: Final = 0.5
_FOREIGN: Final = ("MICA_", "OPENCL_LAYERS")
_FIRST: Final = """
import pyopencl as cl
platform = cl.get_platforms()[0]
device = platform.get_devices()[0]
print(platform.name, device.name, device.platform.version, sep="\\n")
"""


class Job(Struct, frozen=True, kw_only=True):
    """What a program is to do, and where: ``slice_id`` None is on the driver itself, in no slice.

    ``kind`` and ``argument`` are the tenant's (see ``_opencl_tenant``), ``kernel_us`` is how long its kernel takes alone.
    """

    kind: str
    kernel_us: float
    argument: int
    slice_id: str | None
    environment: Mapping[str, str] = {}


class Said(Struct, frozen=True, kw_only=True):
    """What a program says at its end."""

    correct: bool = False
    ended_ns: tuple[int, ...] = ()
    latency_ns: tuple[int, ...] = ()
    trip_ns: tuple[float, ...] = ()
    enqueue_ns: tuple[float, ...] = ()
    taken_bytes: int = 0
    held_bytes: int = 0


class Program:
    """A running tenant."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(TENANT), *arguments],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def wait_ready(self) -> None:
        """Until it could begin."""
        if self._line() != "ready\n":
            raise BenchError(f"a tenant did not start: {self._errors()}")

    def tell(self, begin_ns: int, end_ns: int) -> None:
        """Work from the one moment to the other."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{begin_ns} {end_ns}\n")
        self._process.stdin.flush()

    def said(self) -> Said:
        """Its next answer."""
        line = self._line()
        if not line:
            raise BenchError(f"a tenant failed: {self._errors()}")
        return msgspec.json.decode(line, type=Said)

    def result(self) -> Said:
        """Its last answer.

        Raises:
            BenchError: it failed, or its kernels have computed something else than they were to.
        """
        said = self.said()
        if not said.correct:
            raise BenchError("a tenant's kernels have not computed what they were to")
        return said

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def _errors(self) -> str:
        self._process.kill()
        _, errors = self._process.communicate(timeout=PATIENCE_S)
        return errors.strip()[-500:]


class OpenClDevice(Regions):
    """The first device of the first platform."""

    def __init__(self, root: Path, settle_s: float) -> None:
        platform, name, self.version = _first_device()
        self.name = name
        self.settle_ns = int(settle_s * 1e9)
        super().__init__(RuntimeDir(root / "run"), device_id(NODE, platform, name, 0))
        self._plain = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}
        self.ns_per_round = self._teach()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def environment(self, slice_id: str | None) -> dict[str, str]:
        """Of a program inside the slice; None: on the driver itself, around every slice."""
        if slice_id is None:
            return self._plain
        own = {"MICA_SLICE": slice_id, "MICA_RUNTIME_DIR": str(self.runtime.root), "MICA_NODE": NODE}
        return self._plain | {"OPENCL_LAYERS": str(opencl_layer())} | own

    @contextmanager
    def programs(self, jobs: Sequence[Job]) -> Iterator[list[Program]]:
        """A program for each job, ready to begin; killed at the end if they still run."""
        started: list[Program] = []
        try:
            for job in jobs:
                rounds = max(1, int(job.kernel_us * 1000 / self.ns_per_round))
                environment = self.environment(job.slice_id) | dict(job.environment)
                started.append(Program((job.kind, str(rounds), str(job.argument)), environment))
            for program in started:
                program.wait_ready()
            yield started
        finally:
            for program in started:
                program.kill()

    def run(self, jobs: Sequence[Job], seconds: float) -> tuple[int, list[Said]]:
        """Have all jobs done at the same time, for so long; when they began to count (ns), and what they said."""
        with self.programs(jobs) as programs:
            return self.let_work(programs, seconds)

    def let_work(self, programs: Sequence[Program], seconds: float) -> tuple[int, list[Said]]:
        """The same with programs that are ready."""
        begin_ns = monotonic_ns() + self.settle_ns
        end_ns = begin_ns + int(seconds * 1e9)
        for program in programs:
            program.tell(begin_ns, end_ns)
        self.wait_until(end_ns)
        return begin_ns, [program.result() for program in programs]

    def wait_until(self, moment_ns: int) -> None:
        """Sleep, while the enforcer's heart beats."""
        while monotonic_ns() < moment_ns:
            time.sleep(min(0.2, max(0.0, (moment_ns - monotonic_ns()) / 1e9)))
            self.beat()

    def _teach(self) -> float:
        """How long a round of the kernel takes alone (ns), so that kernels can be made of any length."""
        self.ns_per_round = 1.0
        job = Job(kind="work", kernel_us=TEACH_ROUNDS / 1000, argument=4, slice_id=None)
        rates = []
        for _ in range(3):
            begin_ns, (said,) = self.run([job], TEACH_S)
            rates.append(rate(said.ended_ns, begin_ns, begin_ns + int(TEACH_S * 1e9)))
        return 1e9 / median(rates) / TEACH_ROUNDS


def rate(ended_ns: Sequence[int], begin_ns: int, end_ns: int) -> float:
    """How many ended a second, between the two moments."""
    return sum(begin_ns <= each < end_ns for each in ended_ns) * 1e9 / (end_ns - begin_ns)


def _first_device() -> tuple[str, str, str]:
    """Platform, name and version of the first device, as an ordinary program sees them."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}
    done = subprocess.run([sys.executable, "-c", _FIRST], env=environment, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    if done.returncode != 0 or len(lines) != 3:
        said = done.stderr.strip().splitlines() or ["no platform has one"]
        raise BenchError(f"no OpenCL device: {said[-1]}")
    return lines[0], lines[1], lines[2]
