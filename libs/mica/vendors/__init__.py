"""The vendors' own libraries, behind one port.

Owns everything that reads a device. Invariant: a library that is absent makes its vendor absent, and never fails a service.
"""

from mica.vendors._listing import one_each
from mica.vendors._open import OPENERS, open_drivers, open_partition_driver
from mica.vendors._port import (
    DeviceReading,
    PartitionDriver,
    PartitionInUseError,
    VendorAbsentError,
    VendorDriver,
    VendorError,
)

__all__ = [
    "OPENERS",
    "DeviceReading",
    "PartitionDriver",
    "PartitionInUseError",
    "VendorAbsentError",
    "VendorDriver",
    "VendorError",
    "one_each",
    "open_drivers",
    "open_partition_driver",
]
