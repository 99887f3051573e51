"""Loads NVML and translates its errors. Invariant: in a simulation the system's library is never opened.

pynvml opens ``libnvidia-ml.so.1`` by name. The dynamic linker answers that name with a library of the same SONAME that is
already loaded, so loading the simulated one first, by path, is all it takes.
"""

import ctypes
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

from mica.native import NativeBuildError, sim_nvml
from mica.vendors._port import VendorAbsentError, VendorError

SIMULATION: Final = "MICA_SIM_DIR"

_ABSENT: Final = ("NVML_ERROR_LIBRARY_NOT_FOUND", "NVML_ERROR_DRIVER_NOT_LOADED")


def simulated() -> bool:
    """Whether this process is told to use the simulated driver."""
    return bool(os.environ.get(SIMULATION))


def simulation_dir() -> Path | None:
    """The directory of the simulated node, when there is one."""
    directory = os.environ.get(SIMULATION)
    return Path(directory) if directory else None


def open_nvml() -> Any:
    """The ``pynvml`` module, loaded and initialised. Each call needs its own ``close_nvml``.

    Raises:
        VendorAbsentError: no library, or no driver behind it.
        VendorError: the library is there and does not start.
    """
    if simulated():
        _load_simulated()
    pynvml = importlib.import_module("pynvml")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        absent = error.value in {getattr(pynvml, name) for name in _ABSENT}
        raise (VendorAbsentError if absent else VendorError)(f"nvmlInit: {error}") from None
    except OSError as error:
        raise VendorError(f"nvmlInit: {error}") from None
    return pynvml


def close_nvml() -> None:
    """Undo one ``open_nvml``; a library that is already shut down is no error."""
    pynvml = importlib.import_module("pynvml")
    with suppress(pynvml.NVMLError):
        pynvml.nvmlShutdown()


@contextmanager
def nvml_call(what: str) -> Iterator[None]:
    """Turn an NVMLError inside the block, or an answer that is no text, into ``VendorError("<what>: <NVML's words>")``."""
    try:
        yield
    except importlib.import_module("pynvml").NVMLError as error:
        raise VendorError(f"{what}: {error}") from None
    except UnicodeDecodeError as error:
        raise VendorError(f"{what}: NVML answers {error.object[:64]!r}, wanted: text") from None


def optional(nvml: Any, name: str, *arguments: Any) -> Any:
    """What ``name`` answers, or None where the device or the library does not offer it."""
    try:
        return getattr(nvml, name)(*arguments)
    except (
        nvml.NVMLError_NotSupported,
        nvml.NVMLError_FunctionNotFound,
        nvml.NVMLError_InvalidArgument,
        nvml.NVMLError_NoPermission,
    ):
        return None


def text(value: bytes | str) -> str:
    """What pynvml gives as text for some structures and as bytes for others."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


@cache
def _load_simulated() -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(sim_nvml()), mode=ctypes.RTLD_GLOBAL)
    except (OSError, NativeBuildError) as error:
        raise VendorError(f"simulated NVML: {error}") from None
