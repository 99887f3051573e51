"""MIG: GPU instances, each with one compute instance over all of it, made and destroyed through NVML.

Invariant: an instance is known by device, profile and start; NVML's own numbers are looked up anew every time, because they
are not stable. Profile ids are NVML's and nvidia-smi's, as in ``PartitionProfile.profile_id``. A mode that does not take
effect at once is taken back: no reset of somebody else's brings about what was given up here.
"""

import ctypes
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from msgspec import structs

from mica.events import Device, Partition
from mica.vendors._port import PartitionInUseError, VendorError
from mica.vendors.nvidia._library import nvml_call, optional
from mica.vendors.nvidia._mode import NEEDS_RESET, NO_PRIVILEGE
from mica.vendors.nvidia._partitions import profile_name

INSTANCES_MAX: Final = 64

log = logging.getLogger(__name__)


class Mig:
    """The MIG instances of this machine, or of the simulated node, through an NVML that somebody else opens and shuts down."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._profiles: dict[str, tuple[tuple[int, str], ...]] = {}
        self._seen: dict[str, tuple[str, tuple[Partition, ...] | None]] = {}
        self._silent: dict[str, str] = {}
        self._denied: set[str] = set()

    def judge(self, device: Device) -> Device:
        """The device, with what NVML has refused about it before: it says only then who may not do what."""
        if device.id not in self._denied or device.hardware_refusal:
            return device
        return structs.replace(device, switchable=False, hardware_refusal=NO_PRIVILEGE)

    def living(self, keys: Sequence[str]) -> dict[str, tuple[Partition, ...]]:
        """The GPU instances of every device in MIG mode; one without a compute instance has no UUID.

        A device that does not answer is told of once, and is taken to have what it had before: instances do not go by themselves.
        """
        for key in keys:
            try:
                with nvml_call(f"nvidia device {key}: MIG instances"):
                    self._seen[key] = self._look(int(key))
                self._silent.pop(key, None)
            except VendorError as error:
                if self._silent.get(key) != str(error):
                    log.warning("%s", error)
                self._silent[key] = str(error)
        seen = (self._seen.get(key) for key in keys)
        return {each[0]: each[1] for each in seen if each is not None and each[1] is not None}

    def create(self, device_id: str, partition: Partition) -> Partition:
        """Make the GPU instance and a compute instance over all of it; what is there of them stays."""
        nvml = self._nvml
        what = f"device {device_id}: make {partition.profile} at slot {partition.start}"
        with nvml_call(what), self._permitted(device_id, what):
            device = nvml.nvmlDeviceGetHandleByUUID(device_id)
            was_off = not self._enabled(device)
            if was_off:
                self._switch(device_id, device, on=True)
            try:
                return structs.replace(partition, uuid=self._make(device, partition))
            except (nvml.NVMLError, VendorError):
                with suppress(nvml.NVMLError, VendorError):
                    if was_off:
                        self._switch(device_id, device, on=False)
                raise

    def destroy(self, device_id: str, partition: Partition) -> None:
        """Destroy the compute instances and then the GPU instance."""
        nvml = self._nvml
        what = f"device {device_id}: destroy {partition.profile} at slot {partition.start}"
        with nvml_call(what), self._permitted(device_id, what):
            device = nvml.nvmlDeviceGetHandleByUUID(device_id)
            instance = self._find(device, partition) if self._enabled(device) else None
            if instance is not None:
                self._destroy(what, device, instance)

    def make_whole(self, device_id: str) -> None:
        """Destroy the GPU instances, unless a process is in one, and switch MIG mode off."""
        nvml = self._nvml
        what = f"device {device_id}: switch MIG mode off"
        with nvml_call(what), self._permitted(device_id, what):
            device = nvml.nvmlDeviceGetHandleByUUID(device_id)
            if not self._enabled(device):
                return
            self._refuse_reset(what, device)
            pids = self._pids(device)
            if pids:
                raise PartitionInUseError(what, pids)
            for id_, _ in self._profiles_of(device):
                for instance, _ in list(self._instances(device, id_)):
                    self._destroy(what, device, instance)
            self._switch(device_id, device, on=False)

    def _look(self, index: int) -> tuple[str, tuple[Partition, ...] | None]:
        device = self._nvml.nvmlDeviceGetHandleByIndex(index)
        enabled = self._enabled(device)
        return self._nvml.nvmlDeviceGetUUID(device), self._living_on(device) if enabled else None

    def _enabled(self, device: Any) -> bool:
        mode = optional(self._nvml, "nvmlDeviceGetMigMode", device)
        return mode is not None and bool(mode[0] == self._nvml.NVML_DEVICE_MIG_ENABLE)

    @contextmanager
    def _permitted(self, device_id: str, what: str) -> Iterator[None]:
        """Remember whether NVML lets us; it says so only when it is asked to do something."""
        try:
            yield
        except self._nvml.NVMLError_NoPermission:
            self._denied.add(device_id)
            raise VendorError(f"{what}: {NO_PRIVILEGE}") from None
        self._denied.discard(device_id)

    def _refuse_reset(self, what: str, device: Any) -> None:
        if self._nvml.nvmlDeviceGetCudaComputeCapability(device)[0] == NEEDS_RESET:
            raise VendorError(f"{what}: this takes a reset: nvidia-smi --gpu-reset")

    def _switch(self, device_id: str, device: Any, *, on: bool) -> None:
        """Switch MIG mode on a device that nobody uses, and see that it took effect; else it stays as it was."""
        nvml = self._nvml
        what = f"device {device_id}: switch MIG mode {'on' if on else 'off'}"
        self._refuse_reset(what, device)
        pids = self._pids(device)
        if pids:
            raise PartitionInUseError(what, pids)
        modes = (nvml.NVML_DEVICE_MIG_DISABLE, nvml.NVML_DEVICE_MIG_ENABLE)
        try:
            status = nvml.nvmlDeviceSetMigMode(device, modes[on])
        except nvml.NVMLError_InUse:
            raise PartitionInUseError(what, self._pids(device)) from None
        if status == nvml.NVML_SUCCESS and self._enabled(device) is on:
            return
        with suppress(nvml.NVMLError):
            nvml.nvmlDeviceSetMigMode(device, modes[not on])
        if status == nvml.NVML_ERROR_IN_USE:
            raise PartitionInUseError(what, self._pids(device))
        raise VendorError(f"{what}: {nvml.NVMLError(status) if status else 'it did not take effect'}")

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
        """Id and name of every profile: an instance of any of them must be found."""
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

    def _find(self, device: Any, partition: Partition) -> Any:
        """The living GPU instance of that profile and start, or None."""
        there = self._instances(device, partition.profile_id)
        return next((instance for instance, info in there if info.placement.start == partition.start), None)

    def _instances(self, device: Any, profile_id: int) -> Iterator[tuple[Any, Any]]:
        """The GPU instances of one profile, with what NVML says about each."""
        nvml = self._nvml
        found = (nvml.c_nvmlGpuInstance_t * INSTANCES_MAX)()
        count = ctypes.c_uint(INSTANCES_MAX)
        nvml.nvmlDeviceGetGpuInstances(device, profile_id, found, ctypes.byref(count))
        for index in range(_sound(count.value)):
            instance = nvml.c_nvmlGpuInstance_t.from_buffer_copy(found, index * ctypes.sizeof(nvml.c_nvmlGpuInstance_t))
            yield instance, nvml.nvmlGpuInstanceGetInfo(instance)

    def _make(self, device: Any, partition: Partition) -> str:
        """The UUID of the instance, which is made or completed where need be."""
        nvml = self._nvml
        instance = self._find(device, partition)
        if instance is None:
            where = nvml.c_nvmlGpuInstancePlacement_t(partition.start, partition.size)
            instance = nvml.nvmlDeviceCreateGpuInstanceWithPlacement(device, partition.profile_id, ctypes.byref(where))
        return self._complete(device, instance)

    def _complete(self, device: Any, instance: Any) -> str:
        """The UUID of the GPU instance's compute instance, made where there is none; else the instance goes, too."""
        nvml = self._nvml
        try:
            id_ = nvml.nvmlGpuInstanceGetInfo(instance).id
            if id_ not in self._uuids(device):
                nvml.nvmlGpuInstanceCreateComputeInstance(instance, self._whole_compute_profile(device, instance))
            return str(self._uuids(device).get(id_, ""))
        except (nvml.NVMLError, VendorError):
            with suppress(nvml.NVMLError):
                self._take_apart(instance)
            raise

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

    def _destroy(self, what: str, device: Any, instance: Any) -> None:
        try:
            self._take_apart(instance)
        except self._nvml.NVMLError_InUse:
            raise PartitionInUseError(what, self._pids(device, self._nvml.nvmlGpuInstanceGetInfo(instance).id)) from None

    def _take_apart(self, instance: Any) -> None:
        nvml = self._nvml
        for profile in self._compute_profiles(instance):
            found = (nvml.c_nvmlComputeInstance_t * INSTANCES_MAX)()
            count = ctypes.c_uint(INSTANCES_MAX)
            nvml.nvmlGpuInstanceGetComputeInstances(instance, profile.id, found, ctypes.byref(count))
            size = ctypes.sizeof(nvml.c_nvmlComputeInstance_t)
            for index in range(_sound(count.value)):
                nvml.nvmlComputeInstanceDestroy(nvml.c_nvmlComputeInstance_t.from_buffer_copy(found, index * size))
        nvml.nvmlGpuInstanceDestroy(instance)

    def _mig_devices(self, device: Any) -> Iterator[Any]:
        for index in range(_sound(self._nvml.nvmlDeviceGetMaxMigDeviceCount(device))):
            with suppress(self._nvml.NVMLError_NotFound, self._nvml.NVMLError_InvalidArgument):
                yield self._nvml.nvmlDeviceGetMigDeviceHandleByIndex(device, index)

    def _uuids(self, device: Any) -> dict[int, str]:
        """UUID of the MIG device by the id of its GPU instance."""
        nvml = self._nvml
        return {nvml.nvmlDeviceGetGpuInstanceId(mig): nvml.nvmlDeviceGetUUID(mig) for mig in self._mig_devices(device)}

    def _pids(self, device: Any, instance_id: int | None = None) -> frozenset[int]:
        """Whose processes are on the device, or in that GPU instance of it."""
        nvml = self._nvml
        if not self._enabled(device):
            drawing = optional(nvml, "nvmlDeviceGetGraphicsRunningProcesses", device) or []
            return frozenset(process.pid for process in (*nvml.nvmlDeviceGetComputeRunningProcesses(device), *drawing))
        return frozenset(
            process.pid
            for mig in self._mig_devices(device)
            if instance_id in (None, nvml.nvmlDeviceGetGpuInstanceId(mig))
            for process in nvml.nvmlDeviceGetComputeRunningProcesses(mig)
        )


def _sound(count: int) -> int:
    if count > INSTANCES_MAX:
        raise VendorError(f"NVML counts {count} instances, allowed: at most {INSTANCES_MAX}")
    return count
