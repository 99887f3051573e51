"""A pynvml that answers from a dictionary: for each handle, what each call returns or raises."""

import types
from typing import Any

import pynvml as real


class Memory:
    """What nvmlDeviceGetMemoryInfo returns."""

    def __init__(self, total: int, reserved: int, used: int) -> None:
        self.total, self.reserved, self.used = total, reserved, used


def device(**answers: Any) -> dict[str, Any]:
    """The answers of an L4, except where ``answers`` says otherwise."""
    return {
        "nvmlDeviceGetMemoryInfo": Memory(23_034 << 20, 1 << 28, 2 << 30),
        "nvmlDeviceGetCudaComputeCapability": (8, 9),
        "nvmlDeviceGetNumGpuCores": 7424,
        "nvmlDeviceGetUUID": "GPU-1",
        "nvmlDeviceGetName": "NVIDIA L4",
        "nvmlDeviceGetPciInfo": types.SimpleNamespace(busId=b"00000000:01:00.0", pciDeviceId=0x27B8_10DE),
        "nvmlDeviceGetMemoryAffinity": [0b10],
        "nvmlDeviceGetMigMode": real.NVMLError(real.NVML_ERROR_NOT_SUPPORTED),
        "nvmlDeviceGetUtilizationRates": types.SimpleNamespace(gpu=37, memory=5),
        "nvmlDeviceGetPowerUsage": 55_000,
        "nvmlDeviceGetTemperature": 41,
        "nvmlDeviceGetComputeRunningProcesses": [
            types.SimpleNamespace(pid=7, usedGpuMemory=1 << 20),
            types.SimpleNamespace(pid=8, usedGpuMemory=None),
        ],
        **answers,
    }


def h100(**answers: Any) -> dict[str, Any]:
    """The answers of an H100, except where ``answers`` says otherwise."""
    same = {
        "nvmlDeviceGetName": "NVIDIA H100 80GB HBM3",
        "nvmlDeviceGetPciInfo": types.SimpleNamespace(busId=b"00000000:01:00.0", pciDeviceId=0x2330_10DE),
        "nvmlDeviceGetMemoryInfo": Memory(81_559 << 20, 407 << 20, 0),
        "nvmlDeviceGetCudaComputeCapability": (9, 0),
        "nvmlDeviceGetNumGpuCores": 16_896,
        "nvmlDeviceGetMigMode": [0, 0],
        "nvmlDeviceGetComputeRunningProcesses": [],
    }
    return device(**same | answers)


class FakeNvml(types.ModuleType):
    """The module: everything that is not faked comes from the real one, which needs no library for it."""

    def __init__(self, *devices: dict[str, Any]) -> None:
        super().__init__("pynvml")
        self.present = list(devices)
        self.open = 0
        self.init_error: Exception | None = None
        self.cuda_version = 13_000

    def __getattr__(self, name: str) -> Any:
        """A call on a handle answers from the handle's dictionary; constants and errors are pynvml's own."""
        if name.startswith("nvmlDeviceGet"):
            return lambda handle, *_, **__: self._answer(handle, name)
        return getattr(real, name)

    @staticmethod
    def _answer(handle: dict[str, Any], name: str) -> Any:
        answer = handle.get(name, real.NVMLError(real.NVML_ERROR_NOT_SUPPORTED))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def nvmlInit(self) -> None:
        if self.init_error is not None:
            raise self.init_error
        self.open += 1

    def nvmlShutdown(self) -> None:
        if not self.open:
            raise real.NVMLError(real.NVML_ERROR_UNINITIALIZED)
        self.open -= 1

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return self.cuda_version

    def nvmlDeviceGetCount(self) -> int:
        return len(self.present)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:
        return self.present[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> dict[str, Any]:
        for handle in self.present:
            if handle["nvmlDeviceGetUUID"] == uuid:
                return handle
        raise real.NVMLError(real.NVML_ERROR_NOT_FOUND)

    def nvmlDeviceSetMigMode(self, handle: dict[str, Any], mode: int) -> int:
        handle.setdefault("switched", []).append(mode)
        answer = handle["nvmlDeviceSetMigMode"]
        if isinstance(answer, Exception):
            raise answer
        if answer == real.NVML_SUCCESS:
            handle["nvmlDeviceGetMigMode"] = [mode, mode]
        return int(answer)

    def nvmlEventSetCreate(self) -> list[Any]:
        return []

    def nvmlDeviceRegisterEvents(self, handle: dict[str, Any], kinds: int, events: list[Any]) -> None:
        handle["events"] = events

    def nvmlEventSetWait_v2(self, events: list[Any], timeout_ms: int) -> Any:
        assert timeout_ms == 0
        if not events:
            raise real.NVMLError(real.NVML_ERROR_TIMEOUT)
        return events.pop(0)

    def nvmlEventSetFree(self, events: list[Any]) -> None:
        events.append(None)

    def nvmlDeviceGetGpuInstanceProfileInfo(self, handle: dict[str, Any], profile: int) -> Any:
        if profile not in handle["profiles"]:
            raise real.NVMLError(real.NVML_ERROR_NOT_SUPPORTED)
        return handle["profiles"][profile][0]

    def nvmlDeviceGetGpuInstancePossiblePlacements(self, handle: dict[str, Any], profile_id: int, found: Any, count: Any) -> int:
        placements = next(places for info, places in handle["profiles"].values() if info.id == profile_id)
        for index, (start, size) in enumerate(placements):
            found[index].start, found[index].size = start, size
        count._obj.value = len(placements)
        return 0
