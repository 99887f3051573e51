"""Reads the vendors' libraries. Invariant: one library's failure hides no other's devices.

Calls block; the service makes them off the event loop.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from mica.discovery.inventory import Survey
from mica.events import Device
from mica.vendors import OPENERS, VendorAbsentError, VendorDriver, VendorError, one_each

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
ABSENT_READS: Final = 6
"""An absent library is looked for again after that many readings."""

log = logging.getLogger(__name__)


def boot_id() -> str:
    """The kernel's name of this boot."""
    return BOOT_ID.read_text().strip()


class Probe:
    """The libraries of this machine, opened as they appear and opened anew after they failed."""

    def __init__(self, openers: Mapping[str, Callable[[], VendorDriver]] = OPENERS) -> None:
        self._openers = openers
        self._drivers: dict[str, VendorDriver] = {}
        self._absent: dict[str, int] = {}
        self._silent: dict[str, str] = {}

    def read(self) -> Survey:
        """All devices that answer, and what is wrong with those that do not.

        While a vendor's own library is silent none of its devices answers: what another library lists of them is not the whole.
        """
        listings: list[tuple[Device, ...]] = []
        failures: dict[str, str] = {}
        silent: dict[str, str] = {}
        for name in self._openers:
            try:
                driver = self._driver(name)
                if driver is not None:
                    found = driver.devices()
                    listings.append(found)
                    failures |= _failures(driver, found)
            except VendorError as error:
                silent[name] = str(error)
                self._close(name)
        self._tell(silent)
        devices = tuple(device for device in one_each(listings) if device.vendor not in silent)
        return Survey(devices=devices, failures=failures, silent=silent)

    def close(self) -> None:
        """Let go of every library."""
        for name in list(self._drivers):
            self._close(name)

    def _tell(self, silent: dict[str, str]) -> None:
        """Once per cause: a library that is silent may have had no device that could tell of it."""
        for name, error in silent.items():
            if self._silent.get(name) != error:
                log.warning("%s is left out: %s", name, error)
        self._silent = silent

    def _driver(self, name: str) -> VendorDriver | None:
        if name in self._drivers:
            return self._drivers[name]
        waited = self._absent.get(name, ABSENT_READS)
        if waited < ABSENT_READS:
            self._absent[name] = waited + 1
            return None
        try:
            self._drivers[name] = self._openers[name]()
        except VendorAbsentError as error:
            self._absent[name] = 1
            log.debug("%s is absent: %s", name, error)
            return None
        return self._drivers[name]

    def _close(self, name: str) -> None:
        driver = self._drivers.pop(name, None)
        if driver is not None:
            driver.close()


def _failures(driver: VendorDriver, devices: tuple[Device, ...]) -> dict[str, str]:
    """The devices that are listed and do not answer."""
    failures: dict[str, str] = {}
    for device in devices:
        try:
            driver.sample(device.id)
        except VendorError as error:
            failures[device.id] = str(error)
    return failures
