"""Loads Level Zero and calls sysman.

Invariant: in a simulation the system's library is never opened; whatever sysman answers but success comes out as ``VendorError``.
"""

import ctypes
import os
from functools import cache
from typing import Any, Final, TypeVar

from mica.native import NativeBuildError, sim_level_zero
from mica.vendors._port import VendorAbsentError, VendorError
from mica.vendors._tools import SIMULATION
from mica.vendors.intel._structures import Described

LIBRARY: Final = "libze_loader.so.1"
MOST: Final = 4096
"""So many of anything is taken for an answer that makes no sense."""
RESULTS: Final = {
    0x70000001: "the device is lost",
    0x70000006: "the device requires a reset",
    0x70000007: "the device sleeps",
    0x70010000: "not allowed",
    0x70010001: "not available",
    0x70020000: "something that it needs is missing",
    0x78000001: "no driver, or no device",
    0x78000003: "not supported",
    0x78000004: "invalid argument",
    0x78000008: "invalid size",
    0x78000020: "the device is in survivability mode",
}
_NONE_HERE: Final = 0x78000001
_UNSUPPORTED: Final = frozenset({0x70010000, 0x70010001, 0x70020000, 0x78000003})
_SIZE: Final = 0x78000008
_TRIES: Final = 4

Handle = ctypes.c_void_p
_Struct = TypeVar("_Struct", bound=ctypes.Structure)
_Listed = TypeVar("_Listed", bound=Described)


class SysmanError(VendorError):
    """Sysman refused a call. ``number``: its result, 0 where the library lacks the function."""

    def __init__(self, what: str, number: int) -> None:
        self.number = number
        why = RESULTS.get(number, f"result {number:#x}") if number else "the library is too old and lacks it"
        super().__init__(f"{what}: {why}")


class Sysman:
    """Sysman's functions, by name.

    Raises:
        VendorAbsentError: no library here, or no driver behind it.
        VendorError: the library is here and does not start.
    """

    def __init__(self, library: Any = None) -> None:
        self._library = library or open_library()
        try:
            self.call("zesInit", ctypes.c_uint32(0))
            self.drivers = self.enumerate("zesDriverGet")
        except SysmanError as error:
            raise (VendorAbsentError if error.number == _NONE_HERE else VendorError)(str(error)) from None
        if not self.drivers:
            raise VendorAbsentError("zesDriverGet: no driver")

    def call(self, name: str, *arguments: Any) -> None:
        """Call ``name``. Raises SysmanError."""
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise SysmanError(name, 0) from None
        function.restype = ctypes.c_uint32
        result = function(*arguments)
        if result:
            raise SysmanError(name, result)

    def enumerate(self, name: str, *of: Any) -> list[int]:
        """The handles that ``name`` lists. Raises SysmanError; VendorError: so many that it makes no sense."""
        count = ctypes.c_uint32(0)
        self.call(name, *of, ctypes.byref(count), None)
        handles = (Handle * _sane(name, count.value))()
        if count.value:
            self.call(name, *of, ctypes.byref(count), handles)
        return [handle for handle in handles[: count.value] if handle]

    def parts(self, name: str, device: int) -> list[int]:
        """The same for parts of a device; none where it has no such parts, or does not tell."""
        try:
            return self.enumerate(name, Handle(device))
        except SysmanError as error:
            if error.number in _UNSUPPORTED or not error.number:
                return []
            raise

    def read(self, name: str, handle: int, into: _Struct, *between: Any) -> _Struct:
        """``into``, filled by ``name``. Raises SysmanError."""
        self.call(name, Handle(handle), *between, ctypes.byref(into))
        return into

    def optional(self, name: str, handle: int, into: _Struct, *between: Any) -> _Struct | None:
        """The same, or None where the device or the library does not offer it."""
        try:
            return self.read(name, handle, into, *between)
        except SysmanError as error:
            if error.number in _UNSUPPORTED or not error.number:
                return None
            raise

    def read_all(self, name: str, device: int, kind: type[_Listed]) -> list[_Listed]:
        """A list of structures that may grow between asking how many there are and reading them. Raises SysmanError."""
        for attempt in range(_TRIES):
            count = ctypes.c_uint32(0)
            self.call(name, Handle(device), ctypes.byref(count), None)
            there = _sane(name, count.value)
            if not there:
                return []
            found = (kind * there)()
            for each in found:
                each.stype = kind.stype_value
            try:
                self.call(name, Handle(device), ctypes.byref(count), found)
            except SysmanError as error:
                if error.number != _SIZE or attempt == _TRIES - 1:
                    raise
                continue
            return list(found[: min(count.value, there)])
        return []


def _sane(name: str, count: int) -> int:
    if count > MOST:
        raise VendorError(f"{name}: counts {count}, allowed: at most {MOST}")
    return count


def simulated() -> bool:
    """Whether this process is told to use the simulated driver."""
    return bool(os.environ.get(SIMULATION))


@cache
def open_library() -> Any:
    """The system's loader, or the simulated one. Raises VendorAbsentError, VendorError."""
    try:
        return ctypes.CDLL(str(sim_level_zero()) if simulated() else LIBRARY)
    except NativeBuildError as error:
        raise VendorError(f"simulated Level Zero: {error}") from None
    except OSError as error:
        raise VendorAbsentError(f"{LIBRARY}: {error}") from None
