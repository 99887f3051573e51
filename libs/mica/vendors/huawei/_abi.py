"""libdcmi's types and numbers. Invariant: the sizes are those that native/sim/dcmi/abi.h asserts.

Source: Huawei's DCMI API reference. Names of fields are the library's own, misspellings included.
"""

import ctypes
from ctypes import c_char, c_float, c_int, c_ubyte, c_uint, c_ulong, c_ulonglong, c_ushort
from enum import IntEnum
from typing import Final

AUTOMATIC: Final = 0xFFFFFFFF
CARDS_MAX: Final = 64
VDEVS_MAX: Final = 32
PROCESSES_MAX: Final = 256
"""The library writes at most 32 of them; more room costs nothing."""
ERRORS_MAX: Final = 128
VDEV_MANAGEMENT: Final = 52
UNKNOWN_SHORT: Final = 0xFFFF
NPU: Final = 0
VDIE: Final = 1
HCCS: Final = frozenset({3, 7})
"""Topology types: linked by HCCS, directly or through a switch."""


class Code(IntEnum):
    """What calls return; all but 0 are errors. MISSING is our own: the library lacks the function."""

    OK = 0
    INVALID_PARAMETER = -8001
    NOT_PERMITTED = -8002
    TIME_OUT = -8006
    NO_SUCH_DEVICE = -8008
    NOT_READY = -8012
    NOT_IN_CONTAINER = -8013
    OCCUPIED = -8020
    NOT_SUPPORTED = -8255
    MISSING = -99998


class Rate(IntEnum):
    """What dcmi_get_device_utilization_rate measures."""

    AICORE = 2
    NPU = 13


class VdevCommand(IntEnum):
    """What dcmi_get_device_info answers about vNPUs."""

    RESOURCE = 0
    TOTAL = 1
    ACTIVITY = 5


class ChipInfo(ctypes.Structure):
    """``dcmi_chip_info_v2``; without its last field, ``dcmi_chip_info``."""

    _fields_ = (
        ("chip_type", c_ubyte * 32),
        ("chip_name", c_ubyte * 32),
        ("chip_ver", c_ubyte * 32),
        ("aicore_cnt", c_uint),
        ("npu_name", c_ubyte * 32),
    )


class PcieInfo(ctypes.Structure):
    """``dcmi_pcie_info_all``."""

    _fields_ = (
        ("venderid", c_uint),
        ("subvenderid", c_uint),
        ("deviceid", c_uint),
        ("subdeviceid", c_uint),
        ("domain", c_int),
        ("bdf_busid", c_uint),
        ("bdf_deviceid", c_uint),
        ("bdf_funcid", c_uint),
        ("reserve", c_ubyte * 32),
    )


class DieId(ctypes.Structure):
    """``dcmi_die_id``."""

    _fields_ = (("soc_die", c_uint * 5),)


class HbmInfo(ctypes.Structure):
    """``dcmi_hbm_info``; memory in MB."""

    _fields_ = (
        ("memory_size", c_ulonglong),
        ("freq", c_uint),
        ("memory_usage", c_ulonglong),
        ("temp", c_int),
        ("bandwith_util_rate", c_uint),
    )


class MemoryInfo(ctypes.Structure):
    """``dcmi_get_memory_info_stru``; memory in MB."""

    _fields_ = (
        ("memory_size", c_ulonglong),
        ("memory_available", c_ulonglong),
        ("freq", c_uint),
        ("hugepagesize", c_ulong),
        ("hugepages_total", c_ulong),
        ("hugepages_free", c_ulong),
        ("utiliza", c_uint),
        ("reserve", c_ubyte * 60),
    )


class ProcessMemory(ctypes.Structure):
    """``dcmi_proc_mem_info``; bytes."""

    _fields_ = (("proc_id", c_int), ("proc_mem_usage", c_ulong))


class BaseResource(ctypes.Structure):
    """``dcmi_base_resource``."""

    _fields_ = (
        ("token", c_ulonglong),
        ("token_max", c_ulonglong),
        ("task_timeout", c_ulonglong),
        ("vfg_id", c_uint),
        ("vip_mode", c_ubyte),
        ("reserved", c_ubyte * 31),
    )


class ComputingResource(ctypes.Structure):
    """``dcmi_computing_resource``; ``memory_size`` in MB, that of the vNPU in KB."""

    _fields_ = (
        ("aic", c_float),
        ("aiv", c_float),
        ("accelerators", c_ushort * 8),
        ("memory_size", c_ulonglong),
        ("ids", c_uint * 4),
        ("topic_schedule_aicpu", c_ushort),
        ("host_ctrl_cpu", c_ushort),
        ("host_aicpu", c_ushort),
        ("device_aicpu", c_ushort),
        ("topic_ctrl_cpu_slot", c_ushort),
        ("vdev_aicore_utilization", c_uint),
        ("vdev_memory_total", c_ulonglong),
        ("vdev_memory_free", c_ulonglong),
        ("reserved", c_ubyte * 12),
    )


class MediaResource(ctypes.Structure):
    """``dcmi_media_resource``; -1: not known."""

    _fields_ = (
        ("jpegd", c_float),
        ("jpege", c_float),
        ("vpc", c_float),
        ("vdec", c_float),
        ("pngd", c_float),
        ("venc", c_float),
        ("reserved", c_ubyte * 32),
    )


class VdevQuery(ctypes.Structure):
    """``dcmi_vdev_query_stru``, its inner structure unfolded (which needs the padding spelt out)."""

    _fields_ = (
        ("vdev_id", c_uint),
        ("padding", c_uint),
        ("name", c_char * 16),
        ("status", c_uint),
        ("is_container_used", c_uint),
        ("vfid", c_uint),
        ("vfg_id", c_uint),
        ("container_id", c_ulonglong),
        ("base", BaseResource),
        ("computing", ComputingResource),
        ("media", MediaResource),
    )


class TotalResource(ctypes.Structure):
    """``dcmi_soc_total_resource``."""

    _fields_ = (
        ("vdev_num", c_uint),
        ("vdev_id", c_uint * VDEVS_MAX),
        ("vfg_num", c_uint),
        ("vfg_bitmap", c_uint),
        ("base", BaseResource),
        ("computing", ComputingResource),
        ("media", MediaResource),
    )


class VdevRequest(ctypes.Structure):
    """``dcmi_create_vdev_res_stru``."""

    _fields_ = (("vdev_id", c_uint), ("vfg_id", c_uint), ("template_name", c_char * 32), ("reserved", c_ubyte * 64))


class VdevMade(ctypes.Structure):
    """``dcmi_create_vdev_out``."""

    _fields_ = (
        ("vdev_id", c_uint),
        ("pcie_bus", c_uint),
        ("pcie_device", c_uint),
        ("pcie_func", c_uint),
        ("vfg_id", c_uint),
        ("reserved", c_ubyte * 32),
    )


class EventFilter(ctypes.Structure):
    """``dcmi_event_filter``; all zero: no filter."""

    _fields_ = (
        ("filter_flag", c_ulonglong),
        ("event_id", c_uint),
        ("severity", c_ubyte),
        ("node_type", c_ubyte),
        ("resv", c_ubyte * 32),
    )


class FaultEvent(ctypes.Structure):
    """``dcmi_event``; ``assertion``: 0 it recovered, 1 it began, 2 it happened once."""

    _fields_ = (
        ("type", c_int),
        ("padding", c_uint),
        ("event_id", c_uint),
        ("deviceid", c_ushort),
        ("node_type", c_ubyte),
        ("node_id", c_ubyte),
        ("sub_node_type", c_ubyte),
        ("sub_node_id", c_ubyte),
        ("severity", c_ubyte),
        ("assertion", c_ubyte),
        ("event_serial_num", c_int),
        ("notify_serial_num", c_int),
        ("alarm_raised_time", c_ulonglong),
        ("event_name", c_char * 256),
        ("additional_info", c_char * 32),
        ("resv", c_ubyte * 32),
    )


SIZES: Final = {
    ChipInfo: 132,
    PcieInfo: 64,
    HbmInfo: 32,
    MemoryInfo: 112,
    VdevQuery: 264,
    TotalResource: 360,
    VdevRequest: 104,
    VdevMade: 52,
    EventFilter: 48,
    FaultEvent: 360,
}
