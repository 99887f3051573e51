"""One simulated device with slices on it, for ``mica bench isolation``: regions as an enforcer writes them, and tenants.

Invariant: whatever was started here is gone when its context ends; figures come from the driver's books.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct

from mica.bench._errors import BenchError
from mica.bench._regions import Regions
from mica.bench._shares import Reading
from mica.bench._withheld import withheld_ns
from mica.hardware import BooksReader, Costs, DeviceEntry, KernelCost, NodeFile, device_uuid, write_node_desc
from mica.native import bench_tenant, shim_cuda, shim_nvml, sim_cuda, sim_nvml
from mica.region import RuntimeDir

MODEL = "L4"
LAUNCH_NS = 2_000
READ_EVERY_S = 0.1
PATIENCE_S = 60.0
_FOREIGN = ("MICA_", "CUDA_", "LD_PRELOAD", "LD_LIBRARY_PATH")


def kernel(microseconds: int) -> str:
    """The name of the kernel that takes so long on the device."""
    return f"k{microseconds}us"


def node_file(durations_us: Sequence[int]) -> NodeFile:
    """A node with one device and a kernel of each duration."""
    rules = tuple(KernelCost(name=kernel(each), block_ns=each * 1000 - LAUNCH_NS) for each in durations_us)
    return NodeFile(name="isolation", device=(DeviceEntry(model=MODEL),), costs=Costs(launch_ns=LAUNCH_NS, kernel=rules))


class Outcome(Struct, frozen=True):
    """What a tenant's program says at its end."""

    launches: int
    taken_bytes: int
    p50_ns: int
    p99_ns: int


class TenantProcess:
    """A tenant's program, inside its slice."""

    def __init__(self, arguments: Sequence[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [str(bench_tenant()), *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def wait_ready(self) -> None:
        """Until it could begin."""
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise self._failure()

    def go(self) -> None:
        """Let it go on."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def stop(self) -> Outcome:
        """Ask a program that works to end; what it says."""
        self._process.send_signal(signal.SIGTERM)
        return self.finish()

    def finish(self) -> Outcome:
        """Wait for its end; what it says."""
        out, errors = self._process.communicate(timeout=PATIENCE_S)
        if self._process.returncode != 0:
            raise BenchError(f"a tenant failed: {errors.strip()[-500:]}")
        return msgspec.json.decode(out, type=Outcome)

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.communicate()

    def _failure(self) -> BenchError:
        self._process.kill()
        _, errors = self._process.communicate(timeout=PATIENCE_S)
        return BenchError(f"a tenant did not start: {errors.strip()[-500:]}")


class Device(Regions):
    """The device, its regions and its books."""

    def __init__(self, root: Path, durations_us: Sequence[int]) -> None:
        self.sim_dir = root / "sim"
        write_node_desc(node_file(durations_us), self.sim_dir)
        super().__init__(RuntimeDir(root / "run"), device_uuid("isolation", 0))
        self._books = BooksReader(self.sim_dir)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def environment(self, slice_id: str | None) -> dict[str, str]:
        """Of a program inside the slice; None: on the driver itself, around every slice."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        plain |= {"MICA_SIM_DIR": str(self.sim_dir), "LD_LIBRARY_PATH": str(sim_cuda().parent)}
        if slice_id is None:
            return plain
        return plain | {
            "LD_PRELOAD": f"{shim_cuda()}:{shim_nvml()}",
            "MICA_CUDA_DRIVER": str(sim_cuda()),
            "MICA_NVML_DRIVER": str(sim_nvml()),
            "MICA_SLICE": slice_id,
            "MICA_RUNTIME_DIR": str(self.runtime.root),
        }

    @contextmanager
    def tenants(
        self, wanted: Sequence[tuple[str | None, Sequence[str]]], weights: Sequence[int] = ()
    ) -> Iterator[list[TenantProcess]]:
        """Start a program for each slice and arguments, all at the same time; killed at the end if they still run.

        ``weights``: what each program weighs within its slice, as ``mica run --weight`` says it; none says nothing.
        """
        started: list[TenantProcess] = []
        try:
            for (slice_id, arguments), weight in zip_longest(wanted, weights):
                own = {"MICA_WEIGHT": str(weight)} if weight is not None else {}
                started.append(TenantProcess(arguments, self.environment(slice_id) | own))
            for tenant in started:
                tenant.wait_ready()
            for tenant in started:
                tenant.go()
            yield started
        finally:
            for tenant in started:
                tenant.kill()

    def read(self, pids: Sequence[int]) -> Reading:
        """What the driver's books say now about the processes' kernels."""
        books = self._books.read()
        of_pid = {process.pid: process for process in books.processes if process.live}
        kernel_ns = {pid: sum(account.kernel_ns for account in of_pid[pid].accounts) if pid in of_pid else 0 for pid in pids}
        return Reading(books.now_ns, kernel_ns, withheld_ns(pids))

    def held_bytes(self) -> int:
        """Device memory that programs have asked for and hold, by the driver's books."""
        return self._books.read().device(self.device_id).requested_bytes

    def watch(self, pids: Sequence[int], seconds: float, every_s: float = READ_EVERY_S) -> list[Reading]:
        """Readings over the next ``seconds``; the enforcer's heart beats meanwhile."""
        readings = [self.read(pids)]
        end_ns = readings[0].at_ns + int(seconds * 1e9)
        while readings[-1].at_ns < end_ns:
            time.sleep(every_s)
            self.beat()
            readings.append(self.read(pids))
        return readings
