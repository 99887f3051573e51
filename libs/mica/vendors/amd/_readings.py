"""Counters and processes of devices and partitions. Invariant: what is not measured is None, or comes from the processes."""

from collections.abc import Sequence
from typing import Any

from mica.vendors._port import DeviceReading
from mica.vendors.amd._library import Socket, optional


def processes_on(smi: Any, handles: Sequence[Any]) -> dict[int, int]:
    """By process id, how many bytes of VRAM it has there. Raises AmdSmiException."""
    found: dict[int, int] = {}
    for handle in handles:
        for each in smi.amdsmi_get_gpu_process_list(handle):
            pid, used = int(each["pid"]), int(each["memory_usage"]["vram_mem"])
            found[pid] = found.get(pid, 0) + used
    return found


def read_device(smi: Any, socket: Socket) -> DeviceReading:
    """A device, used whole or laid out. Raises AmdSmiException."""
    handle = socket.handles[0]
    used, total = zip(*(_memory(smi, each) for each in socket.handles), strict=True)
    power = optional(smi, "amdsmi_get_power_info", handle) or {}
    watts = _number(power.get("current_socket_power")) or _number(power.get("average_socket_power"))
    activity = _number((optional(smi, "amdsmi_get_gpu_activity", handle) or {}).get("gfx_activity"))
    return DeviceReading(
        vram_used_bytes=sum(used),
        vram_total_bytes=sum(total),
        utilisation_ppm=None if activity is None else activity * 10_000,
        power_mw=None if watts is None else watts * 1000,
        temperature_c=temperature(smi, handle, "CURRENT"),
    )


def read_partition(smi: Any, handle: Any, vram_bytes: int) -> DeviceReading:
    """A partition that has so much memory; where amdsmi answers for the whole device, its processes say what is used.

    Raises AmdSmiException.
    """
    used, total = _memory(smi, handle)
    if total > vram_bytes * 3 // 2:
        used = sum(processes_on(smi, (handle,)).values())
    return DeviceReading(vram_used_bytes=used, vram_total_bytes=vram_bytes)


def temperature(smi: Any, handle: Any, metric: str) -> int | None:
    """The hottest spot's, or one of its limits, in degrees Celsius."""
    found = optional(
        smi, "amdsmi_get_temp_metric", handle, smi.AmdSmiTemperatureType.HOTSPOT, getattr(smi.AmdSmiTemperatureMetric, metric)
    )
    return _number(found)


def _memory(smi: Any, handle: Any) -> tuple[int, int]:
    vram = smi.AmdSmiMemoryType.VRAM
    return smi.amdsmi_get_gpu_memory_usage(handle, vram), smi.amdsmi_get_gpu_memory_total(handle, vram)


def _number(value: Any) -> int | None:
    """None for the "N/A" that amdsmi gives where it does not measure."""
    return value if isinstance(value, int) else None
