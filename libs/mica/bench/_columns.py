"""The columns of ``mica bench shim``: the same program over the same driver, with nothing, our shim or another shim in front.

Owns the programs and the slices that they run in. Invariant: whatever was started here is gone when its context ends.
"""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec import Struct

from mica.bench._errors import BenchError
from mica.native import bench_call_cost, shim_cuda
from mica.region import ATTACH_BYTES, Limits, QuotaRegion, RuntimeDir, create_token, create_usage

NATIVE, SHIM, PRELOAD = "native", "shim", "preload"
VRAM_BYTES = 1 << 40
PATIENCE_S = 120.0
_FOREIGN = ("MICA_", "LD_PRELOAD", "LD_LIBRARY_PATH")


class Driver(Struct, frozen=True):
    """The driver below, and what its processes need besides it."""

    path: Path
    text: str
    environment: Mapping[str, str]


class Column(Struct, frozen=True):
    """What stands in front of the driver."""

    name: str
    environment: Mapping[str, str]


def columns(driver: Driver, preload: Path | None) -> list[Column]:
    """The columns over ``driver``; a slice's name is added where one is entered."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    plain = outer | {"LD_LIBRARY_PATH": str(driver.path.parent)} | dict(driver.environment)
    found = [
        Column(NATIVE, plain),
        Column(SHIM, plain | {"LD_PRELOAD": str(shim_cuda()), "MICA_CUDA_DRIVER": str(driver.path)}),
    ]
    if preload is not None:
        found.append(Column(PRELOAD, plain | {"LD_PRELOAD": str(preload)}))
    return found


class Enforcer:
    """The slices of one device, made as the node's enforcer makes them, and its ear for attaching processes."""

    def __init__(self, root: Path, device_id: str) -> None:
        self.runtime = RuntimeDir(root)
        self.device_id = device_id
        self.attached = 0
        self.runtime.ensure_device(device_id)
        self._quota = QuotaRegion.create(self.runtime.quota_path(device_id), device_id)
        create_token(self.runtime.token_path(device_id), device_id)
        self.runtime.attach_socket.parent.mkdir()
        self._ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._ear.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._ear.bind(str(self.runtime.attach_socket))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._quota.close()
        self._ear.close()

    def slice(self, slice_id: str) -> dict[str, str]:
        """Make a slice with all of the device to itself; the environment of its processes."""
        self._quota.heartbeat(time.clock_gettime_ns(time.CLOCK_MONOTONIC))
        self.runtime.ensure_slice(slice_id)
        create_usage(self.runtime.usage_path(slice_id, self.device_id), self.device_id, slice_id, os.getuid())
        index = self._quota.free_index()
        if index is None:
            raise BenchError("the device has no record left for another slice")
        limits = Limits(
            slice_id=slice_id,
            generation=1,
            vram_limit_bytes=VRAM_BYTES,
            share_ppm=1_000_000,
            ceiling_ppm=1_000_000,
            burst_ns=1 << 50,
            quantum_ns=2_000_000,
        )
        self._quota.write(index, limits)
        return {"MICA_SLICE": slice_id, "MICA_RUNTIME_DIR": str(self.runtime.root)}

    def listen(self) -> int:
        """Take what attaching processes have sent; how many have attached so far."""
        while True:
            try:
                self.attached += len(self._ear.recv(2 * ATTACH_BYTES)) == ATTACH_BYTES
            except BlockingIOError:
                return self.attached


class ColumnProcess:
    """A running program of a column, asked one order at a time."""

    def __init__(self, column: Column, slice_environment: Mapping[str, str], core: int) -> None:
        self.column = column
        inside = slice_environment if column.name == SHIM else {}
        self._process = subprocess.Popen(
            [str(bench_call_cost()), "serve", str(core)],
            env=dict(column.environment) | dict(inside),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def send(self, order: str, amount: int, batches: int) -> None:
        """Give an order, without waiting."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{order} {amount} {batches}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure() from None

    def line(self) -> list[float]:
        """The next line of the answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._failure()
        return [float(word) for word in line.split()]

    def ask(self, order: str, amount: int, batches: int, lines: int) -> list[list[float]]:
        """Give an order and wait for its answer."""
        self.send(order, amount, batches)
        return [self.line() for _ in range(lines)]

    def close(self) -> None:
        """Let the program free what it holds, and end."""
        _, errors = self._process.communicate(timeout=PATIENCE_S)
        if self._process.returncode != 0:
            raise BenchError(f"{self.column.name}: the measured program failed: {errors.strip()[-500:]}")

    def kill(self) -> None:
        """End the program, whatever it does."""
        self._process.kill()
        self._process.communicate()

    def _failure(self) -> BenchError:
        _, errors = self._process.communicate(timeout=PATIENCE_S)
        return BenchError(f"{self.column.name}: the measured program died: {errors.strip()[-500:]}")


@contextmanager
def processes(wanted: list[tuple[Column, int]], slice_environment: Mapping[str, str]) -> Iterator[list[ColumnProcess]]:
    """Start a program for each column and core; all are closed, or killed when something fails."""
    started: list[ColumnProcess] = []
    try:
        for column, core in wanted:
            started.append(ColumnProcess(column, slice_environment, core))
        yield started
        for process in started:
            process.close()
    except BaseException:
        for process in started:
            process.kill()
        raise


def time_init(column: Column, slice_environment: Mapping[str, str], core: int) -> tuple[float, float]:
    """Nanoseconds of a fresh process: of its first cuInit, and of opening the library and cuInit together."""
    inside = slice_environment if column.name == SHIM else {}
    words = _run(column, dict(column.environment) | dict(inside), "init", str(core))
    _, init, both = map(float, words.split())
    return init, both


def device_of(column: Column) -> str:
    """The id of the driver's device 0."""
    return _run(column, dict(column.environment), "uuid").strip()


def _run(column: Column, environment: dict[str, str], *arguments: str) -> str:
    command = [str(bench_call_cost()), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    if done.returncode != 0:
        raise BenchError(f"{column.name}: call_cost {arguments[0]} failed: {done.stderr.strip()[-500:]}")
    return done.stdout


@contextmanager
def shared_memory_dir() -> Iterator[Path]:
    """A directory on the tmpfs where regions live, gone afterwards."""
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a tmpfs is what regions need
    with tempfile.TemporaryDirectory(prefix="mica-bench-", dir=base) as name:
        yield Path(name)
