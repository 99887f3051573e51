"""Reads NVIDIA devices. Invariant: what NVML does not answer is left at its honest default, never made up."""

from collections.abc import Mapping
from typing import Any, Final

from mica.events import Device, Partition, PartitionProfile, Runtime, Vendor
from mica.vendors._port import Access, DeviceReading, VendorDriver
from mica.vendors.nvidia._compute import multiprocessors
from mica.vendors.nvidia._library import close_nvml, nvml_call, open_nvml, simulated, simulation_dir
from mica.vendors.nvidia._mps import mps_pipe
from mica.vendors.nvidia._partitions import partition_profiles
from mica.vendors.nvidia.mig import Mig

RUNTIMES: Final = (Runtime.CUDA,)
GREEN_CUDA_VERSION: Final = 12_040
GREEN_CAPABILITY: Final = (7, 0)
"""From when on drivers have green contexts, and from which compute capability on they partition a device."""


class NvidiaDriver(VendorDriver):
    """The NVIDIA devices of this machine, or of the simulated node.

    Raises:
        VendorAbsentError: no NVML here, or no driver behind it.
        VendorError: NVML is here and does not start.
    """

    name = "nvidia"

    def __init__(self) -> None:
        self._nvml = open_nvml()
        self._open = True
        self._mig = Mig(self._nvml)

    def keys(self) -> tuple[str, ...]:
        """Indices."""
        with nvml_call("nvmlDeviceGetCount"):
            return tuple(str(index) for index in range(self._nvml.nvmlDeviceGetCount()))

    def describe(self, key: str) -> Device:
        """The device of that index."""
        with nvml_call(f"nvidia device {key}"):
            return self._read(int(key), mps_pipe(simulation_dir()))

    def sample(self, device_id: str) -> DeviceReading:
        """Counters of a device or of a MIG device; a MIG device has memory counters only."""
        with nvml_call(f"device {device_id}"):
            handle = self._nvml.nvmlDeviceGetHandleByUUID(device_id)
            total, _, used = self._memory(handle)
            utilisation = self._optional("nvmlDeviceGetUtilizationRates", handle)
            return DeviceReading(
                vram_used_bytes=used,
                vram_total_bytes=total,
                utilisation_ppm=None if utilisation is None else utilisation.gpu * 10_000,
                power_mw=self._optional("nvmlDeviceGetPowerUsage", handle),
                temperature_c=self._optional("nvmlDeviceGetTemperature", handle, self._nvml.NVML_TEMPERATURE_GPU),
            )

    def compute_processes(self, device_id: str) -> list[tuple[int, int]]:
        """Process id and VRAM of each process with a compute context; 0 bytes where NVML does not say."""
        with nvml_call(f"device {device_id}"):
            handle = self._nvml.nvmlDeviceGetHandleByUUID(device_id)
            running = self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        return [(process.pid, process.usedGpuMemory or 0) for process in running]

    def living(self) -> Mapping[str, tuple[Partition, ...]]:
        """The GPU instances of every device in MIG mode."""
        return self._mig.living()

    def create(self, device_id: str, partition: Partition) -> Partition:
        """Make a GPU instance with one compute instance over all of it."""
        return self._mig.create(device_id, partition)

    def destroy(self, device_id: str, partition: Partition) -> None:
        """Destroy a GPU instance and its compute instances."""
        self._mig.destroy(device_id, partition)

    def access(self, device_id: str, partition: Partition | None) -> Access:
        """By UUID."""
        return Access(visible={"CUDA_VISIBLE_DEVICES": partition.uuid if partition is not None else device_id})

    def close(self) -> None:
        """Shut NVML down."""
        if self._open:
            self._open = False
            close_nvml()

    def _read(self, index: int, pipe: str) -> Device:
        nvml = self._nvml
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        total, reserved, _ = self._memory(handle)
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
        profiles = self._profiles(handle)
        cores = self._optional("nvmlDeviceGetNumGpuCores", handle) or 0
        return Device(
            id=nvml.nvmlDeviceGetUUID(handle),
            index=index,
            vendor=Vendor.NVIDIA,
            model=nvml.nvmlDeviceGetName(handle),
            vram_bytes=total,
            reserve_bytes=reserved,
            multiprocessors=multiprocessors(cores, (major, minor)) or max((p.multiprocessors for p in profiles), default=0),
            compute_capability=(major, minor),
            partitioned=bool(profiles),
            profiles=profiles,
            compute_slices=max((p.compute_slices for p in profiles), default=0),
            runtimes=RUNTIMES,
            pci_bus_id=_text(nvml.nvmlDeviceGetPciInfo(handle).busId),
            numa_node=self._numa_node(handle),
            simulated=simulated(),
            mps_pipe="" if profiles else pipe,
            green_contexts=(major, minor) >= GREEN_CAPABILITY and self._cuda_version() >= GREEN_CUDA_VERSION,
        )

    def _cuda_version(self) -> int:
        """Of the driver, such as 12040; 0 where the library does not say."""
        return int(self._optional("nvmlSystemGetCudaDriverVersion_v2") or 0)

    def _profiles(self, handle: Any) -> tuple[PartitionProfile, ...]:
        """What MIG offers here: nothing while MIG mode is off."""
        mode = self._optional("nvmlDeviceGetMigMode", handle)
        if mode is None or mode[0] != self._nvml.NVML_DEVICE_MIG_ENABLE:
            return ()
        return partition_profiles(self._nvml, handle)

    def _numa_node(self, handle: Any) -> int:
        """The host's NUMA node next to the device (nvmlDeviceGetNumaNodeId would be the device's own memory)."""
        nodes = self._optional("nvmlDeviceGetMemoryAffinity", handle, 1, self._nvml.NVML_AFFINITY_SCOPE_NODE)
        mask: int = nodes[0] if nodes else 0
        return (mask & -mask).bit_length() - 1

    def _memory(self, handle: Any) -> tuple[int, int, int]:
        """Total, reserved and used bytes. A library older than R510 counts what it reserves as used."""
        try:
            memory = self._nvml.nvmlDeviceGetMemoryInfo(handle, version=self._nvml.nvmlMemory_v2)
        except (self._nvml.NVMLError_FunctionNotFound, self._nvml.NVMLError_NotSupported):
            memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
            return memory.total, 0, memory.used
        return memory.total, memory.reserved, memory.used

    def _optional(self, name: str, *arguments: Any) -> Any:
        """What ``name`` answers, or None where the device or the library does not offer it."""
        try:
            return getattr(self._nvml, name)(*arguments)
        except (
            self._nvml.NVMLError_NotSupported,
            self._nvml.NVMLError_FunctionNotFound,
            self._nvml.NVMLError_InvalidArgument,
            self._nvml.NVMLError_NoPermission,
        ):
            return None


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
