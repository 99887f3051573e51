"""Finds the vendors that this machine has. Invariant: a vendor's module is imported only when it is asked for."""

import logging
from collections.abc import Callable, Mapping
from typing import Final

from mica.vendors._port import VendorAbsentError, VendorDriver, VendorError

log = logging.getLogger(__name__)


def _nvidia() -> VendorDriver:
    from mica.vendors.nvidia import NvidiaDriver

    return NvidiaDriver()


def _amd() -> VendorDriver:
    from mica.vendors.amd import AmdDriver

    return AmdDriver()


def _intel() -> VendorDriver:
    from mica.vendors.intel import IntelDriver

    return IntelDriver()


def _opencl() -> VendorDriver:
    from mica.vendors.opencl import OpenClDriver

    return OpenClDriver()


OPENERS: Final[Mapping[str, Callable[[], VendorDriver]]] = {
    "nvidia": _nvidia,
    "amd": _amd,
    "intel": _intel,
    "opencl": _opencl,
}
"""How to open each library that mica can read, by its name: a vendor's own has the vendor's, and comes before all others.

Raises VendorAbsentError where the machine has none of it.
"""


def open_drivers(openers: Mapping[str, Callable[[], VendorDriver]] = OPENERS) -> tuple[VendorDriver, ...]:
    """A driver for every library that is there. A library that is there and fails is logged and left out."""
    drivers: list[VendorDriver] = []
    for name, open_driver in openers.items():
        try:
            drivers.append(open_driver())
        except VendorAbsentError as error:
            log.debug("%s is absent: %s", name, error)
        except VendorError as error:
            log.warning("%s is left out: %s", name, error)
    return tuple(drivers)
