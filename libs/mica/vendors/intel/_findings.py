"""What is wrong with a device, or happened to it: sysman's events, states and counters. Invariant: never waits for anything."""

import ctypes
from collections.abc import Iterator
from typing import Final

from mica.events import Severity
from mica.vendors._port import Finding
from mica.vendors.intel import _structures as zes
from mica.vendors.intel._library import Handle, Sysman, SysmanError
from mica.vendors.intel._meters import Meters
from mica.vendors.intel._reading import memory, temperature_c

EVENTS: Final = {
    0: ("bus", Severity.FATAL, "detached"),
    4: ("thermal", Severity.INFO, "its frequency was throttled"),
    6: ("thermal", Severity.WARNING, "its temperature was critical"),
    9: ("ecc", Severity.WARNING, "the health of its memory changed"),
    10: ("fault", Severity.WARNING, "the health of a Xe Link port changed"),
    11: ("bus", Severity.WARNING, "the health of its PCI link changed"),
    13: ("ecc", Severity.WARNING, "errors that were not corrected"),
    14: ("fault", Severity.FATAL, "it requires a reset"),
    15: ("fault", Severity.FATAL, "it is in survivability mode"),
}
"""By bit of ``zes_event_type_flag_t``."""
_WANTED: Final = sum(1 << bit for bit in EVENTS)

MEMORY_HEALTH: Final = {
    2: (Severity.WARNING, "its memory is degraded"),
    3: (Severity.FATAL, "its memory is in a critical state"),
    4: (Severity.FATAL, "its memory is to be replaced"),
}
RESETS: Final = (("it is wedged", Severity.FATAL), ("a repair of it needs a reset", Severity.WARNING))
"""By bit of ``zes_reset_reason_flag_t``."""


def register(sysman: Sysman, handle: int) -> bool:
    """Ask for the device's events; False where it has none to tell. Raises VendorError."""
    try:
        sysman.call("zesDeviceEventRegister", Handle(handle), ctypes.c_uint32(_WANTED))
    except SysmanError as error:
        if error.number == 0x78000003 or not error.number:
            return False
        raise
    return True


def heard(sysman: Sysman, handle: int, device_id: str) -> Iterator[Finding]:
    """The events since the last call. Raises VendorError."""
    devices, events, count = (Handle * 1)(handle), (ctypes.c_uint32 * 1)(), ctypes.c_uint32()
    for driver in sysman.drivers[:1]:
        sysman.call("zesDriverEventListen", Handle(driver), ctypes.c_uint32(0), 1, devices, ctypes.byref(count), events)
    for bit, (kind, severity, message) in EVENTS.items():
        if events[0] >> bit & 1:
            yield Finding(device_id=device_id, kind=kind, severity=severity, message=message, code=1 << bit)


def states(sysman: Sysman, handle: int, device_id: str) -> Iterator[Finding]:
    """What is wrong with it now. Raises VendorError."""
    state = sysman.optional("zesDeviceGetState", handle, zes.DeviceState())
    for bit, (message, severity) in enumerate(RESETS):
        if state is not None and state.reset >> bit & 1:
            yield Finding(device_id=device_id, kind="fault", severity=severity, message=message, code=1 << bit, lasting=True)
    health = memory(sysman, handle).health
    if health in MEMORY_HEALTH:
        severity, message = MEMORY_HEALTH[health]
        yield Finding(device_id=device_id, kind="ecc", severity=severity, message=message, code=health, lasting=True)
    heat = temperature_c(sysman, handle)
    if heat is not None and 0 < heat[1] <= heat[0]:
        message = f"{heat[0]} °C, allowed: less than {heat[1]}"
        yield Finding(device_id=device_id, kind="thermal", severity=Severity.WARNING, message=message, lasting=True)


def errors(sysman: Sysman, meters: Meters, place: tuple[str, int], device_id: str) -> Iterator[Finding]:
    """Errors that were not corrected since the last call; ``place``: PCI address and handle. Raises VendorError."""
    count = meters.new_errors(sysman, *place)
    if count:
        message = f"{count} errors that were not corrected"
        yield Finding(device_id=device_id, kind="ecc", severity=Severity.WARNING, message=message, code=zes.UNCORRECTABLE)
