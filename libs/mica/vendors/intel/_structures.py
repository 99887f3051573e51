"""Sysman's structures and numbers, as far as they are used.

Invariant: the sizes are those of the published header (zes_api.h).
"""

import ctypes
from typing import Any, ClassVar, Final

DEVICE_PROPERTIES: Final = 0x1
PCI_PROPERTIES: Final = 0x2
ENGINE_PROPERTIES: Final = 0x5
FABRIC_PORT_PROPERTIES: Final = 0x6
MEM_PROPERTIES: Final = 0xB
RAS_PROPERTIES: Final = 0xF
TEMP_PROPERTIES: Final = 0x14
DEVICE_STATE: Final = 0x15
PROCESS_STATE: Final = 0x16
FABRIC_PORT_STATE: Final = 0x19
MEM_STATE: Final = 0x1E
RAS_STATE: Final = 0x22
DEVICE_EXT_PROPERTIES: Final = 0x2D

ON_DEVICE: Final = 1
ENGINES_COMPUTE: Final = (0, 11, 1, 4)
"""Groups of engines that say how busy a device is, the best first: all, those that compute or draw, those that compute, one."""
SENSORS_OF_THE_GPU: Final = frozenset({0, 1})
UNCORRECTABLE: Final = 1
PORT_IN_USE: Final = frozenset({1, 2})
"""Healthy, and degraded."""

_Fields = list[tuple[str, Any]]


class Described(ctypes.Structure):
    """A structure that says what it is; ``stype`` is set as it is made."""

    stype_value: ClassVar[int] = 0
    _fields_: ClassVar[_Fields] = [("stype", ctypes.c_uint32), ("pNext", ctypes.c_void_p)]

    def __init__(self) -> None:
        super().__init__()
        self.stype = self.stype_value


class Uuid(ctypes.Structure):
    """Sixteen bytes."""

    _fields_: ClassVar[_Fields] = [("id", ctypes.c_uint8 * 16)]


class CoreProperties(Described):
    """``ze_device_properties_t``."""

    _fields_: ClassVar[_Fields] = [
        *((name, ctypes.c_uint32) for name in ("type", "vendorId", "deviceId", "flags", "subdeviceId", "coreClockRate")),
        ("maxMemAllocSize", ctypes.c_uint64),
        *((name, ctypes.c_uint32) for name in ("maxHardwareContexts", "maxCommandQueuePriority", "numThreadsPerEU")),
        *((name, ctypes.c_uint32) for name in ("physicalEUSimdWidth", "numEUsPerSubslice", "numSubslicesPerSlice", "numSlices")),
        ("timerResolution", ctypes.c_uint64),
        ("timestampValidBits", ctypes.c_uint32),
        ("kernelTimestampValidBits", ctypes.c_uint32),
        ("uuid", Uuid),
        ("name", ctypes.c_char * 256),
    ]


class DeviceProperties(Described):
    """``zes_device_properties_t``."""

    stype_value = DEVICE_PROPERTIES
    _fields_: ClassVar[_Fields] = [
        ("core", CoreProperties),
        ("numSubdevices", ctypes.c_uint32),
        *(
            (name, ctypes.c_char * 64)
            for name in ("serialNumber", "boardNumber", "brandName", "modelName", "vendorName", "driverVersion")
        ),
    ]


class DeviceExtProperties(Described):
    """``zes_device_ext_properties_t``."""

    stype_value = DEVICE_EXT_PROPERTIES
    _fields_: ClassVar[_Fields] = [("uuid", Uuid), ("type", ctypes.c_uint32), ("flags", ctypes.c_uint32)]


class DeviceState(Described):
    """``zes_device_state_t``. ``reset``: bit 0, it is wedged; bit 1, a repair needs a reset."""

    stype_value = DEVICE_STATE
    _fields_: ClassVar[_Fields] = [("reset", ctypes.c_uint32), ("repaired", ctypes.c_uint32)]


class PciAddress(ctypes.Structure):
    """``zes_pci_address_t``."""

    _fields_: ClassVar[_Fields] = [(name, ctypes.c_uint32) for name in ("domain", "bus", "device", "function")]


class PciProperties(Described):
    """``zes_pci_properties_t``."""

    stype_value = PCI_PROPERTIES
    _fields_: ClassVar[_Fields] = [
        ("address", PciAddress),
        ("gen", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("maxBandwidth", ctypes.c_int64),
        *((name, ctypes.c_uint8) for name in ("haveBandwidthCounters", "havePacketCounters", "haveReplayCounters")),
    ]


class ProcessState(Described):
    """``zes_process_state_t``."""

    stype_value = PROCESS_STATE
    _fields_: ClassVar[_Fields] = [
        ("processId", ctypes.c_uint32),
        ("memSize", ctypes.c_uint64),
        ("sharedSize", ctypes.c_uint64),
        ("engines", ctypes.c_uint32),
    ]


class MemProperties(Described):
    """``zes_mem_properties_t``."""

    stype_value = MEM_PROPERTIES
    _fields_: ClassVar[_Fields] = [
        ("type", ctypes.c_uint32),
        ("onSubdevice", ctypes.c_uint8),
        ("subdeviceId", ctypes.c_uint32),
        ("location", ctypes.c_uint32),
        ("physicalSize", ctypes.c_uint64),
        ("busWidth", ctypes.c_int32),
        ("numChannels", ctypes.c_int32),
    ]


class MemState(Described):
    """``zes_mem_state_t``. ``health``: 2 degraded, 3 critical, 4 to be replaced."""

    stype_value = MEM_STATE
    _fields_: ClassVar[_Fields] = [("health", ctypes.c_uint32), ("free", ctypes.c_uint64), ("size", ctypes.c_uint64)]


class EngineProperties(Described):
    """``zes_engine_properties_t``."""

    stype_value = ENGINE_PROPERTIES
    _fields_: ClassVar[_Fields] = [("type", ctypes.c_uint32), ("onSubdevice", ctypes.c_uint8), ("subdeviceId", ctypes.c_uint32)]


class Counter(ctypes.Structure):
    """``zes_engine_stats_t`` and ``zes_power_energy_counter_t``: microseconds or microjoules, at a time in microseconds."""

    _fields_: ClassVar[_Fields] = [("value", ctypes.c_uint64), ("timestamp", ctypes.c_uint64)]


class PortId(ctypes.Structure):
    """``zes_fabric_port_id_t``."""

    _fields_: ClassVar[_Fields] = [("fabricId", ctypes.c_uint32), ("attachId", ctypes.c_uint32), ("portNumber", ctypes.c_uint8)]


class PortSpeed(ctypes.Structure):
    """``zes_fabric_port_speed_t``: bits a second of each of ``width`` lanes; -1: not known."""

    _fields_: ClassVar[_Fields] = [("bitRate", ctypes.c_int64), ("width", ctypes.c_int32)]


class PortProperties(Described):
    """``zes_fabric_port_properties_t``."""

    stype_value = FABRIC_PORT_PROPERTIES
    _fields_: ClassVar[_Fields] = [
        ("model", ctypes.c_char * 256),
        ("onSubdevice", ctypes.c_uint8),
        ("subdeviceId", ctypes.c_uint32),
        ("portId", PortId),
        ("maxRxSpeed", PortSpeed),
        ("maxTxSpeed", PortSpeed),
    ]


class PortState(Described):
    """``zes_fabric_port_state_t``."""

    stype_value = FABRIC_PORT_STATE
    _fields_: ClassVar[_Fields] = [
        ("status", ctypes.c_uint32),
        ("qualityIssues", ctypes.c_uint32),
        ("failureReasons", ctypes.c_uint32),
        ("remotePortId", PortId),
        ("rxSpeed", PortSpeed),
        ("txSpeed", PortSpeed),
    ]


class TempProperties(Described):
    """``zes_temp_properties_t``."""

    stype_value = TEMP_PROPERTIES
    _fields_: ClassVar[_Fields] = [
        ("type", ctypes.c_uint32),
        ("onSubdevice", ctypes.c_uint8),
        ("subdeviceId", ctypes.c_uint32),
        ("maxTemperature", ctypes.c_double),
        *((name, ctypes.c_uint8) for name in ("isCriticalTempSupported", "isThreshold1Supported", "isThreshold2Supported")),
    ]


class RasProperties(Described):
    """``zes_ras_properties_t``."""

    stype_value = RAS_PROPERTIES
    _fields_: ClassVar[_Fields] = [("type", ctypes.c_uint32), ("onSubdevice", ctypes.c_uint8), ("subdeviceId", ctypes.c_uint32)]


class RasState(Described):
    """``zes_ras_state_t``."""

    stype_value = RAS_STATE
    _fields_: ClassVar[_Fields] = [("category", ctypes.c_uint64 * 7)]


SIZES: Final = {
    DeviceProperties: 776,
    DeviceExtProperties: 40,
    DeviceState: 24,
    PciProperties: 56,
    ProcessState: 48,
    MemProperties: 48,
    MemState: 40,
    EngineProperties: 32,
    Counter: 16,
    PortProperties: 328,
    PortState: 72,
    TempProperties: 48,
    RasProperties: 32,
    RasState: 72,
}
"""In bytes, as a C compiler has them."""
