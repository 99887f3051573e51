"""A stand-in for the amdsmi module: devices that say what a test wants."""

import types
from collections.abc import Callable
from enum import IntEnum
from typing import Any


class LibraryError(Exception):
    """amdsmi's AmdSmiLibraryException, which is an AmdSmiException."""

    def __init__(self, text: str, err_code: int = 2) -> None:
        super().__init__(text)
        self.err_code = err_code


class Handle:
    """A processor: partition ``partition`` of the device at PCI bus ``bus``."""

    def __init__(self, bus: int, partition: int = 0) -> None:
        self.bus, self.partition = bus, partition
        self.value = bus * 100 + partition + 1


class Compute(IntEnum):
    SPX, DPX, TPX, QPX, CPX = range(1, 6)


class Memory(IntEnum):
    NPS1, NPS2, NPS4, NPS8 = 1, 2, 4, 8


class FakeAmdSmi(types.ModuleType):
    """The amdsmi module with one MI300X behind it. ``says`` replaces what a function answers, for all devices."""

    AmdSmiException = LibraryError
    AmdSmiLibraryException = LibraryError
    AmdSmiMemoryType = types.SimpleNamespace(VRAM="vram")
    AmdSmiTemperatureType = types.SimpleNamespace(HOTSPOT="hotspot")
    AmdSmiTemperatureMetric = types.SimpleNamespace(CURRENT="current", CRITICAL="critical", EMERGENCY="emergency")
    AmdSmiLinkType = types.SimpleNamespace(AMDSMI_LINK_TYPE_XGMI=2)
    AmdSmiComputePartitionType = Compute
    AmdSmiMemoryPartitionType = Memory

    def __init__(self) -> None:
        super().__init__("amdsmi")
        self.buses = [5]
        self.parts = 1
        self.open = 0
        self.starts = 0
        self.failing: dict[str, int] = {}
        self.says: dict[str, Callable[[], Any]] = {}

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("amdsmi_"):
            if name in self.failing:
                raise_it = LibraryError(f"Error code:\n\t{name}: AMDSMI_STATUS", self.failing[name])

                def fail(*_: Any) -> Any:
                    raise raise_it

                return fail
            if name in self.says:
                return lambda *_: self.says[name]()
        return super().__getattribute__(name)

    def amdsmi_init(self) -> None:
        self.open += 1
        self.starts += 1

    def amdsmi_shut_down(self) -> None:
        self.open -= 1

    def amdsmi_get_processor_handles(self) -> list[Handle]:
        return [Handle(bus, partition) for bus in self.buses for partition in range(self.parts)]

    def amdsmi_get_gpu_device_uuid(self, handle: Handle) -> str:
        return f"uuid-{handle.bus}"

    def amdsmi_get_gpu_device_bdf(self, handle: Handle) -> str:
        return f"0000:{handle.bus:02x}:00.{handle.partition}"

    def amdsmi_get_gpu_asic_info(self, handle: Handle) -> dict[str, Any]:
        return {"market_name": "AMD Instinct MI300X", "num_compute_units": 304 // self.parts, "device_id": "0x74a1"}

    def amdsmi_get_gpu_memory_total(self, handle: Handle, kind: str) -> int:
        return 196_592 << 20

    def amdsmi_get_gpu_memory_usage(self, handle: Handle, kind: str) -> int:
        return 3 << 30

    def amdsmi_topo_get_numa_node_number(self, handle: Handle) -> int:
        return 1

    def amdsmi_get_gpu_activity(self, handle: Handle) -> dict[str, Any]:
        return {"gfx_activity": 42}

    def amdsmi_get_power_info(self, handle: Handle) -> dict[str, Any]:
        return {"current_socket_power": "N/A", "average_socket_power": 180}

    def amdsmi_get_temp_metric(self, handle: Handle, sensor: str, metric: str) -> int:
        return {"current": 55, "critical": 100, "emergency": 110}[metric]

    def amdsmi_get_gpu_process_list(self, handle: Handle) -> list[dict[str, Any]]:
        return [{"pid": 9, "memory_usage": {"vram_mem": 1 << 30}}]


class FakePartitionedAmdSmi(FakeAmdSmi):
    """The same with partition modes, as a library that gives all partitions of a device one UUID and all of its memory."""

    def __init__(self) -> None:
        super().__init__()
        self.modes = ["SPX", "NPS1"]
        self.pending = ""
        self.hip_uuids = False
        self.idle = False
        self.reloads = 0

    def amdsmi_get_gpu_compute_partition(self, handle: Handle) -> str:
        return self.modes[0]

    def amdsmi_get_gpu_memory_partition(self, handle: Handle) -> str:
        return self.modes[1]

    def amdsmi_get_gpu_kfd_info(self, handle: Handle) -> dict[str, Any]:
        return {"current_partition_id": handle.partition}

    def amdsmi_get_gpu_enumeration_info(self, handle: Handle) -> dict[str, Any]:
        uuid = f"GPU-{handle.value if self.hip_uuids else 7:016x}"
        return {"hip_uuid": uuid, "hip_id": handle.partition, "drm_render": 128 + handle.partition}

    def amdsmi_get_gpu_process_list(self, handle: Handle) -> list[dict[str, Any]]:
        return [] if self.idle else super().amdsmi_get_gpu_process_list(handle)

    def amdsmi_set_gpu_compute_partition(self, handle: Handle, compute: Compute) -> None:
        self._become(compute.name, self.modes[1])

    def amdsmi_set_gpu_memory_partition(self, handle: Handle, memory: Memory) -> None:
        self.pending = memory.name

    def amdsmi_gpu_driver_reload(self) -> None:
        self.reloads += 1
        self._become("SPX" if self.pending == "NPS1" else "CPX", self.pending)

    def _become(self, compute: str, memory: str) -> None:
        self.modes = [compute, memory]
        self.parts = {"SPX": 1, "DPX": 2, "QPX": 4, "CPX": 8}[compute]
