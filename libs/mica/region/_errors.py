"""What can go wrong with a region, as exceptions.

Invariant: every message names the file or record, what was observed, and what is allowed.
"""

import errno
import os
from enum import IntEnum
from pathlib import Path
from typing import NoReturn


class RegionError(Exception):
    """Base of everything that this library raises."""


class RegionBuildError(RegionError, ImportError):
    """The compiled binding is missing or was built from other sources."""


class RegionAccessError(RegionError, OSError):
    """The operating system refused: ``errno`` says why."""


class RegionMissingError(RegionAccessError, FileNotFoundError):
    """There is no file at the path."""


class RegionBusyError(RegionError):
    """A record's writer was in the way at every attempt to read it. Transient, unless the writer died."""


class LimitsError(RegionError, ValueError):
    """A value that a record or message cannot carry."""


class AttachError(RegionError, ValueError):
    """A datagram that is no attach message."""


class Defect(IntEnum):
    """What is wrong with a file; the members are ``enum mica_region_defect``."""

    TRUNCATED = 1
    FOREIGN = 2
    FUTURE = 3
    WRONG_KIND = 4
    OTHER_BOOT = 5
    PAST = 6


class RegionDefectError(RegionError):
    """The file is there and is not a usable region. Permanent for that file."""

    def __init__(self, path: Path | str, defect: Defect, text: str, observed: str) -> None:
        super().__init__(f"{path}: {text} ({observed})")
        self.path = Path(path)
        self.defect = defect


def raise_errno(code: int, path: Path | str, doing: str) -> NoReturn:
    """Raise the error for a negated errno of the C library.

    Raises:
        RegionMissingError: the file does not exist.
        RegionAccessError: anything else.
    """
    kind = RegionMissingError if code == -errno.ENOENT else RegionAccessError
    raise kind(-code, f"{doing}: {os.strerror(-code)}", str(path))
