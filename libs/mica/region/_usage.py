"""Usage regions as services see them: created, read and reclaimed through the file, never through a mapping.

Invariant: nothing a tenant writes into its file, or does to it, can harm the reader.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from mica.region._binding import ffi, lib, require, unpack_id
from mica.region._errors import RegionError, raise_errno
from mica.region._names import check_device_id, check_slice_id
from mica.region._owner import Owner

SLOTS_MAX = lib.MICA_PROCESSES_MAX


class ProcessSlot(Struct, frozen=True, kw_only=True):
    """One process of a slice, as it accounts for itself. ``pid`` is the one in its own pid namespace.

    ``waiting_ns`` is CLOCK_MONOTONIC when it last said that it waits to launch, 0 when it does not; ``stuck_ns`` when work was
    submitted that should have ended long ago and has not, 0 when there is none; ``deadline_ns`` by when its launch that waits
    should be done.
    """

    slot: int
    owner: int
    pid: int
    start_ticks: int
    vram_bytes: int
    vram_peak_bytes: int
    pinned_bytes: int
    gpu_ns: int
    launches: int
    inflight: int
    last_seen_ns: int
    throttled_ns: int = 0
    copied_bytes: int = 0
    waiting_ns: int = 0
    weight: int = 0
    deadline_ns: int = 0
    stuck_ns: int = 0


class UsageSnapshot(Struct, frozen=True, kw_only=True):
    """A copy of a usage region. The totals are cumulative and include processes that are gone.

    ``window_debt_ns`` is what the slice took beyond its windows and has not given back yet, ``window_owed_ns`` what others took
    from its windows. ``vram_bytes`` sums ``processes``. Words are copied one by one: each is exact, together they may be
    microseconds apart.
    """

    slice_id: str
    device_id: str
    virtual_time_ns: int
    gpu_ns: int
    throttled_ns: int
    launches: int
    refusals: int
    vram_peak_bytes: int
    generation_seen: int
    copied_bytes: int = 0
    window_debt_ns: int = 0
    window_owed_ns: int = 0
    processes: tuple[ProcessSlot, ...]

    @property
    def vram_bytes(self) -> int:
        """Device memory that the slice's processes hold together."""
        return sum(process.vram_bytes for process in self.processes)


_TOTALS = (
    "virtual_time_ns",
    "gpu_ns",
    "throttled_ns",
    "launches",
    "copied_bytes",
    "refusals",
    "vram_peak_bytes",
    "generation_seen",
    "window_debt_ns",
    "window_owed_ns",
)
_HELD = lib.MICA_OWNER_HELD >> 56
_HELD_FLAGS = slice(
    ffi.offsetof("struct mica_usage_region", "processes") + ffi.offsetof("struct mica_process_slot", "owner") + 7,
    None,
    ffi.sizeof("struct mica_process_slot"),
)
"""Where the HELD byte of every slot is: the owner word's own top byte, so that a scan for held slots is one slice of bytes."""
_SLOT_FIELDS = (
    "vram_peak_bytes",
    "gpu_ns",
    "launches",
    "inflight",
    "throttled_ns",
    "copied_bytes",
    "last_seen_ns",
    "waiting_ns",
    "weight",
    "deadline_ns",
    "stuck_ns",
)


def create_usage(path: Path | str, device_id: str, slice_id: str, uid: int, mode: int = 0o600) -> bool:
    """Make the slice's usage region, owned by ``uid``. One that is there is adopted: its owner and mode are set again.

    Returns:
        True when it was made, False when it was there.

    Raises:
        RegionDefectError: the file that is there is no sound usage region.
        RegionError: it belongs to another slice or device, or the system refuses.
    """
    names = (check_device_id(device_id).encode(), check_slice_id(slice_id).encode())
    code = lib.mica_region_create(os.fsencode(path), lib.MICA_REGION_USAGE, *names, mode)
    if code not in (0, -errno.EEXIST):
        raise_errno(code, path, "create the usage region")
    if code == 0 and uid == os.geteuid():
        return True
    with opened(path, os.O_RDWR) as fd:
        if code == -errno.EEXIST:
            found = _read(fd, path)
            if (found.slice_id, found.device_id) != (slice_id, device_id):
                raise RegionError(
                    f"{path}: usage region of slice {found.slice_id} on {found.device_id}, expected {slice_id} on {device_id}"
                )
        if os.fstat(fd).st_uid != uid:
            os.fchown(fd, uid, -1)
        os.fchmod(fd, mode)
    return code == 0


def read_usage(path: Path | str) -> UsageSnapshot:
    """Copy a usage region.

    Raises:
        RegionMissingError: there is no such file.
        RegionDefectError: it is truncated, foreign, of a newer layout or of another boot.
        RegionAccessError: the system refuses.
    """
    with opened(path, os.O_RDONLY) as fd:
        return _read(fd, path)


def reclaim_slot(path: Path | str, slot: int, owner: int) -> bool:
    """Free the slot of a process that is gone, with all it held. Only the node's enforcer calls this.

    Returns:
        True when the slot was freed, False when ``owner`` did not hold it any more.

    Raises:
        RegionError: as for ``read_usage``, or there is no such slot.
    """
    if not 0 <= slot < SLOTS_MAX:
        raise RegionError(f"{path}: slot {slot}, allowed are 0 to {SLOTS_MAX - 1}")
    with opened(path, os.O_RDWR) as fd:
        code = lib.mica_slot_reclaim(fd, slot, owner)
    if code < 0:
        raise_errno(code, path, f"reclaim slot {slot}")
    return code == 1


@contextmanager
def opened(path: Path | str, flags: int) -> Iterator[int]:
    """Open a file that a tenant owns: no symbolic link is followed, and a FIFO in its place holds nobody up."""
    try:
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise_errno(-(error.errno or errno.EIO), path, "open the region")
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise RegionError(f"{path}: not a regular file, expected a usage region")
        yield fd
    finally:
        os.close(fd)


def _read(fd: int, path: Path | str) -> UsageSnapshot:
    region = ffi.new("struct mica_usage_region *")
    require(lib.mica_usage_pread(fd, region), path, lib.MICA_REGION_USAGE)
    flags = bytes(ffi.buffer(region))[_HELD_FLAGS]
    held = (index for index, flag in enumerate(flags) if flag & _HELD) if any(flags) else ()
    return UsageSnapshot(
        slice_id=unpack_id(region.header.slice_id),
        device_id=unpack_id(region.header.device_id),
        processes=tuple(_slot(index, region.processes[index]) for index in held),
        **{name: getattr(region, name) for name in _TOTALS},
    )


def _slot(index: int, stored: Any) -> ProcessSlot:
    owner = Owner.of_word(stored.owner)
    return ProcessSlot(
        slot=index,
        owner=stored.owner,
        pid=owner.pid,
        start_ticks=owner.start_ticks,
        vram_bytes=lib.mica_word_bytes(stored.vram_word),
        pinned_bytes=lib.mica_word_bytes(stored.pinned_word),
        **{name: getattr(stored, name) for name in _SLOT_FIELDS},
    )
