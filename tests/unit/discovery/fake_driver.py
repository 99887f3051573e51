"""A vendor's library as a test wants it, and a watchdog whose time is over when nobody is left who could answer."""

import threading
from collections.abc import Set as AbstractSet
from queue import SimpleQueue

from mica.events import Device, Link
from mica.vendors import DeviceReading, Finding, VendorDriver, VendorError
from mica.vendors._watchdog import Answer, Name, Watchdog


class FakeDriver(VendorDriver):
    """Lists what it is given; devices named in ``failing`` do not answer, and nothing does while ``error`` is set.

    What is named in ``hanging`` (a device, ``keys``, ``links`` or ``close``) does not return before ``release``.
    """

    def __init__(self, *devices: Device, name: str = "nvidia") -> None:
        self.name = name
        self.listed = list(devices)
        self.failing: set[str] = set()
        self.error = ""
        self.closed = 0
        self.linked: tuple[Link, ...] = ()
        self.found: dict[str, list[Finding]] = {}
        self.hanging: set[str] = set()
        self.asked: list[str] = []
        self.inside = threading.Event()
        self._released = threading.Event()

    def release(self) -> None:
        """Let all that hangs return."""
        self.hanging.clear()
        self._released.set()

    def hang(self, *names: str) -> None:
        """From now on they do not return."""
        self._released = threading.Event()
        self.hanging.update(names)

    def keys(self) -> tuple[str, ...]:
        self._enter("keys")
        if self.error:
            raise VendorError(self.error)
        return tuple(device.id for device in self.listed)

    def describe(self, key: str) -> Device:
        self._enter(key)
        return next(device for device in self.listed if device.id == key)

    def sample(self, device_id: str) -> DeviceReading:
        if device_id in self.failing:
            raise VendorError(f"device {device_id}: GPU is lost")
        return DeviceReading(vram_used_bytes=0, vram_total_bytes=24 << 30)

    def findings(self, device_id: str) -> tuple[Finding, ...]:
        """What lasts every time, all else once."""
        found = tuple(self.found.get(device_id, ()))
        self.found[device_id] = [finding for finding in found if finding.lasting]
        return found

    def links(self) -> tuple[Link, ...]:
        self._enter("links")
        return self.linked

    def compute_processes(self, device_id: str) -> list[tuple[int, int]]:
        return []

    def close(self) -> None:
        self._enter("close")
        self.closed += 1

    def _enter(self, what: str) -> None:
        self.asked.append(what)
        if what in self.hanging:
            released = self._released
            self.inside.set()
            released.wait()


def impatient(*drivers: FakeDriver) -> Watchdog:
    """A watchdog that waits for every answer that can come, and gives up at once when only what hangs is left."""

    def hangs(name: Name) -> bool:
        what = {"listing": "keys", "links": "links", "closing": "close"}.get(name[1], name[2])
        return any(driver.name == name[0] and what in driver.hanging for driver in drivers)

    def wait(answers: "SimpleQueue[Answer]", awaited: AbstractSet[Name], left_s: float) -> Answer | None:
        del left_s
        return None if all(hangs(name) for name in awaited) else answers.get()

    return Watchdog(wait=wait)
