"""Reads the vendors' libraries. Invariant: neither a library nor a device that fails, or that hangs, hides or delays another.

Every library is listed, and every device examined, in a thread of its own (``mica.vendors.Watchdog``); what has not answered
when the survey's time is over is left out of it and not asked again before it comes back. Calls block, for no longer than
that time; the service makes them off the event loop.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from mica.discovery.health import SILENT, Failure
from mica.discovery.inventory import Survey
from mica.discovery.libraries import Examined, Library, Listing, examine
from mica.events import Device
from mica.vendors import Answer, Finding, VendorDriver, VendorError, Watchdog, all_openers, one_each

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
DEADLINE_S: Final = 2.0
FIRST_S: Final = 10.0
"""How long the first survey waits: libraries are loaded and initialised there, and a node without its devices is no start."""
LISTING, LINKS, CLOSING, DEVICE = "listing", "links", "closing", "device"

log = logging.getLogger(__name__)


def boot_id() -> str:
    """The kernel's name of this boot."""
    return BOOT_ID.read_text().strip()


class Probe:
    """The libraries of this machine, opened as they appear and opened anew after they failed."""

    def __init__(
        self,
        openers: Mapping[str, Callable[[], VendorDriver]] | None = None,
        *,
        watchdog: Watchdog | None = None,
        deadline_s: float = DEADLINE_S,
        first_s: float | None = None,
    ) -> None:
        """``first_s``: how long the first survey may take, if it is another time."""
        self._libraries = {
            name: Library(name, opener) for name, opener in (all_openers() if openers is None else openers).items()
        }
        self._watchdog = watchdog or Watchdog()
        self._deadline_s = deadline_s
        self._within_s = deadline_s if first_s is None else first_s
        self._no_answer = ""
        self._told: frozenset[str] = frozenset()
        self._findings: list[Finding] = []
        self._busy = threading.Lock()

    def read(self) -> Survey:
        """All devices that answer, and what is wrong with those that do not.

        While a vendor's own library is silent, or some device of it never said who it is, what only another library lists of
        its devices is left out: it is not the whole.
        """
        with self._busy:
            return self._read()

    def _read(self) -> Survey:
        self._findings = []
        self._no_answer = f"no answer within {self._within_s:g} s"
        late = self._watchdog.begin(self._within_s)
        self._within_s = self._deadline_s
        for library in self._libraries.values():
            library.begin()
        for overdue in late:
            self._take(overdue)
        for library in self._libraries.values():
            if library.due() and (self._watchdog.stuck(library.name, CLOSING) or not self._ask(library, LISTING, library.list)):
                library.error = self._no_answer
        while (answer := self._watchdog.next()) is not None:
            self._take(answer)
        for library in self._libraries.values():
            self._note_unanswered(library)
        return self._survey()

    def close(self) -> None:
        """Let go of every library, but of those in which a call still hangs."""
        with self._busy:
            self._watchdog.begin(self._deadline_s)
            for library in self._libraries.values():
                self._let_go(library)
            while self._watchdog.next() is not None:
                pass

    def _ask(self, library: Library, what: str, call: Callable[[], object], key: str = "") -> bool:
        return self._watchdog.ask((library.name, what, key), call)

    def _take(self, answer: Answer) -> None:
        """An answer has come; of one that is late only what would be lost is kept: the open library, and findings."""
        name, what, key = answer.name
        library, late = self._libraries[name], answer.round < self._watchdog.round
        if what == LISTING:
            self._take_listing(library, answer, late=late)
        elif what == DEVICE and isinstance(answer.value, Examined):
            self._findings += answer.value.findings
            if not late:
                library.take(key, answer.value)
        elif what == DEVICE and not late:
            library.errors[key] = Failure(_text(answer.error))
        elif what == LINKS and answer.error is None:
            library.take_links(answer.value)
        elif what == LINKS:
            library.links_error = _text(answer.error)

    def _take_listing(self, library: Library, answer: Answer, *, late: bool) -> None:
        if answer.error is not None:
            if not late:
                library.error = _text(answer.error)
            self._let_go(library)
            return
        listing: Listing = answer.value
        library.opened(listing)
        if late or listing.driver is None:
            return
        library.keys = listing.keys
        for key in listing.keys:
            if not self._ask(library, DEVICE, partial(examine, listing.driver, key, library.devices.get(key)), key):
                library.errors[key] = Failure(self._no_answer, SILENT)
        if not self._ask(library, LINKS, listing.driver.links):
            library.links_error = self._no_answer

    def _let_go(self, library: Library) -> None:
        """Close the library, to be opened anew; one in which a call hangs can't be: it may well be inside of the library."""
        driver = library.driver
        if driver is not None and not self._watchdog.stuck(library.name):
            library.driver = None
            self._ask(library, CLOSING, driver.close)

    def _note_unanswered(self, library: Library) -> None:
        stuck = self._watchdog.stuck
        if library.error == "" and stuck(library.name, LISTING):
            library.error = self._no_answer
        for key in library.keys:
            if stuck(library.name, DEVICE, key):
                library.errors[key] = Failure(self._no_answer, SILENT)
        if stuck(library.name, LINKS):
            library.links_error = self._no_answer

    def _survey(self) -> Survey:
        speaking = [library for library in self._libraries.values() if not library.error]
        silent = {library.name: library.error for library in self._libraries.values() if library.error}
        nameless = {library.name: library.nameless() for library in speaking if library.nameless()}
        own = {library.name: {device.id for device in library.listed()} for library in speaking}
        devices = tuple(
            device
            for device in one_each(library.listed() for library in speaking)
            if device.vendor not in silent and (device.vendor not in nameless or device.id in own[device.vendor])
        )
        failures, warnings = _attribute(devices, speaking)
        warnings += [error for errors in nameless.values() for error in errors]
        warnings += [f"{name} is left out: {error}" for name, error in silent.items()]
        warnings += [f"{library.name}: links: {library.links_error}" for library in speaking if library.links_error]
        self._tell(warnings)
        return Survey(
            devices=devices,
            failures=failures,
            silent=silent,
            nameless=nameless,
            findings=tuple(self._findings),
            links=tuple(link for library in self._libraries.values() for link in library.links),
            links_lack=any(library.error or library.links_error for library in self._libraries.values()),
            warnings=tuple(warnings),
        )

    def _tell(self, warnings: list[str]) -> None:
        """Once per cause: there may be no device that could tell of it."""
        for warning in warnings:
            if warning not in self._told:
                log.warning("%s", warning)
        self._told = frozenset(warnings)


def _attribute(devices: tuple[Device, ...], libraries: list[Library]) -> tuple[dict[str, Failure], list[str]]:
    """The devices whose first library could not read them; that another library could not is a warning about the node."""
    failures: dict[str, Failure] = {}
    warnings: list[str] = []
    listed: set[str] = set()
    known = {device.id for device in devices}
    for library in libraries:
        for device_id, failure in library.failures().items():
            if device_id in known and device_id not in listed:
                failures[device_id] = failure
            else:
                warnings.append(f"{library.name}: {device_id}: {failure.message}")
        listed |= {device.id for device in library.listed()}
    return failures, warnings


def _text(error: Exception | None) -> str:
    """A library's own words, or what kind of error it was that nobody expects of one."""
    return str(error) if isinstance(error, VendorError) else f"{type(error).__name__}: {error}"
