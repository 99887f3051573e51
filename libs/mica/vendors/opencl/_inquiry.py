"""Asks the OpenCL loader for all devices, in a process of its own: ``python -m mica.vendors.opencl._inquiry LOADER DRIVER...``.

Invariant: one document on stdout, whatever drivers print; a driver that dies takes only this process with it.
"""

import ctypes
import os
import struct
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from mica.vendors.opencl._answers import Answers, ListedDevice

DEVICE_NOT_FOUND: Final = -1
PLATFORM_NOT_FOUND: Final = -1001
PLATFORM_NAME, PLATFORM_VENDOR = 0x0902, 0x0903
ALL_TYPES: Final = 0xFFFFFFFF
TYPE, VENDOR_ID, UNITS, MEMORY, NAME = 0x1000, 0x1001, 0x1002, 0x101F, 0x102B
IMAGE_SUPPORT, CONTEXT_DEVICES = 0x1016, 0x1081
SUBDEVICES_MAX, PARTITION_PROPERTIES, PARTITION_BY_COUNTS = 0x1043, 0x1044, 0x1087
UUID, PCI_INFO = 0x106A, 0x410F
NVIDIA_BUS, NVIDIA_SLOT, NVIDIA_DOMAIN, AMD_TOPOLOGY = 0x4008, 0x4009, 0x400A, 0x4037
"""Source: OpenCL 3.0 API; cl_khr_device_uuid, cl_khr_pci_bus_info; cl_nv_device_attribute_query, cl_amd_device_topology."""

PLATFORMS_MAX: Final = 32
DEVICES_MAX: Final = 64
PARTITION_WAYS_MAX: Final = 16
TEXT_MAX: Final = 255
"""As the layer has room for (native/shim/opencl/devices.c): a longer name is none for either."""


class CallError(Exception):
    """A call of the loader's failed; the message names it and what it returned."""


class Loader:
    """The loader's questions."""

    def __init__(self, path: str) -> None:
        self._cl = ctypes.CDLL(path)

    def platforms(self) -> list[int]:
        """Their handles; none is no error."""
        found, count = (ctypes.c_void_p * PLATFORMS_MAX)(), ctypes.c_uint()
        result = self._cl.clGetPlatformIDs(PLATFORMS_MAX, found, ctypes.byref(count))
        if result not in (0, PLATFORM_NOT_FOUND):
            raise CallError(f"clGetPlatformIDs: {result}")
        return [handle for handle in found[: count.value] if handle]

    def devices(self, platform: int) -> list[int]:
        """Their handles; none is no error."""
        found, count = (ctypes.c_void_p * DEVICES_MAX)(), ctypes.c_uint()
        result = self._cl.clGetDeviceIDs(
            ctypes.c_void_p(platform), ctypes.c_uint64(ALL_TYPES), DEVICES_MAX, found, ctypes.byref(count)
        )
        if result not in (0, DEVICE_NOT_FOUND):
            raise CallError(f"clGetDeviceIDs: {result}")
        return [handle for handle in found[: count.value] if handle]

    def text_of(self, call: str, handle: int, what: int) -> str:
        """A text of a platform's or a device's; empty where it is not said."""
        try:
            answer = self.ask(call, handle, what, TEXT_MAX)
        except CallError:
            return ""
        return answer.split(b"\0", 1)[0].decode(errors="replace")

    def number(self, device: int, what: int) -> int:
        """A number of a device's, of whatever size."""
        return int.from_bytes(self.ask("clGetDeviceInfo", device, what, 8), sys.byteorder)

    def optional(self, device: int, what: int, size: int) -> bytes:
        """What an extension says; empty where it does not."""
        try:
            answer = self.ask("clGetDeviceInfo", device, what, size)
        except CallError:
            return b""
        return answer if len(answer) == size else b""

    def finds_part(self, device: int) -> bool:
        """Make a sub-device of one unit and a context of it: whether that says that it is the sub-device's.

        Raises:
            CallError: one of these can't be made.
        """
        part, count, error = ctypes.c_void_p(), ctypes.c_uint(), ctypes.c_int()
        counts = (ctypes.c_ssize_t * 4)(PARTITION_BY_COUNTS, 1, 0, 0)
        result = self._cl.clCreateSubDevices(ctypes.c_void_p(device), counts, 1, ctypes.byref(part), ctypes.byref(count))
        if result != 0:
            raise CallError(f"clCreateSubDevices: {result}")
        create = self._cl.clCreateContext
        create.restype = ctypes.c_void_p
        context = create(None, 1, ctypes.byref(part), None, None, ctypes.byref(error))
        if error.value != 0:
            raise CallError(f"clCreateContext: {error.value}")
        said = self.ask("clGetContextInfo", context, CONTEXT_DEVICES, ctypes.sizeof(ctypes.c_void_p))
        return int.from_bytes(said, sys.byteorder) == part.value

    def ask(self, call: str, handle: int, what: int, room: int) -> bytes:
        """An answer of up to ``room`` bytes.

        Raises:
            CallError: there is none.
        """
        answer, size = ctypes.create_string_buffer(room), ctypes.c_size_t()
        result = getattr(self._cl, call)(ctypes.c_void_p(handle), what, ctypes.c_size_t(room), answer, ctypes.byref(size))
        if result != 0:
            raise CallError(f"{call}(0x{what:x}): {result}")
        return answer.raw[: size.value]


def inquire(loader: Loader) -> Answers:
    """Ask for everything."""
    faults: list[str] = []
    listed: list[ListedDevice] = []
    platforms = loader.platforms()
    seen: Counter[tuple[str, str]] = Counter()
    for platform in platforms:
        name = loader.text_of("clGetPlatformInfo", platform, PLATFORM_NAME)
        vendor = loader.text_of("clGetPlatformInfo", platform, PLATFORM_VENDOR)
        try:
            listed += _devices(loader, platform, (name, vendor), seen)
        except CallError as error:
            faults.append(f"platform {name}: {error}")
    return Answers(platforms=len(platforms), devices=tuple(listed), faults=tuple(faults))


def _devices(loader: Loader, platform: int, names: tuple[str, str], seen: Counter[tuple[str, str]]) -> Iterator[ListedDevice]:
    for device in loader.devices(platform):
        name = loader.text_of("clGetDeviceInfo", device, NAME)
        yield _device(loader, device, names, (name, seen[names[0], name]))
        seen[names[0], name] += 1


def _device(loader: Loader, device: int, names: tuple[str, str], called: tuple[str, int]) -> ListedDevice:
    known = ListedDevice(platform=names[0], platform_vendor=names[1], name=called[0], ordinal=called[1])
    try:
        return msgspec.structs.replace(
            known,
            kind=loader.number(device, TYPE),
            vendor_id=loader.number(device, VENDOR_ID),
            memory_bytes=loader.number(device, MEMORY),
            units=loader.number(device, UNITS),
            subdevices_max=_subdevices_max(loader, device),
            subdevices_whole=_subdevices_whole(loader, device),
            uuid=loader.optional(device, UUID, 16).hex(),
            pci_bus_id=_pci_bus_id(loader, device),
        )
    except CallError as error:
        return msgspec.structs.replace(known, fault=str(error))


def _subdevices_max(loader: Loader, device: int) -> int:
    """Into how many sub-devices it can be divided whose numbers of units are asked for; 0 where it can't."""
    try:
        ways = loader.ask("clGetDeviceInfo", device, PARTITION_PROPERTIES, 8 * PARTITION_WAYS_MAX)
        most = loader.number(device, SUBDEVICES_MAX)
    except CallError:
        return 0
    return most if PARTITION_BY_COUNTS in struct.unpack(f"={len(ways) // 8}q", ways[: len(ways) // 8 * 8]) else 0


def _subdevices_whole(loader: Loader, device: int) -> bool:
    """Whether sub-devices have images if the device has: not where the driver can't find one in its own context.

    The layer looks at the same (native/shim/opencl/parts.c).
    """
    if _subdevices_max(loader, device) == 0:
        return False
    try:
        return not loader.number(device, IMAGE_SUPPORT) or loader.finds_part(device)
    except CallError:
        return False


def _pci_bus_id(loader: Loader, device: int) -> str:
    """Domain, bus, device and function, as the extensions of Khronos, NVIDIA or AMD say it; empty where none does."""
    if found := loader.optional(device, PCI_INFO, 16):
        return "{:04x}:{:02x}:{:02x}.{:x}".format(*struct.unpack("=4I", found))
    if found := loader.optional(device, NVIDIA_BUS, 4):
        bus, slot = int.from_bytes(found, sys.byteorder), int.from_bytes(loader.optional(device, NVIDIA_SLOT, 4), sys.byteorder)
        domain = int.from_bytes(loader.optional(device, NVIDIA_DOMAIN, 4), sys.byteorder)
        return f"{domain:04x}:{bus:02x}:{slot >> 3:02x}.{slot & 7:x}"
    if found := loader.optional(device, AMD_TOPOLOGY, 24):
        return f"0000:{found[21]:02x}:{found[22]:02x}.{found[23]:x}"
    return ""


def unloadable(drivers: Iterable[Path]) -> Iterator[str]:
    """What is wrong with the drivers that these files name: the loader passes over one that it can't load, without a word."""
    for file in drivers:
        try:
            ctypes.CDLL(file.read_text(errors="replace").strip() if file.suffix == ".icd" else str(file))
        except OSError as error:
            yield f"driver {file.name}: {str(error)[:200]}"


def main() -> None:
    """Print what there is."""
    answer = os.dup(1)
    os.dup2(2, 1)  # some drivers talk on stdout
    try:
        answers = inquire(Loader(sys.argv[1]))
        answers = msgspec.structs.replace(answers, faults=(*answers.faults, *unloadable(map(Path, sys.argv[2:]))))
    except (CallError, OSError, AttributeError) as error:
        sys.exit(str(error))
    os.write(answer, msgspec.json.encode(answers))


if __name__ == "__main__":
    main()
