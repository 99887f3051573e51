"""Reads the devices that OpenCL offers on this machine: graphics processors, accelerators and, where asked for, processors.

Invariants: what OpenCL does not say is left at its honest default, never made up; no driver is loaded into this process.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from mica.events import Device, Partition, Vendor
from mica.vendors._port import Access, DeviceReading, VendorAbsentError, VendorDriver, VendorError
from mica.vendors.opencl._answers import Answers
from mica.vendors.opencl._devices import node_devices
from mica.vendors.opencl._loader import USUAL_DRIVERS, drivers_here, loader_environment, loader_path

SWITCH: Final = "MICA_OPENCL"
PROCESSORS: Final = "cpu"
OFF: Final = "off"
"""What the switch can say. Processors are on every machine and have other work to do, so they are devices only by request."""

MEMORY: Final = Path("/proc/meminfo")
ANSWER_S: Final = 20.0
READINGS_TO_ASK: Final = 30
"""The drivers are asked again once in so many readings: what they list changes when one is installed or taken away."""

log = logging.getLogger(__name__)


def wants_processors() -> bool | None:
    """Whether processors are devices here; None: OpenCL is switched off.

    Raises:
        VendorError: ``SWITCH`` is set to something else.
    """
    asked = os.environ.get(SWITCH, "")
    if asked not in ("", PROCESSORS, OFF):
        raise VendorError(f"{SWITCH}: got {asked[:40]!r}, allowed: {PROCESSORS}, {OFF}, or nothing")
    return None if asked == OFF else asked == PROCESSORS


class OpenClDriver(VendorDriver):
    """The OpenCL devices of this machine; the drivers are first asked when somebody wants to know them.

    Raises:
        VendorAbsentError: OpenCL is switched off, or no driver is installed for it.
        VendorError: ``SWITCH`` is set to something else, or asks for processors where there is no driver at all.
    """

    name = "opencl"

    def __init__(self) -> None:
        processors = wants_processors()
        if processors is None:
            raise VendorAbsentError(f"{SWITCH} is {OFF}")
        if not drivers_here(processors=processors):
            place = os.environ.get("OCL_ICD_VENDORS") or USUAL_DRIVERS
            if processors:
                raise VendorError(f"{SWITCH}={PROCESSORS}: no OpenCL driver in {place}, and no pyopencl[pocl]; allowed: either")
            raise VendorAbsentError(f"no OpenCL driver in {place}")
        self._processors = processors
        self._node = _node()
        self._devices: dict[str, Device] = {}
        self._readings_left = 0
        self._complaints: frozenset[str] = frozenset()

    def keys(self) -> tuple[str, ...]:
        """Ids, in the order of the platforms; what can't be a device is left out with a warning, once per cause."""
        if not self._readings_left:
            self._read()
            self._readings_left = READINGS_TO_ASK
        self._readings_left -= 1
        return tuple(self._devices)

    def describe(self, key: str) -> Device:
        """The device, as it answered when the drivers were last asked."""
        device = self._devices.get(key)
        if device is None:
            raise VendorError(f"device {key}: OpenCL lists no such device")
        return device

    def sample(self, device_id: str) -> DeviceReading:
        """The machine's memory for a processor, which is everybody's; for others 0 used: OpenCL does not measure it."""
        device = self._devices.get(device_id)
        if device is None:
            raise VendorError(f"device {device_id}: OpenCL lists no such device")
        if device.vendor is not Vendor.CPU:
            return DeviceReading(vram_used_bytes=0, vram_total_bytes=device.vram_bytes)
        fields = dict(line.split(":", 1) for line in MEMORY.read_text().splitlines())
        total, available = (int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
        return DeviceReading(vram_used_bytes=total - available, vram_total_bytes=total)

    def compute_processes(self, device_id: str) -> list[tuple[int, int]]:  # noqa: ARG002 - the same for every device
        """OpenCL does not say who is on a device, so it is not even asked."""
        return []

    def access(self, device_id: str, partition: Partition | None) -> Access:  # noqa: ARG002 - the same for every device
        """Nothing is needed: the loader finds the drivers, and the layer shows the slice's devices alone."""
        return Access()

    def close(self) -> None:
        """OpenCL has nothing to let go of."""

    def _read(self) -> None:
        answers = ask(processors=self._processors)
        if not answers.platforms:
            why = "; ".join(answers.faults) or _names(drivers_here(processors=self._processors))
            raise VendorError(f"no OpenCL platform, though drivers are installed: {why}")
        found, complaints = node_devices(answers, self._node, processors=self._processors)
        for complaint in sorted(set(complaints) - self._complaints):
            log.warning("%s; it is left out", complaint)
        self._complaints = frozenset(complaints)
        self._devices = {device.id: device for device in found}


def ask(*, processors: bool) -> Answers:
    """What the drivers say, from a process that they may crash, hang or fill.

    Raises:
        VendorError: it did not answer.
    """
    drivers = drivers_here(processors=processors)
    command = [sys.executable, "-m", "mica.vendors.opencl._inquiry", loader_path(), *map(str, drivers)]
    environment = loader_environment(os.environ, processors=processors)
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=ANSWER_S, check=False)
    except subprocess.TimeoutExpired:
        raise VendorError(f"OpenCL's drivers do not answer within {ANSWER_S:g} s: {_names(drivers)}") from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().rsplit("\n", 1)[-1][:200]
        raise VendorError(f"OpenCL's drivers ({_names(drivers)}): {_end(done.returncode)}{said and ': ' + said}")
    return msgspec.json.decode(done.stdout, type=Answers)


def _end(status: int) -> str:
    return f"asking them ended by signal {-status}" if status < 0 else "asking them failed"


def _names(drivers: Iterable[Path]) -> str:
    return ", ".join(path.name for path in drivers)


def _node() -> str:
    from mica.bus import Settings

    return Settings.from_environment().node
