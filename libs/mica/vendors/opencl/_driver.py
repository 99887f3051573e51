"""Reads the processors that OpenCL offers as devices, where the node is to have them (``SWITCH``).

Invariant: what OpenCL does not say is left at its honest default, never made up.
"""

import importlib
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from mica.events import Device, Runtime, Vendor
from mica.vendors._port import DeviceReading, VendorAbsentError, VendorError
from mica.vendors.opencl._identity import device_id

RUNTIMES: Final = (Runtime.OPENCL,)

SWITCH: Final = "MICA_OPENCL"
"""A node's processors are work horses of its programs: they are devices only where this is set to ``cpu``."""

MEMORY: Final = Path("/proc/meminfo")


class OpenClDriver:
    """The processors of this machine that OpenCL can compute on.

    Raises:
        VendorAbsentError: they are not asked for, or there is no OpenCL here.
        VendorError: ``SWITCH`` is set to something else, or OpenCL is here and does not answer.
    """

    vendor: Final = Vendor.CPU

    def __init__(self) -> None:
        asked = os.environ.get(SWITCH, "")
        if not asked:
            raise VendorAbsentError(f"{SWITCH} is not set")
        if asked != "cpu":
            raise VendorError(f"{SWITCH}: got {asked[:40]!r}, allowed: cpu, or nothing")
        try:
            self._cl: Any = importlib.import_module("pyopencl")
        except (ImportError, OSError) as error:
            raise VendorAbsentError(f"pyopencl: {type(error).__name__}: {error}") from None
        self._node = _node()
        if not self._found():
            raise VendorAbsentError("no OpenCL platform has a processor as a device")

    def devices(self) -> tuple[Device, ...]:
        """The processors, by platform."""
        return tuple(self._read(index, id_, found) for index, (id_, found) in enumerate(self._found().items()))

    def sample(self, device_id: str) -> DeviceReading:
        """The machine's memory: a processor's is everybody's. OpenCL measures nothing else."""
        if device_id not in self._found():
            raise VendorError(f"device {device_id}: OpenCL lists no such device")
        fields = dict(line.split(":", 1) for line in MEMORY.read_text().splitlines())
        total, available = (int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
        return DeviceReading(vram_used_bytes=total - available, vram_total_bytes=total)

    def compute_processes(self, device_id: str) -> list[tuple[int, int]]:
        """Nobody lists who computes on a processor: everybody does."""
        if device_id not in self._found():
            raise VendorError(f"device {device_id}: OpenCL lists no such device")
        return []

    def close(self) -> None:
        """OpenCL has nothing to let go of."""

    @contextmanager
    def _call(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._cl.Error as error:
            raise VendorError(f"{what}: {error}") from None

    def _found(self) -> dict[str, Any]:
        """OpenCL's processors by their ids, in the order of its platforms."""
        found: dict[str, Any] = {}
        with self._call("clGetPlatformIDs"):
            platforms = self._cl.get_platforms()
        for platform in platforms:
            with self._call(f"platform {platform.name}"):
                seen: Counter[str] = Counter()
                for device in platform.get_devices():
                    id_ = device_id(self._node, platform.name, device.name, seen[device.name])
                    seen[device.name] += 1
                    if device.type & self._cl.device_type.CPU:
                        found[id_] = device
        return found

    def _read(self, index: int, id_: str, device: Any) -> Device:
        with self._call(f"device {id_}"):
            return Device(
                id=id_,
                index=index,
                vendor=Vendor.CPU,
                model=device.name.strip(),
                vram_bytes=device.global_mem_size,
                multiprocessors=device.max_compute_units,
                runtimes=RUNTIMES,
                subdevices_max=_subdevices_max(self._cl, device),
                subdevices_whole=_subdevices_whole(self._cl, device),
            )


def _subdevices_max(cl: Any, device: Any) -> int:
    """Into how many sub-devices with numbers of units that are asked for it can be divided."""
    by_counts = cl.device_partition_property.BY_COUNTS in device.partition_properties
    return int(device.partition_max_sub_devices) if by_counts else 0


def _subdevices_whole(cl: Any, device: Any) -> bool:
    """Whether sub-devices have images if the device has: not where the driver can't find one in its own context.

    The layer looks at the same (native/shim/opencl/parts.c).
    """
    if _subdevices_max(cl, device) == 0:
        return False
    if not device.image_support:
        return True
    part = device.create_sub_devices([cl.device_partition_property.BY_COUNTS, 1])[0]
    return bool(cl.Context([part]).devices == [part])


def _node() -> str:
    from mica.bus import Settings

    return Settings.from_environment().node
