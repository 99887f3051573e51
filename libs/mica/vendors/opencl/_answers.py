"""What the OpenCL platforms of a machine say of their devices, as data.

Invariant: it is said as it was heard; what a driver does not say is at its default.
"""

from msgspec import Struct


class ListedDevice(Struct, frozen=True, kw_only=True):
    """A device as its driver describes it. ``kind`` is the bits of CL_DEVICE_TYPE; ``uuid`` hexadecimal digits.

    ``subdevices_max``: into how many parts of any number of its units it can be divided; ``subdevices_whole``: which can do all
    that it can.
    ``ordinal`` counts the devices of that name on platforms of that name before it.
    """

    platform: str
    platform_vendor: str
    name: str
    ordinal: int
    kind: int = 0
    vendor_id: int = 0
    memory_bytes: int = 0
    units: int = 0
    subdevices_max: int = 0
    subdevices_whole: bool = False
    uuid: str = ""
    pci_bus_id: str = ""
    fault: str = ""
    """The call that did not answer though every driver has to: the device can not be used."""


class Answers(Struct, frozen=True, kw_only=True):
    """All devices in the loader's order, and what is wrong with platforms as a whole."""

    platforms: int
    devices: tuple[ListedDevice, ...] = ()
    faults: tuple[str, ...] = ()
