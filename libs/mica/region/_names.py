"""Ids that may become part of a path or of a record, and the runtime directory they name.

Invariant: no path made here leaves the runtime directory, whatever an id contains.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from mica.region._errors import LimitsError

_SLICE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DEVICE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}")
_USAGE_SUFFIX = ".usage"
_SHOWN = 80


def check_slice_id(text: str) -> str:
    """Return ``text`` if it is a slice's id, else raise LimitsError."""
    if _SLICE_ID.fullmatch(text) is None:
        raise LimitsError(f"slice id {text[:_SHOWN]!r}: allowed are 1 to 64 of A-Z a-z 0-9 _ -")
    return text


def check_device_id(text: str) -> str:
    """Return ``text`` if it is a device's id, else raise LimitsError."""
    if _DEVICE_ID.fullmatch(text) is None:
        raise LimitsError(f"device id {text[:_SHOWN]!r}: allowed are 1 to 64 of A-Z a-z 0-9 _ - . : (the first no . : -)")
    return text


class RuntimeDir(Struct, frozen=True):
    """The layout of MICA_RUNTIME_DIR, which the node's enforcer fills and shims and services read."""

    root: Path

    @property
    def attach_socket(self) -> Path:
        """The datagram socket that attaching processes report to.

        It has a directory to itself, which containers mount: a mounted socket would stay the one of an enforcer that is gone.
        """
        return self.root / "attach" / "socket"

    def device_dir(self, device_id: str) -> Path:
        """Directory of one device's regions."""
        return self.root / "devices" / check_device_id(device_id)

    def quota_path(self, device_id: str) -> Path:
        """The device's quota region."""
        return self.device_dir(device_id) / "quota"

    def token_path(self, device_id: str) -> Path:
        """The device's token region."""
        return self.device_dir(device_id) / "token"

    def slice_dir(self, slice_id: str) -> Path:
        """Directory of one slice's usage regions and its attach file."""
        return Path(self.slice_name(slice_id))

    def usage_path(self, slice_id: str, device_id: str) -> Path:
        """The slice's usage region on that device."""
        return Path(self.usage_name(slice_id, device_id))

    def attach_path(self, slice_id: str) -> Path:
        """The file that says what a process needs to start inside the slice."""
        return Path(self.attach_name(slice_id))

    def slice_name(self, slice_id: str) -> str:
        """``slice_dir`` as text, for who makes a slice in a fraction of a millisecond: a path object costs a tenth of one."""
        return f"{self.root}/slices/{check_slice_id(slice_id)}"

    def usage_name(self, slice_id: str, device_id: str) -> str:
        """``usage_path`` as text."""
        return f"{self.slice_name(slice_id)}/{check_device_id(device_id)}{_USAGE_SUFFIX}"

    def attach_name(self, slice_id: str) -> str:
        """``attach_path`` as text."""
        return f"{self.slice_name(slice_id)}/attach.json"

    def ensure_device(self, device_id: str) -> Path:
        """Make the device's directory if it is missing, and return it."""
        directory = self.device_dir(device_id)
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        return directory

    def ensure_slice(self, slice_id: str) -> None:
        """Make the slice's directory if it is missing."""
        name = self.slice_name(slice_id)
        try:
            os.mkdir(name, 0o755)  # noqa: PTH102 - the name is text; see slice_name
        except FileExistsError:
            pass
        except FileNotFoundError:
            os.makedirs(name, 0o755, exist_ok=True)  # noqa: PTH103 - as above

    def devices(self) -> list[str]:
        """Ids of the devices that have a quota region, sorted."""
        return sorted(path.parent.name for path in self.root.glob("devices/*/quota"))

    def slices(self) -> list[str]:
        """Ids of the slices that have a directory, sorted."""
        return sorted(path.name for path in self.root.glob("slices/*") if path.is_dir())

    def usages(self) -> Iterator[tuple[str, str, Path]]:
        """Yield slice id, device id and path of every usage region, sorted by path."""
        for path in sorted(self.root.glob(f"slices/*/*{_USAGE_SUFFIX}")):
            yield path.parent.name, path.name.removesuffix(_USAGE_SUFFIX), path
