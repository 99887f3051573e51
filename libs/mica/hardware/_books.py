"""The simulated driver's own books, read and its node's fate decided through ``libmica-sim-books.so``.

Invariant: these numbers come from the engine alone. Nothing that mica counts goes into them, so that everything mica
counts can be measured against them.
"""

import ctypes
import errno
import os
from functools import cache
from pathlib import Path

import msgspec
from msgspec import Struct

from mica.events import Vendor
from mica.native import LIB_DIR

_FIRST_SIZE_BYTES = 256 * 1024


class BooksError(RuntimeError):
    """The books cannot be read: not built, no simulated node, or a state of another version."""


class ControlError(RuntimeError):
    """What was asked of the simulated node can not be done. ``number``: the errno that says why."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class Account(Struct, frozen=True, kw_only=True):
    """What one process did on one device or MIG instance (``uuid``); counters are cumulative.

    ``requested_bytes`` is what it asked for and holds, to the byte; ``granule_bytes`` what that costs the device, in whole
    granules of 2 MiB. ``kernel_ns`` is the cost of what its kernels did so far, the one under way included as far as it got;
    ``multiprocessor_ns`` the same, each times the multiprocessors it asked for. ``copies`` are completed ones.
    ``away_bytes`` is what a checkpoint took off the device, to be put back by a restore; it is in none of the others.
    """

    uuid: str
    device: int
    contexts: int
    requested_bytes: int
    requested_peak_bytes: int
    granule_bytes: int
    granule_peak_bytes: int
    context_bytes: int
    allocations: int
    refusals: int
    launches: int
    completed: int
    kernel_ns: int
    multiprocessor_ns: int
    copies: int
    copy_ns: int
    away_bytes: int = 0


class ProcessBooks(Struct, frozen=True, kw_only=True):
    """A process that initialised the driver. ``pid`` is as the reader sees it (0 when it is gone or out of sight).

    ``stage`` is CUprocessState's number: 0 running, 1 locked, 2 checkpointed, 3 failed.
    """

    pid: int
    own_pid: int
    start_ticks: int
    mps: bool
    threads_percent: int
    command: str
    live: bool
    since_ns: int
    accounts: tuple[Account, ...]
    stage: int = 0


class ComputeInstanceBooks(Struct, frozen=True, kw_only=True):
    """A compute instance inside of a GPU instance."""

    uuid: str
    id: int
    compute_slices: int
    multiprocessors: int
    busy_ns: int


class GpuInstanceBooks(Struct, frozen=True, kw_only=True):
    """A GPU instance, or another vendor's partition: ``size`` memory slots from ``start``."""

    profile: str
    layout: str
    id: int
    profile_id: int
    start: int
    size: int
    memory_bytes: int
    spent_bytes: int
    compute: tuple[ComputeInstanceBooks, ...]


class DeviceBooks(Struct, frozen=True, kw_only=True):
    """A device, with the work and memory of all its processes, the gone ones' kernel time and counters included.

    ``key`` is the catalogue's, ``layout`` empty while it has none. ``lost``, ``hang_ms``, ``temperature_c`` (0: by its work) and
    the ECC counts are the faults that were asked for.
    """

    uuid: str
    name: str
    vendor: Vendor
    key: str
    group: str
    serial: str
    layout: str
    pci: str
    numa_node: int
    pci_switch: int
    lost: bool
    hang_ms: int
    temperature_c: int
    ecc_corrected: int
    ecc_uncorrected: int
    index: int
    vram_bytes: int
    reserve_bytes: int
    requested_bytes: int
    spent_bytes: int
    spent_peak_bytes: int
    multiprocessors: int
    mig_enabled: bool
    mig_pending: bool
    launches: int
    kernel_ns: int
    multiprocessor_ns: int
    copy_ns: int
    busy_ns: int
    allocations: int
    refusals: int
    instances: tuple[GpuInstanceBooks, ...]


class LinkBooks(Struct, frozen=True, kw_only=True):
    """Two devices, by index, that reach each other directly, with ``bytes_per_s`` each way in all."""

    kind: str
    a: int
    b: int
    lanes: int
    bytes_per_s: int


class Books(Struct, frozen=True, kw_only=True):
    """Everything at one moment (``now_ns``, CLOCK_MONOTONIC). ``repairs``: how often a process died under the lock."""

    node: str
    now_ns: int
    repairs: int
    boots: int
    links: tuple[LinkBooks, ...]
    devices: tuple[DeviceBooks, ...]
    processes: tuple[ProcessBooks, ...]

    def device(self, uuid: str) -> DeviceBooks:
        """Return the device with this UUID. Raises BooksError."""
        for device in self.devices:
            if device.uuid == uuid:
                return device
        raise BooksError(f"no device {uuid} on node {self.node}; there are: {', '.join(d.uuid for d in self.devices)}")

    def process(self, pid: int) -> ProcessBooks | None:
        """Return the live process with this pid, or None."""
        return next((p for p in self.processes if p.live and p.pid == pid), None)

    def accounts(self, uuid: str) -> tuple[Account, ...]:
        """Return the accounts of live processes on the device or MIG instance ``uuid``."""
        return tuple(a for p in self.processes if p.live for a in p.accounts if a.uuid == uuid)


class BooksReader:
    """Reads the books of one simulated node, and does to it what people and faults do.

    A process can read those of one node only: the library maps its state once.
    """

    def __init__(self, directory: Path, library: Path = LIB_DIR / "sim" / "libmica-sim-books.so") -> None:
        """Map the state of the node in ``directory``. Raises BooksError."""
        if not library.is_file():
            raise BooksError(f"{library}: not built; run `make native`")
        loaded = ctypes.CDLL(str(library))
        opened = loaded.mica_sim_open(os.fsencode(directory.resolve()))
        if opened:
            why = "this process reads another node's books" if opened == -errno.EALREADY else os.strerror(-opened)
            raise BooksError(f"{directory}: cannot read the simulated node: {why}")
        self._directory = directory
        self._control = loaded.mica_sim_control
        self._control.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t)
        self._call = loaded.mica_sim_books
        self._call.argtypes = (ctypes.c_char_p, ctypes.c_size_t)
        self._buffer = ctypes.create_string_buffer(_FIRST_SIZE_BYTES)

    def read(self) -> Books:
        """Return the books as they are now. Raises BooksError."""
        while True:
            length = self._call(self._buffer, len(self._buffer))
            if length < 0:
                raise BooksError(f"{self._directory}: {os.strerror(-length)}")
            if length < len(self._buffer):
                return msgspec.json.decode(self._buffer.value, type=Books)
            self._buffer = ctypes.create_string_buffer(2 * length)

    def control(self, command: str) -> str:
        """Do to the node what a person or a fault would (the verbs: native/sim/engine/control.c); what it answers.

        Raises:
            ControlError: it can not be done; ``number`` is the errno.
        """
        answer = ctypes.create_string_buffer(256)
        result = self._control(command.encode(), answer, len(answer))
        text = answer.value.decode(errors="replace")
        if result < 0:
            raise ControlError(f"{command}: {text or os.strerror(-result)}", -result)
        return text


def read_books(directory: Path | None = None) -> Books:
    """Return the books of the node in ``directory``, by default MICA_SIM_DIR. Raises BooksError."""
    where = directory or os.environ.get("MICA_SIM_DIR")
    if not where:
        raise BooksError("MICA_SIM_DIR is not set; it names the directory of the simulated node")
    return _reader(Path(where)).read()


@cache
def _reader(directory: Path) -> BooksReader:
    return BooksReader(directory)
