"""The MIG geometry that a device offers, read from NVML. Invariant: nothing here comes from a table.

Only what a slice can be made of is listed: the plain profiles. Media and graphics variants of them cover the same slots.
"""

import ctypes
from typing import Any, Final

from mica.events import PartitionProfile

MAX_STARTS: Final = 64
PLAIN_PROFILES: Final = (
    "NVML_GPU_INSTANCE_PROFILE_1_SLICE",
    "NVML_GPU_INSTANCE_PROFILE_1_SLICE_REV2",
    "NVML_GPU_INSTANCE_PROFILE_2_SLICE",
    "NVML_GPU_INSTANCE_PROFILE_3_SLICE",
    "NVML_GPU_INSTANCE_PROFILE_4_SLICE",
    "NVML_GPU_INSTANCE_PROFILE_6_SLICE",
    "NVML_GPU_INSTANCE_PROFILE_7_SLICE",
    "NVML_GPU_INSTANCE_PROFILE_8_SLICE",
)


def partition_profiles(pynvml: Any, handle: Any) -> tuple[PartitionProfile, ...]:
    """The profiles of a device in MIG mode, smallest first."""
    found = (_profile(pynvml, handle, getattr(pynvml, name)) for name in PLAIN_PROFILES)
    return tuple(profile for profile in found if profile is not None)


def _profile(pynvml: Any, handle: Any, profile: int) -> PartitionProfile | None:
    try:
        info = pynvml.nvmlDeviceGetGpuInstanceProfileInfo(handle, profile)
        placements = _placements(pynvml, handle, info.id)
    except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_InvalidArgument):
        return None
    if not placements:
        return None
    return PartitionProfile(
        name=profile_name(info.name),
        profile_id=info.id,
        size=placements[0].size,
        starts=tuple(sorted(placement.start for placement in placements)),
        vram_bytes=info.memorySizeMB << 20,
        compute_slices=info.sliceCount,
        multiprocessors=info.multiprocessorCount,
        max_instances=info.instanceCount,
    )


def _placements(pynvml: Any, handle: Any, profile_id: int) -> list[Any]:
    found = (pynvml.c_nvmlGpuInstancePlacement_t * MAX_STARTS)()
    count = ctypes.c_uint(MAX_STARTS)
    pynvml.nvmlDeviceGetGpuInstancePossiblePlacements(handle, profile_id, found, ctypes.byref(count))
    return list(found[: count.value])


def profile_name(name: str | bytes) -> str:
    """``1g.10gb`` from ``MIG 1g.10gb``; pynvml gives text for some structures and bytes for others."""
    text = name.decode(errors="replace") if isinstance(name, bytes) else name
    return text.removeprefix("MIG ")
