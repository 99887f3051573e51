"""What a device is and how it is now, read through sysman.

Invariant: an answer that makes no sense is an error, never a reading.
"""

import ctypes
from typing import Final

from msgspec import Struct

from mica.vendors._port import VendorError
from mica.vendors.intel import _structures as zes
from mica.vendors.intel._library import Sysman

MOST_BYTES: Final = 1 << 48
MOST_CORES: Final = 1 << 16
MOST_TILES: Final = 16
MOST_CELSIUS: Final = 300
_CORE_PROPERTIES: Final = 0x3


class Identity(Struct, frozen=True, kw_only=True):
    """What a device is. ``cores``: Xe cores, 0 where it does not say. ``tiles``: 1 where none are told apart."""

    uuid: str
    model: str
    pci_device_id: int
    cores: int
    tiles: int


class Memory(Struct, frozen=True, kw_only=True):
    """Memory of a device or a tile, in bytes. ``health``: the worst of its modules, as in ``zes_mem_health_t``."""

    total: int
    used: int
    health: int


def pci_address(sysman: Sysman, handle: int) -> str:
    """``DDDD:BB:DD.F``. Raises VendorError."""
    at = sysman.read("zesDevicePciGetProperties", handle, zes.PciProperties()).address
    if at.domain > 0xFFFFFFFF or at.bus > 0xFF or at.device > 0x1F or at.function > 0x7:
        raise VendorError(f"zesDevicePciGetProperties: address {at.domain:x}:{at.bus:x}:{at.device:x}.{at.function:x}")
    return f"{at.domain:04x}:{at.bus:02x}:{at.device:02x}.{at.function:x}"


def identity(sysman: Sysman, handle: int) -> Identity:
    """What the device says that it is. Raises VendorError."""
    extended = zes.DeviceExtProperties()
    properties = zes.DeviceProperties()
    properties.pNext = ctypes.cast(ctypes.pointer(extended), ctypes.c_void_p)
    properties.core.stype = _CORE_PROPERTIES
    sysman.read("zesDeviceGetProperties", handle, properties)
    core = properties.core
    raw = bytes(extended.uuid.id) if any(extended.uuid.id) else bytes(core.uuid.id)
    cores = core.numSlices * core.numSubslicesPerSlice
    tiles = properties.numSubdevices or 1
    if cores > MOST_CORES or tiles > MOST_TILES:
        raise VendorError(f"zesDeviceGetProperties: {cores} Xe cores, {tiles} tiles")
    name = (core.name or properties.modelName).decode("utf-8", errors="replace").strip()
    return Identity(uuid=_uuid(raw), model=name, pci_device_id=core.deviceId, cores=cores, tiles=tiles)


def _uuid(raw: bytes) -> str:
    """Its bytes in order, as OpenCL has them; empty where it has none."""
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:])) if any(raw) else ""


def memory(sysman: Sysman, handle: int, tile: int | None = None) -> Memory:
    """Of the device, or of one tile. Raises VendorError."""
    total = free = health = 0
    for module in sysman.parts("zesDeviceEnumMemoryModules", handle):
        properties = sysman.read("zesMemoryGetProperties", module, zes.MemProperties())
        if properties.location != zes.ON_DEVICE or (tile is not None and properties.subdeviceId != tile):
            continue
        state = sysman.read("zesMemoryGetState", module, zes.MemState())
        size = state.size or properties.physicalSize
        if size > MOST_BYTES or state.free > size:
            raise VendorError(f"zesMemoryGetState: {state.free} of {size} bytes free")
        total, free, health = total + size, free + state.free, max(health, state.health)
    return Memory(total=total, used=total - free, health=health)


def temperature_c(sysman: Sysman, handle: int) -> tuple[int, int] | None:
    """The hottest sensor of the GPU and what it may have at most (0: it does not say); None without any. Raises VendorError."""
    found: list[tuple[int, int]] = []
    for sensor in sysman.parts("zesDeviceEnumTemperatureSensors", handle):
        properties = sysman.optional("zesTemperatureGetProperties", sensor, zes.TempProperties())
        if properties is None or properties.type not in zes.SENSORS_OF_THE_GPU:
            continue
        celsius = ctypes.c_double()
        sysman.call("zesTemperatureGetState", ctypes.c_void_p(sensor), ctypes.byref(celsius))
        if 0 < celsius.value < MOST_CELSIUS:
            most = properties.maxTemperature if 0 < properties.maxTemperature < MOST_CELSIUS else 0
            found.append((round(celsius.value), round(most)))
    return max(found, default=None)


def processes(sysman: Sysman, handle: int) -> list[tuple[int, int]]:
    """Process id and bytes of device memory of each. Raises VendorError."""
    found = sysman.read_all("zesDeviceProcessesGetState", handle, zes.ProcessState)
    return [(each.processId, min(each.memSize, MOST_BYTES)) for each in found]
