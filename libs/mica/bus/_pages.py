"""The memory of a service that remembers much, in large pages.

Hundreds of megabytes in pages of 4 KiB are more than a processor has addresses of at hand: a service that looks here and there in
them waits for the pages' tables as well. Python asks for its memory a mebibyte at a time, and many systems give large pages only
to those who ask for them. Owns that asking, of Linux; where it has no such pages, or none are left, all stays as it is.
Invariant: nothing that is stored changes, nor how much of it there is.
"""

import ctypes
import mmap
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Final

GROWN_BYTES: Final = 128 << 20
"""So much more in use than the last time is worth asking again; a service that stays below it never asks."""
WORTH_BYTES: Final = 16 << 20
"""Pieces of memory that are smaller are left alone: the stacks of threads are, and would only grow."""
LARGE_BYTES: Final = 2 << 20
"""A large page of most processors; what is asked of others is rounded by Linux."""
AT_ONCE_BYTES: Final = 16 << 20
"""So much is asked for in one call, for others of the process wait for it that need new memory."""
COLLAPSE: Final = 25
"""``MADV_COLLAPSE``: now, and not when the system finds the time; from Linux 6.1 on."""
_MAPS: Final = Path("/proc/self/maps")
_IN_USE: Final = Path("/proc/self/statm")


class Pages:
    """Asks for large pages whenever the process has grown."""

    def __init__(self) -> None:
        self._asked_at_bytes = 0
        self._asking: Thread | None = None

    def step(self) -> None:
        """Ask if it has grown; to be called now and then. It is asked beside: that takes a second for half a gibibyte."""
        in_use = in_use_bytes()
        if in_use < self._asked_at_bytes + GROWN_BYTES or (self._asking is not None and self._asking.is_alive()):
            return
        self._asked_at_bytes = in_use
        self._asking = Thread(target=ask, name="large pages", daemon=True)
        self._asking.start()

    def end(self) -> None:
        """Wait for what was asked."""
        if self._asking is not None:
            self._asking.join()


def in_use_bytes() -> int:
    """What the process has in memory; 0 where the system does not tell."""
    try:
        return int(_IN_USE.read_text().split()[1]) * mmap.PAGESIZE
    except OSError:
        return 0


def ask() -> int:
    """Ask for large pages for all that the process remembers; of how many bytes, those that were granted before included."""
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    asked = 0
    for begin, end in _private():
        if madvise(begin, end - begin, mmap.MADV_HUGEPAGE):
            continue
        asked += end - begin
        for at in range(begin, end, AT_ONCE_BYTES):
            madvise(at, min(AT_ONCE_BYTES, end - at), COLLAPSE)
    return asked


def _private() -> Iterator[tuple[int, int]]:
    """Where the most of the process's own memory is, in whole large pages."""
    try:
        lines = _MAPS.read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        addresses, rights, _, _, inode, *name = line.split(maxsplit=5)
        if rights != "rw-p" or inode != "0" or (name and name != ["[heap]"]):
            continue
        begin, end = (int(each, 16) for each in addresses.split("-"))
        begin, end = -(-begin // LARGE_BYTES) * LARGE_BYTES, end // LARGE_BYTES * LARGE_BYTES
        if end - begin >= WORTH_BYTES:
            yield begin, end
