"""Reads the vendors' libraries. Invariant: one library's failure hides no other's devices.

Calls block; the service makes them off the event loop.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from mica.discovery.inventory import Survey
from mica.events import Device, Vendor
from mica.vendors import OPENERS, VendorAbsentError, VendorDriver, VendorError

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
ABSENT_READS: Final = 6
"""An absent vendor is looked for again after that many readings."""

log = logging.getLogger(__name__)


def boot_id() -> str:
    """The kernel's name of this boot."""
    return BOOT_ID.read_text().strip()


class Probe:
    """The vendors of this machine, opened as they appear and opened anew after they failed."""

    def __init__(self, openers: Mapping[Vendor, Callable[[], VendorDriver]] = OPENERS) -> None:
        self._openers = openers
        self._drivers: dict[Vendor, VendorDriver] = {}
        self._absent: dict[Vendor, int] = {}

    def read(self) -> Survey:
        """All devices that answer, and what is wrong with those that do not."""
        devices: list[Device] = []
        failures: dict[str, str] = {}
        silent: dict[Vendor, str] = {}
        for vendor in self._openers:
            try:
                driver = self._driver(vendor)
                if driver is not None:
                    found = driver.devices()
                    devices += found
                    failures |= _failures(driver, found)
            except VendorError as error:
                silent[vendor] = str(error)
                self._close(vendor)
        return Survey(devices=tuple(devices), failures=failures, silent=silent)

    def close(self) -> None:
        """Let go of every library."""
        for vendor in list(self._drivers):
            self._close(vendor)

    def _driver(self, vendor: Vendor) -> VendorDriver | None:
        if vendor in self._drivers:
            return self._drivers[vendor]
        waited = self._absent.get(vendor, ABSENT_READS)
        if waited < ABSENT_READS:
            self._absent[vendor] = waited + 1
            return None
        try:
            self._drivers[vendor] = self._openers[vendor]()
        except VendorAbsentError as error:
            self._absent[vendor] = 1
            log.debug("vendor %s is absent: %s", vendor, error)
            return None
        return self._drivers[vendor]

    def _close(self, vendor: Vendor) -> None:
        driver = self._drivers.pop(vendor, None)
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
