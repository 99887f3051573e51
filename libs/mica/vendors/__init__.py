"""The vendors' own libraries, behind one port.

Owns everything that reads a device. Invariant: a library that is absent makes its vendor absent, and never fails a service.
"""

from mica.vendors._listing import one_each
from mica.vendors._modes import SHIMS, device_modes, shares_in_space
from mica.vendors._open import OPENERS, all_openers, open_drivers
from mica.vendors._patience import Patience
from mica.vendors._port import (
    NO_ACCESS,
    Access,
    Checkpointer,
    DeviceReading,
    Finding,
    NoSuchProcessError,
    PartitionInUseError,
    ProcessStage,
    VendorAbsentError,
    VendorDriver,
    VendorError,
)
from mica.vendors._watchdog import Answer, Watchdog

__all__ = [
    "NO_ACCESS",
    "OPENERS",
    "SHIMS",
    "Access",
    "Answer",
    "Checkpointer",
    "DeviceReading",
    "Finding",
    "NoSuchProcessError",
    "PartitionInUseError",
    "Patience",
    "ProcessStage",
    "VendorAbsentError",
    "VendorDriver",
    "VendorError",
    "Watchdog",
    "all_openers",
    "device_modes",
    "one_each",
    "open_drivers",
    "shares_in_space",
]
