"""Reads and partitions NVIDIA devices. Invariant: whatever NVML does wrong comes out as one VendorError about one device."""

from collections.abc import Mapping
from typing import Final

from mica.events import Device, Link, Partition
from mica.vendors._port import Access, Checkpointer, DeviceReading, Finding, VendorDriver, VendorError
from mica.vendors.nvidia._access import by_uuid, device_nodes
from mica.vendors.nvidia._checkpoint import CudaCheckpointer
from mica.vendors.nvidia._device import describe, memory
from mica.vendors.nvidia._health import Health
from mica.vendors.nvidia._library import close_nvml, nvml_call, open_nvml, optional, simulated, simulation_dir
from mica.vendors.nvidia._links import Ports, join, read_ports
from mica.vendors.nvidia._mode import may_administer
from mica.vendors.nvidia._mps import mps_pipe
from mica.vendors.nvidia.mig import Mig

DEVICES_MAX: Final = 1024


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
        self._health = Health(self._nvml)
        self._privileged = simulated() or may_administer()

    def keys(self) -> tuple[str, ...]:
        """Indices."""
        with nvml_call("nvmlDeviceGetCount"):
            count = self._nvml.nvmlDeviceGetCount()
        if not 0 <= count <= DEVICES_MAX:
            raise VendorError(f"nvmlDeviceGetCount: {count} devices, allowed: at most {DEVICES_MAX}")
        return tuple(str(index) for index in range(count))

    def describe(self, key: str) -> Device:
        """The device of that index."""
        with nvml_call(f"nvidia device {key}"):
            device = describe(self._nvml, int(key), mps_pipe(simulation_dir()), privileged=self._privileged)
        return self._mig.judge(device)

    def sample(self, device_id: str) -> DeviceReading:
        """Counters of a device or of a MIG device; a MIG device has memory counters only."""
        nvml = self._nvml
        with nvml_call(f"device {device_id}"):
            handle = nvml.nvmlDeviceGetHandleByUUID(device_id)
            total, _, used = memory(nvml, handle)
            utilisation = optional(nvml, "nvmlDeviceGetUtilizationRates", handle)
            return DeviceReading(
                vram_used_bytes=used,
                vram_total_bytes=total,
                utilisation_ppm=None if utilisation is None else utilisation.gpu * 10_000,
                power_mw=optional(nvml, "nvmlDeviceGetPowerUsage", handle),
                temperature_c=optional(nvml, "nvmlDeviceGetTemperature", handle, nvml.NVML_TEMPERATURE_GPU),
            )

    def compute_processes(self, device_id: str) -> list[tuple[int, int]]:
        """Process id and VRAM of each process with a compute context; 0 bytes where NVML does not say."""
        with nvml_call(f"device {device_id}"):
            handle = self._nvml.nvmlDeviceGetHandleByUUID(device_id)
            running = self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        return [(process.pid, process.usedGpuMemory or 0) for process in running]

    def links(self) -> tuple[Link, ...]:
        """The NVLinks; a device that does not answer has none."""
        return join([ports for ports in map(self._ports, self.keys()) if ports is not None])

    def findings(self, device_id: str) -> tuple[Finding, ...]:
        """Xids, memory errors, heat, and whether the device is there at all."""
        return self._health.findings(device_id)

    def living(self) -> Mapping[str, tuple[Partition, ...]]:
        """The GPU instances of every device in MIG mode; of one that does not answer, those it had when it last did."""
        return self._mig.living(self.keys())

    def create(self, device_id: str, partition: Partition) -> Partition:
        """Make a GPU instance with one compute instance over all of it, and switch MIG mode on for it where need be."""
        return self._mig.create(device_id, partition)

    def destroy(self, device_id: str, partition: Partition) -> None:
        """Destroy a GPU instance and its compute instances."""
        self._mig.destroy(device_id, partition)

    def make_whole(self, device_id: str) -> None:
        """Destroy the GPU instances that nobody uses and switch MIG mode off."""
        self._mig.make_whole(device_id)

    def access(self, device_id: str, partition: Partition | None) -> Access:
        """By UUID; in a simulation there are no device nodes."""
        nodes: tuple[str, ...] = ()
        if not simulated():
            with nvml_call(f"device {device_id}: its device nodes"):
                nodes = device_nodes(self._nvml, device_id, partition)
        return by_uuid(partition.uuid if partition is not None else device_id, nodes)

    def checkpointer(self) -> Checkpointer:
        """The CUDA driver's checkpoint calls."""
        return CudaCheckpointer()

    def close(self) -> None:
        """Shut NVML down."""
        if self._open:
            self._open = False
            self._health.close()
            close_nvml()

    def _ports(self, key: str) -> Ports | None:
        try:
            with nvml_call(f"nvidia device {key}: NVLink"):
                return read_ports(self._nvml, self._nvml.nvmlDeviceGetHandleByIndex(int(key)))
        except VendorError:
            return None
