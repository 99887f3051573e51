"""Token regions as services see them: created, and read through the file, never through a mapping.

Invariant: nothing that the slices write there can harm the reader.
"""

import errno
import os
from pathlib import Path

from msgspec import Struct

from mica.region._binding import ffi, lib, require
from mica.region._errors import raise_errno
from mica.region._names import check_device_id
from mica.region._usage import opened


class TokenSnapshot(Struct, frozen=True, kw_only=True):
    """What the slices of a device know of it together. Times in ns; a mean moves by an eighth with every new value.

    ``switches``: how many windows' first work was timed. ``switch_ns``: how long after its window opened the first work of a
    slice began that waited for it. ``late_ns``: how long after its window's end a slice's last work was still there.
    ``guard_ns``: how much later than estimated it ended, which is kept free before a window's end.
    """

    busy_until_ns: int
    turns: int
    owner_ns: int
    switches: int
    switch_ns: int
    switch_max_ns: int
    late_ns: int
    late_max_ns: int
    guard_ns: int


def create_token(path: Path | str, device_id: str, mode: int = 0o666) -> bool:
    """Make the device's token region.

    Returns:
        True when it was made, False when one was there, which is left alone.

    Raises:
        RegionAccessError: the system refuses.
    """
    code = lib.mica_region_create(os.fsencode(path), lib.MICA_REGION_TOKEN, check_device_id(device_id).encode(), ffi.NULL, mode)
    if code not in (0, -errno.EEXIST):
        raise_errno(code, path, "create the token region")
    return code == 0


def read_token(path: Path | str) -> TokenSnapshot:
    """Copy a token region.

    Raises:
        RegionMissingError: there is no such file.
        RegionDefectError: it is truncated, foreign, of a newer layout or of another boot.
        RegionAccessError: the system refuses.
    """
    region = ffi.new("struct mica_token_region *")
    with opened(path, os.O_RDONLY) as fd:
        require(lib.mica_token_pread(fd, region), path, lib.MICA_REGION_TOKEN)
    return TokenSnapshot(**{name: getattr(region, name) for name in TokenSnapshot.__struct_fields__})
