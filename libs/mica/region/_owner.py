"""Owner words and the processes behind them.

Invariant: a process is named only when pid, start time and (where it may be read) a mapping of the slice's own file agree.
"""

import os
from pathlib import Path

from msgspec import Struct

from mica.region._binding import lib
from mica.region._errors import RegionError

_PROC = Path("/proc")
_START_MASK = (1 << lib.MICA_OWNER_START_BITS) - 1
_PID_MASK = (1 << lib.MICA_OWNER_PID_BITS) - 1
_START_FIELD = 19
"""Index of the start time among the fields that follow the name in /proc/<pid>/stat."""


class Owner(Struct, frozen=True):
    """The parts of an owner word: the pid in the process's own namespace, and its start in clock ticks modulo 2^34."""

    pid: int
    start_ticks: int

    @classmethod
    def of_word(cls, word: int) -> "Owner":
        """Take an owner word apart."""
        return cls(word & _PID_MASK, word >> lib.MICA_OWNER_PID_BITS & _START_MASK)

    @property
    def word(self) -> int:
        """The owner word, held."""
        return int(lib.MICA_OWNER_HELD | (self.start_ticks & _START_MASK) << lib.MICA_OWNER_PID_BITS | self.pid & _PID_MASK)


def process_start_ticks(pid: int) -> int:
    """Return when a process started, in clock ticks since boot. ``pid`` is as the caller sees it.

    Raises:
        ProcessLookupError: there is no such process.
    """
    try:
        text = (_PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(f"process {pid}: not running") from None
    return int(text[text.rindex(b")") + 2 :].split()[_START_FIELD])


def owner_of(pid: int) -> int:
    """Return the owner word that a running process writes into its slot. ``pid`` is as the caller sees it.

    Raises:
        ProcessLookupError: there is no such process.
    """
    return Owner(_innermost_pid(pid), process_start_ticks(pid)).word


def find_process(owner: int, usage_path: Path) -> int | None:
    """Return the pid, as the caller sees it, of the running process that holds a slot; None when it is gone.

    Args:
        owner: the slot's owner word.
        usage_path: the usage region of that slot.

    Raises:
        RegionError: the usage region does not exist.
    """
    wanted = Owner.of_word(owner)
    try:
        file = usage_path.stat()
    except FileNotFoundError:
        raise RegionError(f"{usage_path}: no such usage region, expected the one of owner {owner:#x}") from None
    running = (int(name) for name in (entry.name for entry in _PROC.iterdir()) if name.isdecimal())
    return next((pid for pid in running if _is_owner(pid, wanted) and _maps(pid, file) is not False), None)


def _is_owner(pid: int, wanted: Owner) -> bool:
    try:
        return process_start_ticks(pid) & _START_MASK == wanted.start_ticks and _innermost_pid(pid) & _PID_MASK == wanted.pid
    except ProcessLookupError:
        return False


def _innermost_pid(pid: int) -> int:
    """Return a process's pid in its own pid namespace: the last one on its NSpid line."""
    try:
        status = (_PROC / str(pid) / "status").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(f"process {pid}: not running") from None
    for line in status.splitlines():
        if line.startswith(b"NSpid:"):
            return int(line.split()[-1])
    return pid


def _maps(pid: int, file: os.stat_result) -> bool | None:
    """Say whether a process maps a file, or None when that may not be read."""
    wanted = (f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}".encode(), str(file.st_ino).encode())
    try:
        lines = (_PROC / str(pid) / "maps").read_bytes().splitlines()
    except PermissionError:
        return None
    except (FileNotFoundError, ProcessLookupError):
        return False
    return any(tuple(line.split(maxsplit=5)[3:5]) == wanted for line in lines)
