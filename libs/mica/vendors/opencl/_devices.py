"""Which of the devices that OpenCL lists are the node's, and whose make they are. Pure.

Invariant: a device whose vendor is unknown is no device, and is said to be none.
"""

from collections.abc import Mapping
from typing import Final

from mica.events import Device, Runtime, Vendor
from mica.vendors.opencl._answers import Answers, ListedDevice
from mica.vendors.opencl._identity import device_id, uuid_id

RUNTIMES: Final = (Runtime.OPENCL,)
CPU_KIND, GPU_KIND, ACCELERATOR_KIND = 1 << 1, 1 << 2, 1 << 3

VENDOR_IDS: Final[Mapping[int, Vendor]] = {
    0x10DE: Vendor.NVIDIA,
    0x1002: Vendor.AMD,
    0x8086: Vendor.INTEL,
    0x5143: Vendor.QUALCOMM,
    0x168C: Vendor.QUALCOMM,
    0x17CB: Vendor.QUALCOMM,
    0x19E5: Vendor.HUAWEI,
}
"""What CL_DEVICE_VENDOR_ID is: the PCI vendor's number. Adreno drivers before some OpenCL 3.0 give numbers that name nobody."""

VENDOR_NAMES: Final[tuple[tuple[str, Vendor], ...]] = (
    ("nvidia", Vendor.NVIDIA),
    ("advanced micro devices", Vendor.AMD),
    ("intel", Vendor.INTEL),
    ("qualcomm", Vendor.QUALCOMM),
    ("huawei", Vendor.HUAWEI),
)
"""What CL_PLATFORM_VENDOR has in it, in whatever case."""

SIMULATED: Final = "mica simulated "
"""How the names of simulated platforms begin (native/sim/opencl)."""


def vendor_of(listed: ListedDevice) -> Vendor | None:
    """Who makes it: a processor is one, whoever does; else by the device's own number, else by the platform's name."""
    if listed.kind & CPU_KIND:
        return Vendor.CPU
    by_name = next((vendor for name, vendor in VENDOR_NAMES if name in listed.platform_vendor.lower()), None)
    return VENDOR_IDS.get(listed.vendor_id, by_name)


def node_devices(answers: Answers, node: str, *, processors: bool) -> tuple[tuple[Device, ...], tuple[str, ...]]:
    """The devices, and what is to be said about those that are left out.

    Two platforms that list one device, by its UUID or its place on the PCI bus: it is the first one's.
    """
    wanted = GPU_KIND | ACCELERATOR_KIND | (CPU_KIND if processors else 0)
    complaints = list(answers.faults) + [f"{_called(listed)}: {listed.fault}" for listed in answers.devices if listed.fault]
    found: dict[str, Device] = {}
    platform_at: dict[str, str] = {}
    for listed in answers.devices:
        if listed.fault or not listed.kind & wanted:
            continue
        vendor = vendor_of(listed)
        if vendor is None:
            complaints.append(f"{_called(listed)}: {_unknown(listed)}")
        elif not listed.pci_bus_id or platform_at.setdefault(listed.pci_bus_id, listed.platform) == listed.platform:
            device = _device(listed, len(found), vendor, node)
            found.setdefault(device.id, device)
    return tuple(found.values()), tuple(complaints)


def _device(listed: ListedDevice, index: int, vendor: Vendor, node: str) -> Device:
    return Device(
        id=uuid_id(listed.uuid) if listed.uuid else device_id(node, listed.platform, listed.name, listed.ordinal),
        index=index,
        vendor=vendor,
        model=listed.name.strip(),
        vram_bytes=listed.memory_bytes,
        multiprocessors=listed.units,
        runtimes=RUNTIMES,
        pci_bus_id=listed.pci_bus_id,
        subdevices_max=listed.subdevices_max,
        subdevices_whole=listed.subdevices_whole,
        simulated=listed.platform.startswith(SIMULATED),
    )


def _called(listed: ListedDevice) -> str:
    return f"platform {listed.platform}: device {listed.name or 'without a name'}"


def _unknown(listed: ListedDevice) -> str:
    known = ", ".join(dict.fromkeys(VENDOR_IDS.values()))
    return f"vendor 0x{listed.vendor_id:x} of {listed.platform_vendor or 'nobody'} is not known, allowed: {known}"
