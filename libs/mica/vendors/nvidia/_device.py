"""Describes NVIDIA devices. Invariant: what NVML does not answer is left at its honest default, never made up.

The catalogue speaks only of what NVML does not say while MIG mode is off: the instances that there could be.
"""

from typing import Any, Final

from msgspec import structs

from mica.events import Device, PartitionProfile, Runtime, Vendor
from mica.hardware import Model
from mica.vendors._port import VendorError
from mica.vendors.nvidia._checkpoint import suspend_refusal
from mica.vendors.nvidia._compute import multiprocessors
from mica.vendors.nvidia._known import contradictions, known_model
from mica.vendors.nvidia._library import optional, simulated, text
from mica.vendors.nvidia._mode import Standing, read_standing, refusal
from mica.vendors.nvidia._partitions import MEDIA, partition_profiles

RUNTIMES: Final = (Runtime.CUDA,)
GREEN_CUDA_VERSION: Final = 12_040
GREEN_CAPABILITY: Final = (7, 0)
"""From when on drivers have green contexts, and from which compute capability on they partition a device."""
VRAM_MAX: Final = 1 << 44
"""More than any device has, in bytes: whatever claims to have more is misread."""


def describe(nvml: Any, index: int, pipe: str, *, privileged: bool) -> Device:
    """The device of that index; ``pipe`` is the node's MPS daemon's. Raises NVMLError, VendorError."""
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    total, reserved, _ = memory(nvml, handle)
    pci = nvml.nvmlDeviceGetPciInfo(handle)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    model = known_model(pci.pciDeviceId, total)
    standing = read_standing(nvml, handle, (major, minor), model, privileged=privileged)
    partitioned = standing.mode is not None and standing.mode.on
    profiles = _profiles(nvml, handle, standing)
    cores = optional(nvml, "nvmlDeviceGetNumGpuCores", handle) or 0
    why_not = refusal(standing)
    version = _cuda_version(nvml)
    device = Device(
        id=nvml.nvmlDeviceGetUUID(handle),
        index=index,
        vendor=Vendor.NVIDIA,
        model=nvml.nvmlDeviceGetName(handle),
        vram_bytes=total,
        reserve_bytes=reserved,
        multiprocessors=multiprocessors(cores, (major, minor)) or max((p.multiprocessors for p in profiles), default=0),
        compute_capability=(major, minor),
        partitioned=partitioned,
        profiles=profiles,
        compute_slices=max((p.compute_slices for p in profiles), default=0),
        budgets=_budgets(profiles, model),
        switchable=not why_not,
        hardware_refusal=why_not,
        runtimes=RUNTIMES,
        pci_bus_id=text(pci.busId),
        numa_node=_numa_node(nvml, handle),
        simulated=simulated(),
        mps_pipe="" if partitioned else pipe,
        green_contexts=(major, minor) >= GREEN_CAPABILITY and version >= GREEN_CUDA_VERSION,
        suspends=not suspend_refusal(version),
        suspend_refusal=suspend_refusal(version),
    )
    return device if model is None else structs.replace(device, warnings=contradictions(device, model))


def memory(nvml: Any, handle: Any) -> tuple[int, int, int]:
    """Total, reserved and used bytes. Libraries before R510 count the reserve as used. Raises NVMLError, VendorError."""
    try:
        found = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
        total, reserved, used = found.total, found.reserved, found.used
    except (nvml.NVMLError_FunctionNotFound, nvml.NVMLError_NotSupported):
        found = nvml.nvmlDeviceGetMemoryInfo(handle)
        total, reserved, used = found.total, 0, found.used
    if not 0 < total < VRAM_MAX or not 0 <= reserved < total:
        raise VendorError(f"NVML counts {total} bytes of memory, {reserved} of them reserved; allowed: 1 to {VRAM_MAX}")
    return total, reserved, used


def _profiles(nvml: Any, handle: Any, standing: Standing) -> tuple[PartitionProfile, ...]:
    """What NVML lists in MIG mode, and what the catalogue knows of a device that has it off."""
    if standing.mode is None or (standing.virtual and not standing.mode.on):
        return ()
    if standing.mode.on:
        return partition_profiles(nvml, handle, standing.model)
    return standing.model.partition_profiles() if standing.model is not None else ()


def _budgets(profiles: tuple[PartitionProfile, ...], model: Model | None) -> dict[str, int]:
    needed = {name for profile in profiles for name in profile.needs}
    known = {MEDIA: 1} | (model.budgets if model is not None else {})
    return {name: known[name] for name in sorted(needed)}


def _cuda_version(nvml: Any) -> int:
    """Of the driver, such as 12040; 0 where the library does not say."""
    return int(optional(nvml, "nvmlSystemGetCudaDriverVersion_v2") or 0)


def _numa_node(nvml: Any, handle: Any) -> int:
    """The host's NUMA node next to the device (nvmlDeviceGetNumaNodeId would be the device's own memory)."""
    nodes = optional(nvml, "nvmlDeviceGetMemoryAffinity", handle, 1, nvml.NVML_AFFINITY_SCOPE_NODE)
    mask: int = nodes[0] if nodes else 0
    return (mask & -mask).bit_length() - 1
