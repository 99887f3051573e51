"""Words of PCI: addresses, classes, vendors and speeds.

Invariant: what is not known is empty or 0; a ValueError says what is allowed.
"""

import re
from typing import Final

from mica.events import Vendor
from mica.topology._model import PartKind

ADDRESS: Final = re.compile(r"^(?:(?P<domain>[0-9a-f]{4,8}):)?(?P<bus>[0-9a-f]{2}):(?P<device>[0-9a-f]{2})\.(?P<function>[0-7])$")
ADDRESS_ALLOWED: Final = "a PCI address such as 0000:3b:00.0"
SPEED_ALLOWED: Final = "a PCIe speed such as '16 GT/s'"
VENDORS: Final = {
    0x10DE: Vendor.NVIDIA,
    0x1002: Vendor.AMD,
    0x8086: Vendor.INTEL,
    0x19E5: Vendor.HUAWEI,
    0x17CB: Vendor.QUALCOMM,
}
_SPEED: Final = re.compile(r"^(\d{1,3}(?:\.\d{1,3})?)\s*GT/s(?: PCIe)?$")
_DISPLAY, _ACCELERATOR, _NETWORK, _VGA, _BRIDGE, _OTHER_BRIDGE = 0x03, 0x12, 0x02, 0x0300, 0x0604, 0x0680
_WIDTHS: Final = frozenset({1, 2, 4, 8, 12, 16, 32})


def address(text: str) -> str:
    """A PCI address in sysfs's form: lower case, with a domain of four digits at least. Raises ValueError: it is none."""
    found = ADDRESS.match(text.strip().lower())
    if not found:
        raise ValueError(ADDRESS_ALLOWED)
    domain = (found["domain"] or "0").lstrip("0").rjust(4, "0")
    return f"{domain}:{found['bus']}:{found['device']}.{found['function']}"


def vendor(number: int) -> Vendor | None:
    """The vendor of a PCI vendor identity, if it is one with a name here."""
    return VENDORS.get(number)


def kind(class_code: int, vendor_id: int) -> PartKind | None:
    """What a function of that 16-bit class is to a topology, None if it is of no interest.

    A plain VGA controller is a device only from a maker of accelerators: a server's management chip is one, too.
    """
    base = class_code >> 8
    if class_code == _BRIDGE:
        return PartKind.BRIDGE
    if class_code == _OTHER_BRIDGE and VENDORS.get(vendor_id) is Vendor.NVIDIA:
        return PartKind.NVSWITCH
    if base == _NETWORK:
        return PartKind.NIC
    if base == _ACCELERATOR or (base == _DISPLAY and (class_code != _VGA or vendor_id in VENDORS)):
        return PartKind.DEVICE
    return None


def gt_per_s(text: str) -> float:
    """The transfers a second, in 10^9, of a lane from ``16.0 GT/s PCIe``; 0: not known. Raises ValueError: it is no speed."""
    if not text or text.lower().startswith("unknown"):
        return 0.0
    found = _SPEED.match(text.strip())
    if not found:
        raise ValueError(SPEED_ALLOWED)
    return float(found[1])


def width(number: int) -> int:
    """The lanes of a PCIe link; 0 where the number is none that there is (virtual functions say 0 or 255)."""
    return number if number in _WIDTHS else 0


def bytes_per_s(gt: float, lanes: int) -> int:
    """What a PCIe link gives each way, after line coding: 8b/10b up to 5 GT/s, 128b/130b up to 32, FLITs of 242 in 256 beyond."""
    coding = 8 / 10 if gt <= 5 else 128 / 130 if gt <= 32 else 242 / 256
    return round(gt * 1e9 * coding * lanes / 8)
