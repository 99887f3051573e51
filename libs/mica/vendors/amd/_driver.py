"""Reads AMD devices. They are listed and measured; HIP is not enforced on them, OpenCL is (mica.vendors.opencl).

Invariant: what amdsmi does not answer is left at its honest default, never made up.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from mica.events import Device, Runtime, Vendor
from mica.vendors._port import DeviceReading, VendorAbsentError, VendorDriver, VendorError

RUNTIMES: Final = (Runtime.HIP,)


class AmdDriver(VendorDriver):
    """The AMD devices of this machine.

    Raises:
        VendorAbsentError: no amdsmi package, or no library behind it.
        VendorError: the library is here and does not start.
    """

    name = "amd"

    def __init__(self) -> None:
        try:
            self._smi: Any = importlib.import_module("amdsmi")
        except (ImportError, KeyError, OSError, AttributeError) as error:  # the package raises KeyError without its library
            raise VendorAbsentError(f"amdsmi: {type(error).__name__}: {error}") from None
        with self._call("amdsmi_init"):
            self._smi.amdsmi_init()
        self._open = True

    def keys(self) -> tuple[str, ...]:
        """Indices."""
        return tuple(str(index) for index in range(len(self._handles())))

    def describe(self, key: str) -> Device:
        """The device of that index."""
        with self._call(f"amd device {key}"):
            return self._read(int(key), self._handles()[int(key)])

    def sample(self, device_id: str) -> DeviceReading:
        """Counters of a device."""
        smi = self._smi
        with self._call(f"device {device_id}"):
            handle = self._find(device_id)
            power = self._optional("amdsmi_get_power_info", handle) or {}
            watts = _number(power.get("current_socket_power")) or _number(power.get("average_socket_power"))
            activity = _number((self._optional("amdsmi_get_gpu_activity", handle) or {}).get("gfx_activity"))
            return DeviceReading(
                vram_used_bytes=smi.amdsmi_get_gpu_memory_usage(handle, smi.AmdSmiMemoryType.VRAM),
                vram_total_bytes=smi.amdsmi_get_gpu_memory_total(handle, smi.AmdSmiMemoryType.VRAM),
                utilisation_ppm=None if activity is None else activity * 10_000,
                power_mw=None if watts is None else watts * 1000,
                temperature_c=self._optional(
                    "amdsmi_get_temp_metric", handle, smi.AmdSmiTemperatureType.HOTSPOT, smi.AmdSmiTemperatureMetric.CURRENT
                ),
            )

    def compute_processes(self, device_id: str) -> list[tuple[int, int]]:
        """Process id and VRAM of each process on the device."""
        with self._call(f"device {device_id}"):
            running = self._smi.amdsmi_get_gpu_process_list(self._find(device_id))
        return [(process["pid"], process["memory_usage"]["vram_mem"]) for process in running]

    def close(self) -> None:
        """Shut amdsmi down."""
        if self._open:
            self._open = False
            with suppress(self._smi.AmdSmiException):
                self._smi.amdsmi_shut_down()

    @contextmanager
    def _call(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._smi.AmdSmiException as error:
            raise VendorError(f"{what}: {error}") from None

    def _handles(self) -> list[Any]:
        with self._call("amdsmi_get_processor_handles"):
            return list(self._smi.amdsmi_get_processor_handles())

    def _find(self, device_id: str) -> Any:
        for handle in self._handles():
            if self._smi.amdsmi_get_gpu_device_uuid(handle) == device_id:
                return handle
        raise VendorError(f"device {device_id}: amdsmi lists no such device")

    def _read(self, index: int, handle: Any) -> Device:
        smi = self._smi
        asic = smi.amdsmi_get_gpu_asic_info(handle)
        numa_node = self._optional("amdsmi_topo_get_numa_node_number", handle)
        return Device(
            id=smi.amdsmi_get_gpu_device_uuid(handle),
            index=index,
            vendor=Vendor.AMD,
            model=asic["market_name"],
            vram_bytes=smi.amdsmi_get_gpu_memory_total(handle, smi.AmdSmiMemoryType.VRAM),
            multiprocessors=_number(asic.get("num_compute_units")) or 0,
            runtimes=RUNTIMES,
            pci_bus_id=self._optional("amdsmi_get_gpu_device_bdf", handle) or "",
            numa_node=-1 if numa_node is None else numa_node,
        )

    def _optional(self, name: str, *arguments: Any) -> Any:
        """What ``name`` answers, or None where the library does not support it."""
        try:
            return getattr(self._smi, name)(*arguments)
        except self._smi.AmdSmiLibraryException:
            return None


def _number(value: Any) -> int | None:
    """None for the "N/A" that amdsmi gives where it does not measure."""
    return value if isinstance(value, int) else None
