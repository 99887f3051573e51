"""Finds the vendors that this machine has. Invariant: a vendor's module is imported only when it is asked for."""

import logging
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Final

from mica.vendors._port import VendorAbsentError, VendorDriver, VendorError

log = logging.getLogger(__name__)


def _nvidia() -> VendorDriver:
    from mica.vendors.nvidia import NvidiaDriver

    return NvidiaDriver()


def _amd() -> VendorDriver:
    from mica.vendors.amd import AmdDriver

    return AmdDriver()


def _qualcomm() -> VendorDriver:
    from mica.vendors.qualcomm import QualcommDriver

    return QualcommDriver()


def _huawei() -> VendorDriver:
    from mica.vendors.huawei import HuaweiDriver

    return HuaweiDriver()


def _intel() -> VendorDriver:
    from mica.vendors.intel import IntelDriver

    return IntelDriver()


def _opencl() -> VendorDriver:
    from mica.vendors.opencl import OpenClDriver

    return OpenClDriver()


OPENERS: Final[Mapping[str, Callable[[], VendorDriver]]] = {
    "nvidia": _nvidia,
    "amd": _amd,
    "qualcomm": _qualcomm,
    "huawei": _huawei,
    "intel": _intel,
    "opencl": _opencl,
}
"""How to open each library that mica can read, by its name: a vendor's own has the vendor's, and comes before all others.

Raises VendorAbsentError where the machine has none of it.
"""


OUTSIDE: Final = "mica.vendors"
"""The group of entry points under which other packages offer drivers: the name, and what opens it."""


def all_openers() -> dict[str, Callable[[], VendorDriver]]:
    """Those of mica, then those that other packages offer; one that can not be loaded is logged and left out."""
    found = dict(OPENERS)
    for each in entry_points(group=OUTSIDE):
        try:
            found.setdefault(each.name, each.load())
        except Exception as error:  # noqa: BLE001 - anything at all may be wrong with somebody else's package
            log.warning("%s from %s is left out: %s", each.name, each.value, error)
    return found


def open_drivers(openers: Mapping[str, Callable[[], VendorDriver]] | None = None) -> tuple[VendorDriver, ...]:
    """A driver for every library that is there, of ``all_openers`` by default. One that fails is logged and left out."""
    openers = all_openers() if openers is None else openers
    drivers: list[VendorDriver] = []
    for name, open_driver in openers.items():
        try:
            drivers.append(open_driver())
        except VendorAbsentError as error:
            log.debug("%s is absent: %s", name, error)
        except VendorError as error:
            log.warning("%s is left out: %s", name, error)
    return tuple(drivers)
