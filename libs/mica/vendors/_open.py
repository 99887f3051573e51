"""Finds the vendors that this machine has. Invariant: a vendor's module is imported only when it is asked for."""

import logging
from collections.abc import Callable, Mapping
from typing import Final

from mica.events import Vendor
from mica.vendors._port import PartitionDriver, VendorAbsentError, VendorDriver, VendorError

log = logging.getLogger(__name__)


def _nvidia() -> VendorDriver:
    from mica.vendors.nvidia import NvidiaDriver

    return NvidiaDriver()


def _amd() -> VendorDriver:
    from mica.vendors.amd import AmdDriver

    return AmdDriver()


def _opencl() -> VendorDriver:
    from mica.vendors.opencl import OpenClDriver

    return OpenClDriver()


OPENERS: Final[Mapping[Vendor, Callable[[], VendorDriver]]] = {Vendor.NVIDIA: _nvidia, Vendor.AMD: _amd, Vendor.CPU: _opencl}
"""How to open each vendor that mica can read. Raises VendorAbsentError where the machine has none of it."""


def open_drivers(openers: Mapping[Vendor, Callable[[], VendorDriver]] = OPENERS) -> tuple[VendorDriver, ...]:
    """A driver for every vendor that is there. A library that is there and fails is logged and left out."""
    drivers: list[VendorDriver] = []
    for vendor, open_driver in openers.items():
        try:
            drivers.append(open_driver())
        except VendorAbsentError as error:
            log.debug("vendor %s is absent: %s", vendor, error)
        except VendorError as error:
            log.warning("vendor %s is left out: %s", vendor, error)
    return tuple(drivers)


def open_partition_driver() -> PartitionDriver | None:
    """The driver that makes hardware partitions, or None where the machine has no library for it.

    Raises:
        VendorError: the library is there and does not start.
    """
    from mica.vendors.nvidia.mig import MigDriver

    try:
        return MigDriver()
    except VendorAbsentError as error:
        log.debug("no hardware partitions: %s", error)
        return None
