"""Loads amdsmi and keeps it started. Invariant: in a simulation the system's library is never opened.

The package looks for ``libamd_smi.so`` below ``$ROCM_HOME`` first, then by its name: the simulated library is loaded by its
path before, so that it is found by that. The real one finds out which processors there are as it is initialised, and never
again: after a device was laid out it has to be started anew, which voids every handle, so that nobody may be inside of it
then.
"""

import contextlib
import ctypes
import importlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Condition
from typing import Any, Final

from msgspec import Struct

from mica.native import NativeBuildError, sim_amdsmi
from mica.vendors._port import VendorAbsentError, VendorError
from mica.vendors._tools import SIMULATION

BUSY: Final = 30
DRIVER_NOT_LOADED: Final = 34
NO_DRIVER: Final = 51
"""Of ``amdsmi_status_t``."""
RESTART_S: Final = 5.0
GARBAGE: Final = (MemoryError, OverflowError, UnicodeDecodeError, ValueError, TypeError, KeyError, IndexError)
"""What the package raises over answers that make no sense."""


class Socket(Struct, frozen=True):
    """A device: amdsmi's name of it, and the handles of its processors, of which a device that is used whole has one."""

    name: str
    handles: tuple[Any, ...]


def simulated() -> bool:
    """Whether this process is told to use the simulated driver."""
    return bool(os.environ.get(SIMULATION))


def error_code(error: Exception) -> int:
    """Which ``amdsmi_status_t`` it is about, 0 for none."""
    code = getattr(error, "err_code", None)
    return code if isinstance(code, int) else 0


def optional(smi: Any, name: str, *arguments: Any) -> Any:
    """What ``name`` answers, or None where the library or the device does not offer it."""
    try:
        return getattr(smi, name)(*arguments)
    except (AttributeError, smi.AmdSmiLibraryException):
        return None


@contextmanager
def amdsmi_call(smi: Any, what: str) -> Iterator[None]:
    """Turn what amdsmi raises inside the block into ``VendorError("<what>: <its words>")``."""
    try:
        yield
    except smi.AmdSmiException as error:
        raise VendorError(f"{what}: {' '.join(str(error).split())}") from None
    except GARBAGE as error:
        raise VendorError(f"{what}: amdsmi answers what makes no sense: {type(error).__name__}: {error}") from None
    except AttributeError as error:
        raise VendorError(f"{what}: this amdsmi is too old or too new: {error}") from None


def open_amdsmi() -> Any:
    """The ``amdsmi`` module. Raises VendorAbsentError, VendorError."""
    simulation = _load_simulated() if simulated() else None
    with contextlib.redirect_stdout(io.StringIO()):  # where it prints that there is no library
        try:
            module = importlib.import_module("amdsmi")
        except (ImportError, KeyError, OSError, AttributeError) as error:  # the package raises KeyError without its library
            raise VendorAbsentError(f"amdsmi: {type(error).__name__}: {error}") from None
    wrapper = getattr(module, "amdsmi_wrapper", None)
    if simulation is not None and wrapper is not None and _handle_of(wrapper) != simulation._handle:  # noqa: SLF001 - dlopen's
        raise VendorError(
            f"amdsmi: loaded with {wrapper.location}, which is not the simulated library; allowed: no ROCM_HOME and no ROCM_PATH"
        )
    return module


def _load_simulated() -> ctypes.CDLL:
    """The simulated library; from now on it is what the linker finds by that name.

    $ROCM_HOME would do as well, but other threads may read the environment in C at this moment.
    """
    try:
        return ctypes.CDLL(str(sim_amdsmi()))
    except (OSError, NativeBuildError) as error:
        raise VendorError(f"simulated amdsmi: {error}") from None


def _handle_of(wrapper: Any) -> int | None:
    """What dlopen gave for the library that the package has loaded."""
    library = getattr(wrapper, "_libraries", {}).get("libamd_smi.so")
    return getattr(library, "_handle", None)


class Gate:
    """Many are inside, or one alone. Not to be entered by who is inside."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._inside = 0
        self._closed = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Inside with others; waits while somebody is, or wants to be, alone."""
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self, timeout_s: float) -> Iterator[None]:
        """Inside alone. Raises VendorError: others were still inside after ``timeout_s``."""
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._closed = True
            if not self._changed.wait_for(lambda: not self._inside, timeout_s):
                self._closed = False
                self._changed.notify_all()
                raise VendorError(f"amdsmi can not be started anew: {self._inside} calls are under way after {timeout_s:g} s")
        try:
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()


class Session:
    """amdsmi, started, and what it found then. Safe to use from several threads.

    Raises:
        VendorAbsentError: no amdsmi package, no library behind it, no driver, or no device.
        VendorError: the library is here and does not start.
    """

    def __init__(self, *, restart_s: float = RESTART_S) -> None:
        self.smi: Any = open_amdsmi()
        self.starts = 0
        self.ids: dict[str, str] = {}
        """Ids of devices by amdsmi's names, as far as they were asked for."""
        self._restart_s = restart_s
        self._gate = Gate()
        self._sockets: tuple[Socket, ...] = ()
        self._open = False
        self._start()
        if not self._sockets:
            self.close()
            raise VendorAbsentError("amdsmi: no device")

    @contextmanager
    def use(self, what: str) -> Iterator[tuple[Socket, ...]]:
        """Call the library about ``what``; handles are good inside of the block alone, which must not be nested."""
        with self._gate.shared(), amdsmi_call(self.smi, what):
            yield self._sockets

    def find(self, sockets: tuple[Socket, ...], device_id: str) -> Socket:
        """The device of that id; those whose ids are known are not asked. Raises AmdSmiException, VendorError."""
        for socket in sockets:
            if self.ids.get(socket.name) == device_id:
                return socket
        for socket in sockets:
            if socket.name not in self.ids and self.identify(socket) == device_id:
                return socket
        raise VendorError(f"device {device_id}: amdsmi lists no such device")

    def identify(self, socket: Socket) -> str:
        """A device's id, empty where it does not answer."""
        found = optional(self.smi, "amdsmi_get_gpu_device_uuid", socket.handles[0]) or ""
        if found:
            self.ids[socket.name] = found
        return found

    def restart(self) -> None:
        """Have the library find out anew what there is. Raises VendorError."""
        with self._gate.alone(self._restart_s):
            self.close()
            self._start()

    def close(self) -> None:
        """Shut the library down; twice is no error."""
        if self._open:
            self._open = False
            with suppress(self.smi.AmdSmiException):
                self.smi.amdsmi_shut_down()

    def _start(self) -> None:
        smi = self.smi
        try:
            smi.amdsmi_init()
        except smi.AmdSmiException as error:
            absent = error_code(error) in (DRIVER_NOT_LOADED, NO_DRIVER)
            raise (VendorAbsentError if absent else VendorError)(f"amdsmi_init: {' '.join(str(error).split())}") from None
        self._open = True
        self.starts += 1
        with amdsmi_call(smi, "amdsmi_get_processor_handles"):
            self._sockets = _sockets(smi)


def _sockets(smi: Any) -> tuple[Socket, ...]:
    """The devices, in the library's order: the package lists processors socket by socket, so that these are asked one by one."""
    found: dict[str, list[Any]] = {}
    for handle in smi.amdsmi_get_processor_handles():
        bdf = smi.amdsmi_get_gpu_device_bdf(handle)
        found.setdefault(bdf.rpartition(".")[0], []).append(handle)
    return tuple(Socket(name, tuple(handles)) for name, handles in found.items())
