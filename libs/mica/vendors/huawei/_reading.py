"""Reads a chip through DCMI. Invariant: a number that no chip can have is an error that says it, never passed on."""

import ctypes
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from mica.vendors._port import DeviceReading, VendorError
from mica.vendors.huawei._abi import VDIE, ChipInfo, Code, DieId, HbmInfo, MemoryInfo, PcieInfo, Rate, VdevCommand, VdevQuery
from mica.vendors.huawei._library import Chip, Dcmi, DcmiError, simulated

MIB: Final = 1 << 20
KIB: Final = 1 << 10
MEMORY_MAX_MIB: Final = 1 << 21
CORES_MAX: Final = 1024
PERCENT_MAX: Final = 100
POWER_MAX_DECIWATT: Final = 100_000
TEMPERATURES_C: Final = range(-60, 200)
SIMULATED_CPUS_PER_NODE: Final = 64
"""Of a simulated host (native/sim/dcmi/library.c)."""
_REFUSED: Final = frozenset({Code.MISSING, Code.NOT_SUPPORTED, Code.NOT_PERMITTED, Code.NOT_IN_CONTAINER})
"""What a chip, a driver or a split chip does not tell: the value is not known, and nothing is wrong."""


class ChipFacts(Struct, frozen=True):
    """What a chip is."""

    name: str
    cores: int
    vram_bytes: int
    pci_device_id: int
    pci_bus_id: str
    numa_node: int


def facts(dcmi: Dcmi, chip: Chip) -> ChipFacts:
    """What the chip is. Raises VendorError."""
    info = _chip_info(dcmi, chip)
    name = " ".join(filter(None, (_text(chip, info.chip_type), _text(chip, info.chip_name))))
    if not name:
        raise VendorError(f"chip {chip.key}: it has no name")
    if not 0 < info.aicore_cnt <= CORES_MAX:
        raise VendorError(f"chip {chip.key}: {info.aicore_cnt} AI cores, allowed: 1 to {CORES_MAX}")
    pcie = optional(dcmi, "dcmi_get_device_pcie_info_v2", chip, PcieInfo())
    bus = f"{pcie.domain & 0xFFFF:04x}:{pcie.bdf_busid:02x}:{pcie.bdf_deviceid:02x}.{pcie.bdf_funcid:x}" if pcie else ""
    return ChipFacts(
        name=name,
        cores=info.aicore_cnt,
        vram_bytes=memory(dcmi, chip)[1],
        pci_device_id=pcie.deviceid if pcie else 0,
        pci_bus_id=bus,
        numa_node=_numa_node(dcmi, chip, bus),
    )


def identity(dcmi: Dcmi, chip: Chip) -> str:
    """The id of its die, five words as npu-smi writes them. Raises VendorError."""
    die = dcmi.ask("dcmi_get_device_die_v2", chip, DieId(), VDIE)
    if not any(die.soc_die):
        raise VendorError(f"chip {chip.key}: its die's id is zero")
    return "-".join(f"{word:08X}" for word in die.soc_die)


def memory(dcmi: Dcmi, chip: Chip) -> tuple[int, int]:
    """Bytes in use and in all: of HBM, or of a 310P's own memory. Raises VendorError."""
    hbm = optional(dcmi, "dcmi_get_device_hbm_info", chip, HbmInfo())
    if hbm is not None and hbm.memory_size:
        used, total = hbm.memory_usage, hbm.memory_size
    else:
        info = dcmi.ask("dcmi_get_device_memory_info_v3", chip, MemoryInfo())
        used, total = info.memory_size - info.memory_available, info.memory_size
    if not 0 < total <= MEMORY_MAX_MIB or not 0 <= used <= total:
        raise VendorError(f"chip {chip.key}: {used} of {total} MB in use, allowed: at most {MEMORY_MAX_MIB} MB")
    return used * MIB, total * MIB


def counters(dcmi: Dcmi, chip: Chip) -> DeviceReading:
    """The chip's counters now. Raises VendorError."""
    used, total = memory(dcmi, chip)
    power = _within(optional_number(dcmi, "dcmi_get_device_power_info", chip), range(POWER_MAX_DECIWATT))
    busy = optional_number(dcmi, "dcmi_get_device_utilization_rate", chip, int(Rate.AICORE))
    return DeviceReading(
        vram_used_bytes=used,
        vram_total_bytes=total,
        utilisation_ppm=None if _within(busy, range(PERCENT_MAX + 1)) is None else (busy or 0) * 10_000,
        power_mw=None if power is None else power * 100,
        temperature_c=_within(optional_number(dcmi, "dcmi_get_device_temperature", chip), TEMPERATURES_C),
    )


def vnpu_counters(dcmi: Dcmi, chip: Chip, number: int) -> DeviceReading:
    """A vNPU's counters now: its own memory and how busy its cores are. Raises VendorError."""
    activity = dcmi.vdev(chip, VdevCommand.ACTIVITY, VdevQuery(vdev_id=number)).computing
    total, free = activity.vdev_memory_total, activity.vdev_memory_free
    if not 0 < total <= MEMORY_MAX_MIB * KIB or free > total:
        raise VendorError(f"vNPU {number}: {free} of {total} KB free, allowed: at most {MEMORY_MAX_MIB * KIB} KB")
    busy = _within(activity.vdev_aicore_utilization, range(PERCENT_MAX + 1))
    return DeviceReading(
        vram_used_bytes=(total - free) * KIB,
        vram_total_bytes=total * KIB,
        utilisation_ppm=None if busy is None else busy * 10_000,
    )


def optional(dcmi: Dcmi, name: str, chip: Chip, answer: Any, *more: Any) -> Any:
    """What the call answers, or None where it is not offered. Raises DcmiError."""
    try:
        return dcmi.ask(name, chip, answer, *more)
    except DcmiError as error:
        if error.code in _REFUSED:
            return None
        raise


def optional_number(dcmi: Dcmi, name: str, chip: Chip, *more: Any) -> int | None:
    """A number, or None where it is not offered. Raises DcmiError."""
    answer = optional(dcmi, name, chip, ctypes.c_int(), *more)
    return None if answer is None else int(answer.value)


def _within(value: int | None, allowed: range) -> int | None:
    """Counters of no sense are none: a sensor that fails should not take the device with it."""
    return value if value is not None and value in allowed else None


def _chip_info(dcmi: Dcmi, chip: Chip) -> Any:
    found = optional(dcmi, "dcmi_get_device_chip_info_v2", chip, ChipInfo())
    return found if found is not None else dcmi.ask("dcmi_get_device_chip_info", chip, ChipInfo())


def _text(chip: Chip, raw: Any) -> str:
    content = bytes(raw).split(b"\0", 1)[0]
    try:
        text = content.decode("ascii").strip()
    except UnicodeDecodeError:
        raise VendorError(f"chip {chip.key}: its name is {content!r}, allowed: ASCII") from None
    if not text.isprintable():
        raise VendorError(f"chip {chip.key}: its name is {content!r}, allowed: printable")
    return text


def _numa_node(dcmi: Dcmi, chip: Chip, bus: str) -> int:
    """The host's node next to the chip. DCMI tells its processors, which on a real host sysfs says more simply."""
    if not simulated():
        try:
            return max(-1, int(Path(f"/sys/bus/pci/devices/{bus}/numa_node").read_text()))
        except (OSError, ValueError):
            return -1
    cpus = ctypes.create_string_buffer(256)
    try:
        dcmi.call("dcmi_get_affinity_cpu_info_by_device_id", chip.card, chip.device, cpus, ctypes.byref(ctypes.c_int()))
        return int(cpus.value.split(b"-")[0]) // SIMULATED_CPUS_PER_NODE
    except (DcmiError, ValueError):
        return -1
