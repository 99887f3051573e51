"""MIG mode: whether it is on, and whether it can be switched here and now. Invariant: nothing here switches it.

Ampere devices take a reset, which ends every process on them and is not for mica to do; later ones only have to be idle. NVML
wants CAP_SYS_ADMIN of who switches it (the kernel module asks ``capable(CAP_SYS_ADMIN)``): a container has that only if it is
privileged. Source: NVIDIA's MIG user guide, "Enable MIG mode"; nvml.h, nvmlDeviceSetMigMode.
"""

from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from mica.hardware import Model
from mica.vendors.nvidia._library import optional

NEEDS_RESET: Final = 8
"""Major compute capability of the devices that take a reset."""
CAP_SYS_ADMIN: Final = 21
NO_PRIVILEGE: Final = "no privilege: NVML lets root with CAP_SYS_ADMIN alone make MIG instances"
STATUS: Final = Path("/proc/self/status")


class MigMode(Struct, frozen=True):
    """What NVML says of MIG mode; ``pending`` is what a reset makes of it."""

    on: bool
    pending: bool


class Standing(Struct, frozen=True, kw_only=True):
    """What it takes to say whether a device can be switched. ``too_old``: the driver does not know of MIG."""

    mode: MigMode | None
    too_old: bool
    virtual: bool
    privileged: bool
    capability: tuple[int, int]
    model: Model | None


def read_standing(nvml: Any, handle: Any, capability: tuple[int, int], model: Model | None, *, privileged: bool) -> Standing:
    """Ask NVML. Raises NVMLError."""
    mode, too_old = None, False
    try:
        current, pending = nvml.nvmlDeviceGetMigMode(handle)
        mode = MigMode(current == nvml.NVML_DEVICE_MIG_ENABLE, pending == nvml.NVML_DEVICE_MIG_ENABLE)
    except nvml.NVMLError_NotSupported:
        pass
    except nvml.NVMLError_FunctionNotFound:
        too_old = True
    virtual = optional(nvml, "nvmlDeviceGetVirtualizationMode", handle) == nvml.NVML_GPU_VIRTUALIZATION_MODE_VGPU
    return Standing(mode=mode, too_old=too_old, virtual=virtual, privileged=privileged, capability=capability, model=model)


def refusal(standing: Standing) -> str:
    """Why the device can't be partitioned and made whole again; empty when it can, as soon as nobody uses it."""
    mode, ought = standing.mode, standing.model is not None and standing.model.mig
    if standing.virtual and (ought or mode is not None):
        return "a virtual GPU: its host makes MIG instances, not its guest"
    if mode is None:
        if not ought:
            return "no MIG on this model"
        return "the driver is too old for MIG: R450 or later has it" if standing.too_old else "NVML has no MIG mode for it"
    word = "on" if mode.on else "off"
    if mode.pending is not mode.on:
        return f"MIG mode is {word} and waits for a reset to be switched: nvidia-smi --gpu-reset"
    if standing.capability[0] == NEEDS_RESET:
        return f"MIG mode is {word}, and switching it on this device takes a reset: nvidia-smi --gpu-reset"
    return "" if standing.privileged else NO_PRIVILEGE


def may_administer(status: Path = STATUS) -> bool:
    """Whether this process has CAP_SYS_ADMIN; assumed where the kernel does not say."""
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return True
    effective = next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 1 << CAP_SYS_ADMIN)
    return bool(effective >> CAP_SYS_ADMIN & 1)
