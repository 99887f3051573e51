"""What is known of one vendor's library from one survey to the next, and what is asked of it.

Invariant: what is asked (``list``, ``examine``) runs in a thread of its own and touches nothing that is kept here; what comes of
it is taken over by whoever hears the answer.
"""

import logging
from collections.abc import Callable
from typing import Any, Final, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from mica.discovery.health import Failure
from mica.events import Device, Link
from mica.topology import TopologyError, pcie_path
from mica.vendors import Finding, VendorAbsentError, VendorDriver, VendorError

ABSENT_READS: Final = 6
"""An absent library is looked for again after that many readings."""

log = logging.getLogger(__name__)
T = TypeVar("T")


class Listing(Struct, frozen=True):
    """An open library and its names of what it has; no driver where the machine has no such library."""

    driver: VendorDriver | None
    keys: tuple[str, ...] = ()


class Examined(Struct, frozen=True):
    """What a device said. ``device`` is None where it did not even say what it is; ``error`` is empty when all went well."""

    device: Device | None
    error: str
    findings: tuple[Finding, ...]


def examine(driver: VendorDriver, key: str, known: Device | None) -> Examined:
    """Describe the device, see whether it answers, and hear what was found on it, in whatever state it is."""
    device, error = _attempt(lambda: driver.describe(key))
    device_id = device.id if device is not None else known.id if known is not None else ""
    findings: tuple[Finding, ...] | None = ()
    if device is not None:
        device = _plugged(device)
        _, error = _attempt(lambda: driver.sample(device_id))
    if device_id:
        findings, unheard = _attempt(lambda: driver.findings(device_id))
        error = error or unheard
    return Examined(device, error, tuple(findings or ()))


def _plugged(device: Device) -> Device:
    """With the bridges above it, which the kernel knows and few libraries tell."""
    if device.pcie_path or device.simulated or not device.pci_bus_id:
        return device
    try:
        return replace(device, pcie_path=pcie_path(device.pci_bus_id))
    except TopologyError as error:
        log.debug("%s: %s", device.id, error)
        return device


def _attempt(call: Callable[[], T]) -> tuple[T | None, str]:
    try:
        return call(), ""
    except VendorError as error:
        return None, str(error)
    except Exception as error:
        log.debug("a library's answer could not be used", exc_info=error)
        return None, f"{type(error).__name__}: {error}"


class Library:
    """One library. ``devices``: as they were last described, by its own names of them."""

    def __init__(self, name: str, opener: Callable[[], VendorDriver]) -> None:
        self.name = name
        self._opener = opener
        self._absent_for = ABSENT_READS
        self.driver: VendorDriver | None = None
        self.devices: dict[str, Device] = {}
        self.links: tuple[Link, ...] = ()
        self.begin()

    def begin(self) -> None:
        """A new survey."""
        self.keys: tuple[str, ...] = ()
        self.described: set[str] = set()
        self.errors: dict[str, Failure] = {}
        self.error = ""
        self.links_error = ""

    def due(self) -> bool:
        """Whether it is to be asked: one that is absent only now and then."""
        if self.driver is None and self._absent_for < ABSENT_READS:
            self._absent_for += 1
            return False
        return True

    def list(self) -> Listing:
        """Open it if need be, and list what it has.

        Raises:
            VendorError: it does not answer.
        """
        driver = self.driver
        if driver is None:
            try:
                driver = self._opener()
            except VendorAbsentError as error:
                log.debug("%s is absent: %s", self.name, error)
                return Listing(None)
        try:
            return Listing(driver, tuple(driver.keys()))
        except Exception:
            if driver is not self.driver:
                driver.close()
            raise

    def opened(self, listing: Listing) -> None:
        """Take over what the listing opened, or that there is nothing to open."""
        self.driver = listing.driver
        self._absent_for = ABSENT_READS if listing.driver is not None else 1

    def take(self, key: str, examined: Examined) -> None:
        """A device has answered."""
        if examined.device is not None:
            self.devices[key] = examined.device
            self.described.add(key)
        if examined.error:
            self.errors[key] = Failure(examined.error)

    def take_links(self, links: Any) -> None:
        """The links are known."""
        self.links, self.links_error = tuple(links), ""

    def listed(self) -> tuple[Device, ...]:
        """The devices that it has, in its order: those that did not answer as they were last described."""
        fresh = {self.devices[key].id for key in self.described}
        return tuple(
            self.devices[key]
            for key in self.keys
            if key in self.devices and (key in self.described or self.devices[key].id not in fresh)
        )

    def failures(self) -> dict[str, Failure]:
        """By device id, those that it has and that could not be read."""
        shown = {device.id for device in self.listed()}
        named = {self.devices[key].id: failure for key, failure in self.errors.items() if key in self.devices}
        sound = {self.devices[key].id for key in self.described if key not in self.errors}
        return {id_: failure for id_, failure in named.items() if id_ in shown - sound}

    def nameless(self) -> tuple[str, ...]:
        """The errors of devices that it has and that never said who they are."""
        return tuple(
            f"{self.name} device {key}: {failure.message}" for key, failure in self.errors.items() if key not in self.devices
        )
