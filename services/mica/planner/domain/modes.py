"""Which mode a device offers to a request.

Owns the table of what the shims enforce. Invariant: a partitioned device is carved in hardware only, and every device in one mode
at a time (I4).
"""

from collections.abc import Set as AbstractSet
from typing import Final

from mica.events import Device, Mode, Runtime, Vendor
from mica.planner.domain.claims import DeviceClaims
from mica.planner.domain.misfits import Misfit

SHIMS: Final[dict[Vendor, frozenset[Runtime]]] = {vendor: frozenset({Runtime.OPENCL}) for vendor in Vendor} | {
    Vendor.NVIDIA: frozenset({Runtime.CUDA, Runtime.OPENCL}),
}
"""The runtimes that a shim of mica enforces, by vendor: OpenCL wherever it is. Software modes exist only where one does."""

FCSP_CAPABILITY: Final = (7, 0)
"""Since Volta, kernels of different processes share the device in space and a launch can be preempted."""

PREEMPTIBLE: Final = frozenset({Vendor.CPU})
"""Vendors all of whose devices can do that."""

ALL_MODES: Final = frozenset(Mode)


def offered_modes(device: Device, runtime: Runtime) -> tuple[Mode, ...] | Misfit:
    """The modes that a device can be carved in for ``runtime``, strongest first; the first is its natural mode."""
    if device.runtimes and runtime not in device.runtimes:
        return Misfit("runtime", f"offers {', '.join(device.runtimes)}, not {runtime}")
    if device.partitioned:
        return (Mode.HARDWARE,)
    if runtime not in SHIMS.get(device.vendor, frozenset()):
        return Misfit("runtime", f"not partitioned, and no shim enforces {runtime} on {device.vendor}")
    return (Mode.FCSP, Mode.TIMESLICE) if _shares_in_space(device) else (Mode.TIMESLICE,)


def choose_mode(claims: DeviceClaims, slice_id: str, runtime: Runtime, allowed: AbstractSet[Mode]) -> Mode | Misfit:
    """The mode in which a device would hold the slice, or why none will do."""
    device = claims.device
    if device is None:
        return Misfit("device_id", "no longer in the inventory")
    offered = offered_modes(device, runtime)
    if isinstance(offered, Misfit):
        return offered
    usable = [mode for mode in offered if mode in allowed]
    if not usable:
        return Misfit("mode", _cannot(device, offered, allowed))
    current = claims.mode(slice_id)
    if current is None:
        return usable[0]
    if current not in usable:
        return Misfit("mode", f"carved as {current} while others hold it", possible=True, mode=current)
    return current


def has_stronger(device: Device, mode: Mode) -> bool:
    """Whether the device could be carved more strongly than ``mode``: then it is the worse choice for it."""
    return mode is Mode.TIMESLICE and _shares_in_space(device)


def _shares_in_space(device: Device) -> bool:
    capable = device.compute_capability is not None and device.compute_capability >= FCSP_CAPABILITY
    return capable or device.vendor in PREEMPTIBLE


def _cannot(device: Device, offered: tuple[Mode, ...], allowed: AbstractSet[Mode]) -> str:
    wanted = ", ".join(sorted(allowed)) or "no mode"
    if device.partitioned:
        return f"partitioned, so hardware only, and {wanted} is asked for"
    if Mode.HARDWARE in allowed:
        return f"not partitioned, and {wanted} is asked for"
    capability = ".".join(str(part) for part in device.compute_capability or ("unknown",))
    return f"compute capability {capability} offers {', '.join(offered)}, and {wanted} is asked for"
