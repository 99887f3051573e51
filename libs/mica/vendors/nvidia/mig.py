"""MIG: GPU instances, each with one compute instance over all of it, made and destroyed through NVML.

Invariant: an instance is known by device, profile and start; NVML's own numbers are looked up anew every time, because they
are not stable. Profile ids are NVML's and nvidia-smi's, as in ``PartitionProfile.profile_id``.
"""

import ctypes
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from mica.events import Partition
from mica.vendors._port import PartitionInUseError, VendorError
from mica.vendors.nvidia._library import nvml_call
from mica.vendors.nvidia._partitions import profile_name

INSTANCES_MAX: Final = 64


class Mig:
    """The MIG instances of this machine, or of the simulated node, through an NVML that somebody else opens and shuts down."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._profiles: dict[str, tuple[tuple[int, str], ...]] = {}

    def living(self) -> dict[str, tuple[Partition, ...]]:
        """The GPU instances of every device in MIG mode; one without a compute instance has no UUID."""
        with nvml_call("MIG instances"):
            devices = (self._nvml.nvmlDeviceGetHandleByIndex(index) for index in range(self._nvml.nvmlDeviceGetCount()))
            return {self._nvml.nvmlDeviceGetUUID(device): self._living_on(device) for device in devices if self._enabled(device)}

    def create(self, device_id: str, partition: Partition) -> Partition:
        """Make the GPU instance and a compute instance over all of it."""
        nvml = self._nvml
        with nvml_call(f"device {device_id}: make {partition.profile} at slot {partition.start}"):
            device = nvml.nvmlDeviceGetHandleByUUID(device_id)
            where = nvml.c_nvmlGpuInstancePlacement_t(partition.start, partition.size)
            instance = nvml.nvmlDeviceCreateGpuInstanceWithPlacement(device, partition.profile_id, ctypes.byref(where))
            try:
                nvml.nvmlGpuInstanceCreateComputeInstance(instance, self._whole_compute_profile(device, instance))
                uuid = self._uuids(device).get(nvml.nvmlGpuInstanceGetInfo(instance).id, "")
            except (nvml.NVMLError, VendorError):
                with suppress(nvml.NVMLError):
                    self._destroy(instance)
                raise
        return Partition(
            profile=partition.profile, profile_id=partition.profile_id, start=partition.start, size=partition.size, uuid=uuid
        )

    def destroy(self, device_id: str, partition: Partition) -> None:
        """Destroy the compute instances and then the GPU instance."""
        nvml = self._nvml
        what = f"device {device_id}: destroy {partition.profile} at slot {partition.start}"
        with nvml_call(what):
            device = nvml.nvmlDeviceGetHandleByUUID(device_id)
            for instance, info in self._instances(device, partition.profile_id):
                if info.placement.start != partition.start:
                    continue
                try:
                    self._destroy(instance)
                except nvml.NVMLError_InUse:
                    raise PartitionInUseError(what, self._pids(device, info.id)) from None

    def _enabled(self, device: Any) -> bool:
        try:
            current, _ = self._nvml.nvmlDeviceGetMigMode(device)
        except self._nvml.NVMLError_NotSupported:
            return False
        return bool(current == self._nvml.NVML_DEVICE_MIG_ENABLE)

    def _living_on(self, device: Any) -> tuple[Partition, ...]:
        uuids = self._uuids(device)
        return tuple(
            Partition(
                profile=name, profile_id=id_, start=info.placement.start, size=info.placement.size, uuid=uuids.get(info.id, "")
            )
            for id_, name in self._profiles_of(device)
            for _, info in self._instances(device, id_)
        )

    def _profiles_of(self, device: Any) -> tuple[tuple[int, str], ...]:
        """Id and name of every profile, media variants included: an instance of any of them must be found."""
        nvml = self._nvml
        key = nvml.nvmlDeviceGetUUID(device)
        if key not in self._profiles:
            found: dict[int, str] = {}
            for number in range(nvml.NVML_GPU_INSTANCE_PROFILE_COUNT):
                with suppress(nvml.NVMLError_NotSupported, nvml.NVMLError_InvalidArgument):
                    info = nvml.nvmlDeviceGetGpuInstanceProfileInfo(device, number)
                    found[info.id] = profile_name(info.name)
            self._profiles[key] = tuple(found.items())
        return self._profiles[key]

    def _instances(self, device: Any, profile_id: int) -> Iterator[tuple[Any, Any]]:
        """The GPU instances of one profile, with what NVML says about each."""
        nvml = self._nvml
        found = (nvml.c_nvmlGpuInstance_t * INSTANCES_MAX)()
        count = ctypes.c_uint(INSTANCES_MAX)
        nvml.nvmlDeviceGetGpuInstances(device, profile_id, found, ctypes.byref(count))
        for index in range(count.value):
            instance = nvml.c_nvmlGpuInstance_t.from_buffer_copy(found, index * ctypes.sizeof(nvml.c_nvmlGpuInstance_t))
            yield instance, nvml.nvmlGpuInstanceGetInfo(instance)

    def _compute_profiles(self, instance: Any) -> Iterator[Any]:
        nvml = self._nvml
        for number in range(nvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT):
            with suppress(nvml.NVMLError_NotSupported, nvml.NVMLError_InvalidArgument):
                yield nvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(
                    instance, number, nvml.NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED
                )

    def _whole_compute_profile(self, device: Any, instance: Any) -> int:
        """The compute profile that covers the whole GPU instance: the one with the most slices."""
        profiles = list(self._compute_profiles(instance))
        if not profiles:
            raise VendorError(f"device {self._nvml.nvmlDeviceGetUUID(device)}: the GPU instance offers no compute instance")
        return int(max(profiles, key=lambda profile: profile.sliceCount).id)

    def _destroy(self, instance: Any) -> None:
        nvml = self._nvml
        for profile in self._compute_profiles(instance):
            found = (nvml.c_nvmlComputeInstance_t * INSTANCES_MAX)()
            count = ctypes.c_uint(INSTANCES_MAX)
            nvml.nvmlGpuInstanceGetComputeInstances(instance, profile.id, found, ctypes.byref(count))
            size = ctypes.sizeof(nvml.c_nvmlComputeInstance_t)
            for index in range(count.value):
                nvml.nvmlComputeInstanceDestroy(nvml.c_nvmlComputeInstance_t.from_buffer_copy(found, index * size))
        nvml.nvmlGpuInstanceDestroy(instance)

    def _mig_devices(self, device: Any) -> Iterator[Any]:
        for index in range(self._nvml.nvmlDeviceGetMaxMigDeviceCount(device)):
            with suppress(self._nvml.NVMLError_NotFound, self._nvml.NVMLError_InvalidArgument):
                yield self._nvml.nvmlDeviceGetMigDeviceHandleByIndex(device, index)

    def _uuids(self, device: Any) -> dict[int, str]:
        """UUID of the MIG device by the id of its GPU instance."""
        nvml = self._nvml
        return {nvml.nvmlDeviceGetGpuInstanceId(mig): nvml.nvmlDeviceGetUUID(mig) for mig in self._mig_devices(device)}

    def _pids(self, device: Any, instance_id: int) -> frozenset[int]:
        nvml = self._nvml
        return frozenset(
            process.pid
            for mig in self._mig_devices(device)
            if nvml.nvmlDeviceGetGpuInstanceId(mig) == instance_id
            for process in nvml.nvmlDeviceGetComputeRunningProcesses(mig)
        )
