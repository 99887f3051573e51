"""What is wrong with NVIDIA devices, and what happened to them. Invariant: nothing here waits for something to happen.

Every device has an event set of its own, so that threads that look after different devices share nothing. NVML tells of an Xid
once, and so does this; what follows from a fatal one is for others to remember. A device that is lost has nothing to say but the
Xids that came before: that it is lost is an error, here as in everything else that is asked of it.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from mica.events import Severity
from mica.vendors._port import Finding
from mica.vendors.nvidia._library import nvml_call, optional
from mica.vendors.nvidia._xid import judge_xid

EVENTS_AT_ONCE: Final = 64
"""How many events one look takes at most."""


class Watch:
    """One device's event set; none where it has no such events."""

    def __init__(self, nvml: Any, device_id: str) -> None:
        self.handle = nvml.nvmlDeviceGetHandleByUUID(device_id)
        self.events: Any = None
        if (optional(nvml, "nvmlDeviceGetSupportedEventTypes", self.handle) or 0) & nvml.nvmlEventTypeXidCriticalError:
            self.events = nvml.nvmlEventSetCreate()
            try:
                nvml.nvmlDeviceRegisterEvents(self.handle, nvml.nvmlEventTypeXidCriticalError, self.events)
            except nvml.NVMLError:
                nvml.nvmlEventSetFree(self.events)
                raise


class Health:
    """The findings of this machine's devices; no device is looked after by two threads at a time."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._watches: dict[str, Watch] = {}

    def findings(self, device_id: str) -> tuple[Finding, ...]:
        """What the device says. Raises VendorError."""
        with nvml_call(f"device {device_id}"):
            watch = self._watches.get(device_id)
            if watch is None:
                watch = self._watches.setdefault(device_id, Watch(self._nvml, device_id))
            told: list[Finding] = []
            try:
                told.extend(_xid(device_id, number) for number in self._numbers(watch))
                return (*told, *self._state(device_id, watch.handle))
            except self._nvml.NVMLError:
                if not told:
                    raise
                return tuple(told)  # NVML does not tell of them again; the error comes with the next look

    def close(self) -> None:
        """Free every event set."""
        for watch in self._watches.values():
            if watch.events is not None:
                with suppress(self._nvml.NVMLError):
                    self._nvml.nvmlEventSetFree(watch.events)
        self._watches.clear()

    def _numbers(self, watch: Watch) -> Iterator[int]:
        for _ in range(EVENTS_AT_ONCE if watch.events is not None else 0):
            try:
                event = self._nvml.nvmlEventSetWait_v2(watch.events, 0)
            except self._nvml.NVMLError_Timeout:
                return
            if event.eventType == self._nvml.nvmlEventTypeXidCriticalError:
                yield event.eventData

    def _state(self, device_id: str, handle: Any) -> Iterator[Finding]:
        """What is so now."""
        for kind, severity, message in (*self._memory(handle), *self._heat(handle)):
            yield Finding(device_id=device_id, kind=kind, severity=severity, message=message, lasting=True)

    def _memory(self, handle: Any) -> Iterator[tuple[str, Severity, str]]:
        nvml = self._nvml
        rows = optional(nvml, "nvmlDeviceGetRemappedRows", handle)
        if rows is not None and rows[3]:
            yield "ecc", Severity.FATAL, "memory rows that failed can not be replaced: no spare rows are left"
        elif rows is not None and rows[2]:
            yield "ecc", Severity.WARNING, "memory rows that failed wait for a reset to be replaced"
        if rows is None and optional(nvml, "nvmlDeviceGetRetiredPagesPendingStatus", handle):
            yield "ecc", Severity.WARNING, "memory pages that failed wait for a reset to be retired"
        uncorrected = optional(
            nvml, "nvmlDeviceGetTotalEccErrors", handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
        )
        if uncorrected:
            yield "ecc", Severity.WARNING, f"{uncorrected} memory errors since the last reset that could not be corrected"

    def _heat(self, handle: Any) -> Iterator[tuple[str, Severity, str]]:
        nvml = self._nvml
        now = optional(nvml, "nvmlDeviceGetTemperature", handle, nvml.NVML_TEMPERATURE_GPU) or 0
        shutdown = optional(nvml, "nvmlDeviceGetTemperatureThreshold", handle, nvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN)
        slowdown = optional(nvml, "nvmlDeviceGetTemperatureThreshold", handle, nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN)
        reasons = self._slowed(handle)
        if shutdown and now >= shutdown:
            yield "thermal", Severity.FATAL, f"{now} C, at {shutdown} C it shuts down"
        elif slowdown and now >= slowdown:
            yield "thermal", Severity.WARNING, f"{now} C, at {slowdown} C it slows down"
        elif reasons & (nvml.nvmlClocksEventReasonHwThermalSlowdown | nvml.nvmlClocksEventReasonSwThermalSlowdown):
            yield "thermal", Severity.WARNING, f"slowed down by its temperature, {now} C"
        if reasons & nvml.nvmlClocksEventReasonHwPowerBrakeSlowdown:
            yield "fault", Severity.WARNING, "slowed down by the power supply's brake"

    def _slowed(self, handle: Any) -> int:
        """Why its clocks are low, in NVML's bits; the call's older name is tried where a library lacks the newer one."""
        found = optional(self._nvml, "nvmlDeviceGetCurrentClocksEventReasons", handle)
        if found is None:
            found = optional(self._nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", handle)
        return int(found or 0)


def _xid(device_id: str, number: int) -> Finding:
    severity, message = judge_xid(number)
    return Finding(device_id=device_id, kind="xid", severity=severity, message=message, code=number)
