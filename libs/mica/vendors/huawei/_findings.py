"""What is wrong with a chip. Invariant: a fault that lasts is told every time, an event once.

Severities: an error code by what Huawei's MindCluster does about it (faultCode.json: nothing; run the work again; reset the chip
or take it out of use), one that is not in the table by the chip's own health; an event by its own severity.
"""

import ctypes
from collections.abc import Iterator, Mapping
from typing import Final

from mica.events import Severity
from mica.vendors._port import Finding, VendorError
from mica.vendors.huawei._abi import ERRORS_MAX, Code, EventFilter, FaultEvent
from mica.vendors.huawei._library import Chip, Dcmi, DcmiError
from mica.vendors.huawei._reading import optional_number

EVENTS_MAX: Final = 16
"""Told of in one call; the rest in the next."""
TEXT_BYTES: Final = 256
BY_LEVEL: Final = (Severity.INFO, Severity.INFO, Severity.WARNING, Severity.FATAL)
"""Health of a chip: well, minor, major, critical. Severity of an event: notice, minor, major, critical."""
KNOWN: Final[Mapping[int, tuple[str, Severity]]] = {
    0x80E01801: ("ecc", Severity.WARNING),
    0x80E01805: ("ecc", Severity.INFO),
    0x80E01809: ("ecc", Severity.INFO),
    0x80E18400: ("ecc", Severity.INFO),
    0x80E18401: ("ecc", Severity.INFO),
    0x80E18402: ("ecc", Severity.FATAL),
    0x80E18404: ("ecc", Severity.FATAL),
    0x80C98000: ("fault", Severity.WARNING),
    0x80C98002: ("fault", Severity.WARNING),
    0x80C98008: ("fault", Severity.WARNING),
    0x80CB8008: ("fault", Severity.WARNING),
    0x80C98001: ("fault", Severity.FATAL),
    0x80E18005: ("fault", Severity.FATAL),
    0x80E3A201: ("fault", Severity.FATAL),
}
"""Kind and severity of the error codes that matter most: HBM, AI cores and links."""


def findings(dcmi: Dcmi, chip: Chip, device_id: str) -> tuple[Finding, ...]:
    """What happened since the last call, and what is wrong now. Raises VendorError."""
    try:
        health = optional_number(dcmi, "dcmi_get_device_health", chip)
        return (*_lasting(dcmi, chip, device_id, health or 0), *_events(dcmi, chip, device_id))
    except DcmiError as error:
        if error.code != Code.NOT_READY:
            raise
        message = "not ready: most likely fallen off the bus"
        return (
            Finding(device_id=device_id, kind="bus", severity=Severity.FATAL, message=message, code=-error.code, lasting=True),
        )


def _lasting(dcmi: Dcmi, chip: Chip, device_id: str, health: int) -> Iterator[Finding]:
    count, codes = ctypes.c_int(), (ctypes.c_uint * ERRORS_MAX)()
    dcmi.call("dcmi_get_device_errorcode_v2", chip.card, chip.device, ctypes.byref(count), codes, ERRORS_MAX)
    if not 0 <= count.value <= ERRORS_MAX:
        raise VendorError(f"chip {chip.key}: {count.value} error codes, allowed: 0 to {ERRORS_MAX}")
    by_health = BY_LEVEL[health] if 0 <= health < len(BY_LEVEL) else Severity.FATAL
    told = codes[: count.value]
    for code in told:
        kind, severity = KNOWN.get(code, ("fault", by_health))
        message = f"0x{code:08X}: {_text(dcmi, chip, code)}"
        yield Finding(device_id=device_id, kind=kind, severity=severity, message=message, code=code, lasting=True)
    if by_health is not Severity.INFO and not told:
        message = f"health {health}, and no error code"
        yield Finding(device_id=device_id, kind="fault", severity=by_health, message=message, lasting=True)


def _events(dcmi: Dcmi, chip: Chip, device_id: str) -> Iterator[Finding]:
    """Events that are over as they are told. Those of a fault that begins are left out: its code lasts."""
    for _ in range(EVENTS_MAX):
        event = FaultEvent()
        try:
            dcmi.call("dcmi_get_fault_event", chip.card, chip.device, 0, EventFilter(), ctypes.byref(event))
        except DcmiError as error:
            if error.code in (Code.TIME_OUT, Code.MISSING, Code.NOT_SUPPORTED, Code.NOT_PERMITTED):
                return
            raise
        if event.assertion == 1:
            continue
        level = min(event.severity, len(BY_LEVEL) - 1)
        kind, severity = KNOWN.get(event.event_id, ("fault", BY_LEVEL[level]))
        over = " is over" if event.assertion == 0 else ""
        yield Finding(
            device_id=device_id,
            kind=kind,
            severity=Severity.INFO if over else severity,
            message=f"0x{event.event_id:08X}: {event.event_name.decode(errors='replace')}{over}",
            code=event.event_id,
        )


def _text(dcmi: Dcmi, chip: Chip, code: int) -> str:
    text = ctypes.create_string_buffer(TEXT_BYTES)
    try:
        dcmi.call("dcmi_get_device_errorcode_string", chip.card, chip.device, ctypes.c_uint(code), text, TEXT_BYTES)
    except DcmiError as error:
        return str(error)
    return text.value.decode(errors="replace")
