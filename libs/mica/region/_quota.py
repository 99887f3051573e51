"""The quota region of one device: the enforcer's pen, and everybody else's reading glass.

Invariant: a record changes only through ``QuotaRegion.write``, ``clear`` and ``repair`` of a region opened writable.
"""

import errno
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mica.region._binding import ffi, lib, pack_id, require, unpack_id
from mica.region._errors import RegionBusyError, RegionError, raise_errno
from mica.region._limits import Limits, decode_limits, encode_limits
from mica.region._names import check_device_id, check_slice_id

RECORDS_MAX = lib.MICA_SLICES_MAX


class QuotaRegion:
    """A mapped quota region. Close it, or use it as a context manager; one writer per file."""

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        """Map the region at ``path``.

        Raises:
            RegionMissingError: there is no such file.
            RegionDefectError: it is no sound quota region of this boot.
            RegionAccessError: the system refuses.
        """
        self.path = path
        self.writable = writable
        where = ffi.new("void **")
        require(lib.mica_region_map(bytes(path), lib.MICA_REGION_QUOTA, writable, where), path, lib.MICA_REGION_QUOTA)
        self._region: Any = ffi.cast("struct mica_quota_region *", where[0])

    @classmethod
    def create(cls, path: Path, device_id: str) -> Self:
        """Open the region at ``path`` writable; make it first (0644, all records FREE) when there is none.

        Raises:
            RegionError: as for opening, or the file belongs to another device.
        """
        device = check_device_id(device_id)
        code = lib.mica_region_create(bytes(path), lib.MICA_REGION_QUOTA, device.encode(), ffi.NULL, 0o644)
        if code not in (0, -errno.EEXIST):
            raise_errno(code, path, "create the quota region")
        region = cls(path, writable=True)
        if region.device_id != device_id:
            found = region.device_id
            region.close()
            raise RegionError(f"{path}: quota region of device {found}, expected {device_id}")
        return region

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Unmap the region; a second call does nothing."""
        region, self._region = self._region, ffi.NULL
        lib.mica_region_unmap(region, lib.MICA_REGION_QUOTA)

    @property
    def device_id(self) -> str:
        """The device that the region belongs to."""
        return unpack_id(self._open().header.device_id)

    @property
    def heartbeat_ns(self) -> int:
        """CLOCK_MONOTONIC of the enforcer's last heartbeat; 0 before the first."""
        return int(self._open().header.heartbeat_ns)

    def heartbeat(self, now_ns: int) -> None:
        """Show that the enforcer lives. ``now_ns`` is CLOCK_MONOTONIC."""
        lib.mica_quota_heartbeat(self._pen(), now_ns)

    def write(self, index: int, limits: Limits) -> None:
        """Replace the record at ``index``; readers see the old one or the new one, whole.

        Raises:
            LimitsError: ``limits`` cannot be stored.
        """
        lib.mica_quota_write(self._pen(), self._checked(index), encode_limits(limits))

    def clear(self, index: int) -> None:
        """Make the record at ``index`` FREE."""
        lib.mica_quota_write(self._pen(), self._checked(index), ffi.new("struct mica_slice_limits *"))

    def read(self, index: int) -> Limits | None:
        """Return the record at ``index``, or None when it is FREE.

        Raises:
            RegionBusyError: its writer was in the way every time, or died there (then ``repair`` it).
            LimitsError: it carries a value that this build does not know.
        """
        out = ffi.new("struct mica_slice_limits *")
        if lib.mica_quota_read(self._open(), self._checked(index), out) != 0:
            raise RegionBusyError(f"{self.path}: record {index} was being written at every attempt to read it")
        return decode_limits(out, f"{self.path}: record {index}")

    def records(self) -> dict[int, Limits]:
        """Return every record that is not FREE, by index. Raises as ``read`` does."""
        found = ((index, self.read(index)) for index in range(RECORDS_MAX))
        return {index: limits for index, limits in found if limits is not None}

    def find(self, slice_id: str) -> int | None:
        """Return the index of the slice's record, or None.

        Raises:
            RegionBusyError: it was not found, but some record could not be read.
        """
        out = ffi.new("struct mica_slice_limits *")
        index = lib.mica_quota_find(self._open(), pack_id(check_slice_id(slice_id)), out)
        if index == -errno.EAGAIN:
            raise RegionBusyError(f"{self.path}: slice {slice_id} is in no record that could be read, and one could not")
        return index if index >= 0 else None

    def free_index(self) -> int | None:
        """Return the lowest index whose record is FREE, or None when all records are taken."""
        return next((index for index in range(RECORDS_MAX) if self.read(index) is None), None)

    def repair(self) -> int:
        """Free the records inside which a writer died, and return how many there were. For the region's one writer."""
        return lib.mica_quota_repair(self._pen())

    def _open(self) -> Any:
        if self._region == ffi.NULL:
            raise RegionError(f"{self.path}: the region is closed")
        return self._region

    def _pen(self) -> Any:
        if not self.writable:
            raise RegionError(f"{self.path}: the region was opened to read, writing is not allowed")
        return self._open()

    def _checked(self, index: int) -> int:
        if not 0 <= index < RECORDS_MAX:
            raise RegionError(f"{self.path}: record {index}, allowed are 0 to {RECORDS_MAX - 1}")
        return index
