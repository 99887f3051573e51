"""The MIG geometry that a device offers, read from NVML. Invariant: sizes, slots and numbers are NVML's, never a table's.

Only what instances share beside slots and compute slices is not for NVML to say: the catalogue knows it, or else the name.
"""

import ctypes
from typing import Any, Final

from mica.events import PartitionProfile
from mica.hardware import Model
from mica.vendors._port import VendorError
from mica.vendors.nvidia._library import text

MAX_STARTS: Final = 64
MEDIA: Final = "media_extensions"
_MEDIA_MARK: Final = "+me"


def partition_profiles(pynvml: Any, handle: Any, model: Model | None = None) -> tuple[PartitionProfile, ...]:
    """The profiles of a device in MIG mode: the smallest first, and those with more or fewer engines behind the plain ones."""
    known = {} if model is None else {each.profile_id: each for each in model.partition_profiles()}
    found = (_profile(pynvml, handle, number, known) for number in range(pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT))
    return tuple(sorted((profile for profile in found if profile is not None), key=_order))


def _order(profile: PartitionProfile) -> tuple[bool, int, int, int]:
    plain = "+" not in profile.name and "-" not in profile.name
    return not plain, profile.size, profile.compute_slices, profile.profile_id


def _profile(pynvml: Any, handle: Any, number: int, known: dict[int, PartitionProfile]) -> PartitionProfile | None:
    try:
        info = pynvml.nvmlDeviceGetGpuInstanceProfileInfo(handle, number)
        placements = _placements(pynvml, handle, info.id)
    except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_InvalidArgument):
        return None
    if not placements:
        return None
    name = profile_name(info.name)
    listed = known.get(info.id)
    return PartitionProfile(
        name=name,
        profile_id=info.id,
        size=placements[0].size,
        starts=tuple(sorted(placement.start for placement in placements)),
        vram_bytes=info.memorySizeMB << 20,
        compute_slices=info.sliceCount,
        multiprocessors=info.multiprocessorCount,
        max_instances=info.instanceCount,
        needs=listed.needs if listed is not None and listed.name == name else {MEDIA: 1} if _MEDIA_MARK in name else {},
    )


def _placements(pynvml: Any, handle: Any, profile_id: int) -> list[Any]:
    found = (pynvml.c_nvmlGpuInstancePlacement_t * MAX_STARTS)()
    count = ctypes.c_uint(MAX_STARTS)
    pynvml.nvmlDeviceGetGpuInstancePossiblePlacements(handle, profile_id, found, ctypes.byref(count))
    if count.value > MAX_STARTS:
        raise VendorError(f"profile {profile_id}: NVML counts {count.value} starts, allowed: at most {MAX_STARTS}")
    return list(found[: count.value])


def profile_name(name: str | bytes) -> str:
    """``1g.10gb`` from ``MIG 1g.10gb``."""
    return text(name).removeprefix("MIG ")
