"""What is wrong with AMD devices, and what happened to them. Invariant: nothing here waits for something to happen.

amdsmi has one queue of events for all devices that are watched: whoever takes from it puts aside what is the others'.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from threading import Lock
from typing import Any, Final

from mica.events import Severity
from mica.vendors._port import Finding
from mica.vendors.amd._library import Session, Socket, error_code, optional
from mica.vendors.amd._readings import temperature

LOST: Final = frozenset({6, 12, 14})
"""AMDSMI_STATUS_DRM_ERROR, _IO and _FILE_ERROR: what is left of a device that is no longer there."""
EVENTS_AT_ONCE: Final = 64
EVENTS: Final[Mapping[str, tuple[str, Severity, str]]] = {
    "VMFAULT": ("fault", Severity.INFO, "a process touched memory that is not mapped"),
    "THERMAL_THROTTLE": ("thermal", Severity.WARNING, "slowed down by its temperature"),
    "GPU_PRE_RESET": ("fault", Severity.WARNING, "it hung and is being reset: what runs on it is lost"),
    "GPU_POST_RESET": ("fault", Severity.INFO, "it was reset"),
}
"""By amdsmi's name of an event: kind, severity and what it means."""


class Health:
    """The findings of this machine's devices. Safe to use from several threads."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = Lock()
        self._readers: dict[str, Any] = {}
        self._starts = 0
        self._told: dict[str, list[tuple[str, str]]] = {}

    def findings(self, device_id: str) -> tuple[Finding, ...]:
        """What the device says. Raises VendorError."""
        session, smi = self._session, self._session.smi
        with session.use(f"device {device_id}") as sockets:
            socket = session.find(sockets, device_id)
            try:
                smi.amdsmi_get_gpu_memory_total(socket.handles[0], smi.AmdSmiMemoryType.VRAM)
            except smi.AmdSmiLibraryException as error:
                if error_code(error) not in LOST:
                    raise
                said = f"fell off the bus: {' '.join(str(error).split())}"
                finding = Finding(
                    device_id=device_id,
                    kind="bus",
                    severity=Severity.FATAL,
                    message=said,
                    code=error_code(error),
                    lasting=True,
                )
                return (finding,)
            happened = [EVENTS[name] + (said,) for name, said in self._events(sockets, socket) if name in EVENTS]
            return (
                *(
                    Finding(device_id=device_id, kind=kind, severity=severity, message=f"{message} ({said})")
                    for kind, severity, message, said in happened
                ),
                *(
                    Finding(device_id=device_id, kind=kind, severity=severity, message=message, lasting=True)
                    for kind, severity, message in _state(smi, socket.handles[0])
                ),
            )

    def close(self) -> None:
        """Stop watching."""
        for reader in self._readers.values():
            with suppress(self._session.smi.AmdSmiException):
                reader.stop()
        self._readers.clear()

    def _events(self, sockets: tuple[Socket, ...], socket: Socket) -> list[tuple[str, str]]:
        """Name and text of what happened to the device since the last look."""
        smi = self._session.smi
        if not hasattr(smi, "AmdSmiEventReader"):
            return []
        with self._lock:
            if self._starts != self._session.starts:
                self._readers.clear()
                self._starts = self._session.starts
            watched = socket.name in self._readers
        if not watched:  # not under the lock: the device may hang
            types = [getattr(smi.AmdSmiEvtNotificationType, name) for name in EVENTS]
            with suppress(smi.AmdSmiException):
                self._readers[socket.name] = smi.AmdSmiEventReader(socket.handles[0], types)
        owners = {each.handles[0].value: each.name for each in sockets}
        with self._lock:
            for reader in [*self._readers.values()][:1]:
                with suppress(smi.AmdSmiException):  # it raises where nothing happened
                    for event in reader.read(0, EVENTS_AT_ONCE):
                        owner = owners.get(event["processor_handle"].value, "")
                        self._told.setdefault(owner, []).append((event["event"], event["message"]))
            return self._told.pop(socket.name, [])


def _state(smi: Any, handle: Any) -> Iterator[tuple[str, Severity, str]]:
    """What is so now."""
    uncorrected = (optional(smi, "amdsmi_get_gpu_total_ecc_count", handle) or {}).get("uncorrectable_count")
    if isinstance(uncorrected, int) and uncorrected:
        said = f"{uncorrected} memory errors that could not be corrected since the driver was loaded"
        yield "ecc", Severity.WARNING, said
    now, critical, emergency = (temperature(smi, handle, metric) for metric in ("CURRENT", "CRITICAL", "EMERGENCY"))
    if now is not None and emergency and now >= emergency:
        yield "thermal", Severity.FATAL, f"{now} C, at {emergency} C it shuts down"
    elif now is not None and critical and now >= critical:
        yield "thermal", Severity.WARNING, f"{now} C, at {critical} C it slows down"
