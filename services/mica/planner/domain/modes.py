"""Which modes a device offers to a request.

What a device offers by itself is told by ``mica.vendors``; here is what others' claims of it leave. Invariant: every device is
carved in one mode at a time (I4); one that nobody claims can be carved in another, as far as it and its policy allow that.
"""

from collections.abc import Set as AbstractSet
from typing import Final

from mica.events import Device, Mode, Runtime
from mica.planner.domain.claims import DeviceClaims
from mica.planner.domain.ledgers import runtime_of
from mica.planner.domain.misfits import Misfit
from mica.vendors import SHIMS, shares_in_space

ALL_MODES: Final = frozenset(Mode)


def offered_modes(device: Device, runtime: Runtime, *, switching: bool = True) -> tuple[Mode, ...] | Misfit:
    """The modes that a device can be carved in for ``runtime``, strongest first. ``switching``: it may be, for that."""
    runtime = runtime_of(runtime, device.vendor)
    if device.runtimes and runtime not in device.runtimes:
        wanted = "none that is its maker's own" if runtime is Runtime.NATIVE else f"not {runtime}"
        return Misfit("runtime", f"offers {', '.join(device.runtimes)}, {wanted}")
    may_switch = switching and device.switchable
    modes: list[Mode] = []
    if device.partitioned or (may_switch and device.profiles):
        modes.append(Mode.HARDWARE)
    if runtime in SHIMS.get(device.vendor, frozenset()) and (may_switch or not device.partitioned):
        modes += [Mode.FCSP, Mode.TIMESLICE] if shares_in_space(device) else [Mode.TIMESLICE]
    if modes:
        return tuple(modes)
    return Misfit("runtime", f"not partitioned{_why_not(device, switching)}, and no shim enforces {runtime} on {device.vendor}")


def choose_modes(
    claims: DeviceClaims, slice_id: str, runtime: Runtime, allowed: AbstractSet[Mode], *, may_switch: bool = True
) -> tuple[Mode, ...] | Misfit:
    """The modes in which a device could hold the slice, strongest first, or why none will do.

    Software modes are one choice: a device that can be carved in space is not carved in time unless that is asked for.
    ``may_switch``: it may be partitioned, or made whole, for that.
    """
    device = claims.device
    if device is None:
        return Misfit("device_id", "no longer in the inventory")
    current = claims.mode(slice_id)
    if current is not None:
        may_switch = True  # it was, for those who hold it: the inventory may not have seen that yet
    offered = offered_modes(device, runtime, switching=may_switch)
    if isinstance(offered, Misfit):
        return offered
    usable = [mode for mode in offered if mode in allowed]
    if not usable:
        return Misfit("mode", _cannot(device, offered, allowed, switching=may_switch))
    if current is None:
        software = [mode for mode in usable if mode is not Mode.HARDWARE][:1]
        return (*(mode for mode in usable if mode is Mode.HARDWARE), *software)
    if current not in usable:
        return Misfit("mode", f"carved as {current} while others hold it", possible=True, mode=current)
    return (current,)


def has_stronger(device: Device, mode: Mode) -> bool:
    """Whether the device could be carved more strongly than ``mode``: then it is the worse choice for it."""
    return mode is Mode.TIMESLICE and shares_in_space(device)


def would_switch(claims: DeviceClaims, mode: Mode) -> bool:
    """Whether a device that nobody claims would have to be partitioned, or made whole again, for ``mode``."""
    device = claims.device
    return device is not None and not claims.claims and device.partitioned is not (mode is Mode.HARDWARE)


def _why_not(device: Device, switching: bool) -> str:  # noqa: FBT001 - the caller's own word
    if device.hardware_refusal:
        return f" ({device.hardware_refusal})"
    return " (and not to be switched, by policy)" if device.switchable and not switching else ""


def _cannot(device: Device, offered: tuple[Mode, ...], allowed: AbstractSet[Mode], *, switching: bool) -> str:
    if not allowed:
        return "policies and the request leave no mode"
    why_not = _why_not(device, switching)
    if device.partitioned:
        return f"partitioned{why_not}: hardware only"
    if Mode.HARDWARE in allowed:
        return f"not partitioned{why_not}" if device.profiles or why_not else "has no hardware partitions"
    what = "compute capability " + ".".join(map(str, device.compute_capability)) if device.compute_capability else device.model
    return f"{what} offers {', '.join(offered)}"
