"""In which modes a device can be carved. Pure.

Owns the table of what the shims enforce. Invariant: what is said of a device follows from its description alone; what others
claim of it, and what policies leave, is the planner's to say.
"""

from typing import Final

from mica.events import Device, Mode, Runtime, Vendor

SHIMS: Final[dict[Vendor, frozenset[Runtime]]] = {vendor: frozenset({Runtime.OPENCL}) for vendor in Vendor} | {
    Vendor.NVIDIA: frozenset({Runtime.CUDA, Runtime.OPENCL}),
}
"""The runtimes that a shim of mica enforces, by vendor: OpenCL wherever it is. Software modes exist only where one does."""

FCSP_CAPABILITY: Final = (7, 0)
"""Since Volta, kernels of different processes share the device in space and a launch can be preempted."""

PREEMPTIBLE: Final = frozenset({Vendor.CPU})
"""Vendors all of whose devices can do that."""


def device_modes(device: Device) -> tuple[Mode, ...]:
    """The modes that the device offers to some runtime of its own, strongest first."""
    modes = []
    if device.partitioned or (device.switchable and device.profiles):
        modes.append(Mode.HARDWARE)
    enforced = SHIMS[device.vendor] & frozenset(device.runtimes or Runtime)
    if enforced and (device.switchable or not device.partitioned):
        modes += [Mode.FCSP, Mode.TIMESLICE] if shares_in_space(device) else [Mode.TIMESLICE]
    return tuple(modes)


def shares_in_space(device: Device) -> bool:
    """Whether the device runs the work of several processes side by side."""
    capable = device.compute_capability is not None and device.compute_capability >= FCSP_CAPABILITY
    return capable or device.vendor in PREEMPTIBLE
