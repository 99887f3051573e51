"""The way to the compiled code: its import, its results, and texts as words.

Invariant: no negative result of the C library is dropped; each becomes an exception here.
"""

import os
from pathlib import Path
from typing import Any

from mica.region._errors import Defect, RegionBuildError, RegionDefectError, raise_errno

try:
    from mica.region._abi import ffi, lib
except ImportError as error:  # pragma: no cover - a broken build is not a state of the tests
    raise RegionBuildError(
        f"mica.region: the compiled binding is missing or does not load ({error}); run `make native`"
    ) from error

__all__ = ["ID_BYTES", "KINDS", "ffi", "lib", "observed", "pack_id", "require", "size_bytes", "unpack_id"]

ID_BYTES = lib.MICA_ID_WORDS * 8
KINDS = {lib.MICA_REGION_QUOTA: "quota", lib.MICA_REGION_USAGE: "usage", lib.MICA_REGION_TOKEN: "token"}


def require(code: int, path: Path | str, kind: int) -> None:
    """Raise unless ``code``, a result of mapping or reading ``path``, means that it is sound."""
    if code < 0:
        raise_errno(code, path, f"open the {KINDS[kind]} region")
    if code != lib.MICA_REGION_OK:
        text = ffi.string(lib.mica_region_defect_text(code)).decode()
        raise RegionDefectError(path, Defect(code), text, observed(path, kind))


def observed(path: Path | str, kind: int) -> str:
    """Say in one line what a defective file looks like, beside what was expected."""
    wanted = f"expected a {KINDS[kind]} region, layout {lib.MICA_LAYOUT_VERSION}, {size_bytes(kind)} bytes"
    try:
        with Path(path).open("rb") as file:
            head = file.read(ffi.sizeof("struct mica_region_header"))
            length = os.fstat(file.fileno()).st_size
    except OSError as error:
        return f"{wanted}; unreadable: {error.strerror}"
    header = ffi.new("struct mica_region_header *")
    ffi.memmove(header, head, len(head))
    found = KINDS.get(header.kind, f"kind {header.kind}")
    return f"{wanted}; found {length} bytes, magic {header.magic:#x}, layout {header.layout_version}, {found}"


def size_bytes(kind: int) -> int:
    """Size of a whole region of ``kind``, in bytes."""
    return ffi.sizeof(f"struct mica_{KINDS[kind]}_region")


def pack_id(text: str) -> Any:
    """Return an id as a C array of words. ``text`` is ASCII of at most 64 characters; the callers have checked."""
    words = ffi.new("uint64_t[]", lib.MICA_ID_WORDS)
    lib.mica_id_pack(text.encode("ascii"), words)
    return words


def unpack_id(words: Any) -> str:
    """Return the text in an array of words; bytes that are not ASCII become backslash escapes."""
    return bytes(ffi.buffer(words, ID_BYTES)).rstrip(b"\0").decode("ascii", "backslashreplace")
