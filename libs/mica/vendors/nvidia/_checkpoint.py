"""Suspends CUDA processes by the driver's checkpoint calls. Invariant: no context is made here: this takes no device memory.

Which library is called is as in ``_library.py``: in a simulation never the system's. From CUDA 12.8 (release 570) on, at first
for x86-64 alone. Not taken: managed memory (UVM) and memory that other processes know (IPC); the process is broken then.
Source: CUDA driver API, "CUDA Checkpointing"; README of NVIDIA/cuda-checkpoint.
"""

import ctypes
from functools import cache
from typing import Final

from mica.native import NativeBuildError, sim_cuda
from mica.vendors._port import Checkpointer, NoSuchProcessError, ProcessStage, VendorAbsentError, VendorError
from mica.vendors.nvidia._library import simulated

CHECKPOINT_CUDA_VERSION: Final = 12_080
"""Drivers from this CUDA version on have the calls."""

_INVALID_VALUE: Final = 1
_NAMES: Final = {
    1: "CUDA_ERROR_INVALID_VALUE",
    2: "CUDA_ERROR_OUT_OF_MEMORY",
    3: "CUDA_ERROR_NOT_INITIALIZED",
    100: "CUDA_ERROR_NO_DEVICE",
    401: "CUDA_ERROR_ILLEGAL_STATE",
    600: "CUDA_ERROR_NOT_READY",
    801: "CUDA_ERROR_NOT_SUPPORTED",
    999: "CUDA_ERROR_UNKNOWN",
}


class _LockArguments(ctypes.Structure):
    _fields_ = (("timeout_ms", ctypes.c_uint), ("reserved0", ctypes.c_uint), ("reserved1", ctypes.c_uint64 * 7))


class CudaCheckpointer(Checkpointer):
    """The calls of the driver of this machine, or of the simulated one.

    Raises:
        VendorError: there is none, or it is older than the calls.
    """

    def __init__(self) -> None:
        self._library = _load()
        version = ctypes.c_int()
        self._must("cuDriverGetVersion", self._library.cuDriverGetVersion(ctypes.byref(version)))
        if version.value < CHECKPOINT_CUDA_VERSION or not hasattr(self._library, "cuCheckpointProcessLock"):
            has = f"CUDA {version.value // 1000}.{version.value % 1000 // 10}"
            raise VendorError(f"the driver has {has}; processes are suspended from CUDA 12.8 on")

    def stage(self, pid: int) -> ProcessStage:
        """What the driver says; a process that it is busy with counts as locked."""
        state = ctypes.c_int()
        self._must(f"cuCheckpointProcessGetState({pid})", self._library.cuCheckpointProcessGetState(pid, ctypes.byref(state)))
        return ProcessStage(state.value) if state.value <= ProcessStage.BROKEN else ProcessStage.LOCKED

    def lock(self, pid: int, within_ms: int) -> None:
        """Lock; the driver takes a timeout of 0 for none, so that it is at least 1 ms."""
        arguments = _LockArguments(timeout_ms=max(1, within_ms))
        result = self._library.cuCheckpointProcessLock(pid, ctypes.byref(arguments))
        self._must(f"cuCheckpointProcessLock({pid}, {within_ms} ms)", result)

    def take_away(self, pid: int) -> None:
        """Checkpoint to the process's host memory."""
        self._must(f"cuCheckpointProcessCheckpoint({pid})", self._library.cuCheckpointProcessCheckpoint(pid, None))

    def bring_back(self, pid: int) -> None:
        """Restore to the same devices. The driver wants to be initialised for it where persistence mode is off."""
        self._must("cuInit", self._library.cuInit(0))
        self._must(f"cuCheckpointProcessRestore({pid})", self._library.cuCheckpointProcessRestore(pid, None))

    def unlock(self, pid: int) -> None:
        """Unlock."""
        self._must(f"cuCheckpointProcessUnlock({pid})", self._library.cuCheckpointProcessUnlock(pid, None))

    def _must(self, what: str, result: int) -> None:
        if result == _INVALID_VALUE and what.startswith("cuCheckpoint"):
            raise NoSuchProcessError(f"{what}: the driver knows no such process")
        if result:
            raise VendorError(f"{what}: {_NAMES.get(result, f'error {result}')}")


@cache
def _load() -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(sim_cuda()) if simulated() else "libcuda.so.1")
    except (OSError, NativeBuildError) as error:
        raise VendorAbsentError(f"libcuda: {error}") from None


def suspend_refusal(cuda_version: int) -> str:
    """Why a driver of that CUDA version (12080 for 12.8) suspends no process; empty where it does."""
    if cuda_version >= CHECKPOINT_CUDA_VERSION:
        return ""
    has = f"CUDA {cuda_version // 1000}.{cuda_version % 1000 // 10}" if cuda_version else "a CUDA version that it does not tell"
    return f"the driver has {has}; processes are suspended from CUDA 12.8 on"
