"""SR-IOV: a device's virtual functions as sysfs shows them, made and removed by ``xpu-smi`` where it is there, else by sysfs.

Invariant: nothing of sysfs is written but to make functions, to remove them, or to bind the host's driver to them.
"""

import json
import logging
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from mica.vendors._port import VendorAbsentError, VendorError
from mica.vendors._tools import SIMULATION, find_tool, run_tool

log = logging.getLogger(__name__)

TOOL: Final = "xpu-smi"
PRECHECK_S: Final = 20.0
CHANGE_S: Final = 90.0
MOST: Final = 256
CHECKS: Final = {"iommu_status": "iommu_message", "vmx_flag": "vmx_message"}
"""What the tool must find before it makes functions, on any device; whether a device has some is asked of the device."""
CHECKED: Final = (0, 62, 63, 64)
"""How the tool ends when all checks passed, or one of them did not."""
_ADDRESS: Final = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-1][0-9a-f]\.[0-7]")
_MIB: Final = 1 << 20


def is_address(word: str) -> bool:
    """Whether it is a PCI address."""
    return _ADDRESS.fullmatch(word) is not None


def sysfs_root() -> Path:
    """The kernel's, or the simulation's own."""
    simulated = os.environ.get(SIMULATION)
    return Path(simulated) / "sys" if simulated else Path("/sys")


def precheck_refusal(text: str) -> str:
    """Why ``xpu-smi vgpu --precheck -j`` says that no functions can be made; empty: they can. Raises VendorError.

    Version 1 answers once, version 2 once for each device, one answer after another.
    """
    failed: dict[str, None] = {}
    rest = text.strip()
    while rest:
        try:
            answer, end = json.JSONDecoder().raw_decode(rest)
        except ValueError as error:
            raise VendorError(f"{TOOL} vgpu --precheck: {error}") from None
        if not isinstance(answer, dict) or not all(answer.get(key) in {"Pass", "Fail"} for key in CHECKS):
            raise VendorError(f"{TOOL} vgpu --precheck: answers {rest[:end][:100]}")
        failed |= {str(answer.get(message) or key): None for key, message in CHECKS.items() if answer[key] == "Fail"}
        rest = rest[end:].strip()
    return "; ".join(failed)


class Functions:
    """The virtual functions of this machine's devices, by the PCI address of the physical one."""

    def __init__(self, root: Path | None = None) -> None:
        self._root = root or sysfs_root()
        self._devices = self._root / "bus/pci/devices"
        try:
            self._tool: Path | None = find_tool(TOOL)
        except VendorAbsentError:
            self._tool = None
        self._checked: str | None = None

    def most(self, address: str) -> int:
        """How many the device can have; 0 where it has none."""
        return self._number(address, "sriov_totalvfs")

    def is_function(self, address: str) -> bool:
        """Whether it is a virtual function of a device of this machine."""
        return (self._devices / address / "physfn").exists()

    def addresses(self, address: str) -> tuple[str, ...]:
        """The living ones, in order."""
        links = (self._devices / address / f"virtfn{number}" for number in range(self._number(address, "sriov_numvfs")))
        return tuple(link.resolve().name for link in links if link.exists())

    def numa_node(self, address: str) -> int:
        """The host's next to it; -1: not known."""
        try:
            return int((self._devices / address / "numa_node").read_text())
        except (OSError, ValueError):
            return -1

    def pci_device_id(self, address: str) -> int:
        """0: not known."""
        try:
            return int((self._devices / address / "device").read_text(), 16)
        except (OSError, ValueError):
            return 0

    def nodes(self, address: str) -> tuple[str, ...]:
        """The device nodes of its graphics driver; none while that is not bound to it."""
        with suppress(OSError):
            names = sorted(each.name for each in (self._devices / address / "drm").iterdir())
            return tuple(f"/dev/dri/{name}" for name in names if name.startswith(("card", "renderD")))
        return ()

    def vfio_nodes(self, address: str) -> tuple[str, ...]:
        """The nodes by which a virtual machine gets it; none while it is not set aside for that."""
        group = self._devices / address / "iommu_group"
        return ("/dev/vfio/vfio", f"/dev/vfio/{group.resolve().name}") if self.is_set_aside(address) and group.exists() else ()

    def is_set_aside(self, address: str) -> bool:
        """Whether it is bound to a driver that hands it to a virtual machine."""
        driver = self._devices / address / "driver"
        return driver.exists() and "vfio" in driver.resolve().name

    def refusal(self, address: str) -> str:
        """Why no functions can be made or removed; empty: they can."""
        if not self.most(address):
            return "sriov_totalvfs is 0: SR-IOV is off in the firmware or on the kernel's command line"
        numbers = self._devices / address / "sriov_numvfs"
        if not os.access(numbers, os.W_OK):
            return "not allowed to write sriov_numvfs: no privilege, or a container with a read-only /sys"
        if self._checked is None:
            self._checked = self._check()
        return self._checked

    def make(self, address: str, number: int, vram_bytes: int) -> None:
        """Make so many functions with ``vram_bytes`` each. Raises VendorError."""
        if self._tool is not None:
            mib = str(vram_bytes // _MIB)
            run_tool([self._tool, "vgpu", "-d", address, "-c", "-n", str(number), "--lmem", mib], CHANGE_S)
            return
        self._write(address, "sriov_drivers_autoprobe", "1")
        self._write(address, "sriov_numvfs", str(number))

    def clear(self, address: str) -> None:
        """Remove them all. Raises VendorError."""
        if self._tool is not None:
            run_tool([self._tool, "vgpu", "-d", address, "-r", "-j"], CHANGE_S)  # with -j no version asks back
            return
        self._write(address, "sriov_numvfs", "0")

    def bind(self, functions: Sequence[str]) -> None:
        """Have the host's driver take the functions; the tool leaves that off unless its configuration says otherwise."""
        for address in functions:
            if self.nodes(address) or (self._devices / address / "driver").exists():
                continue
            try:
                (self._devices / address / "physfn" / "sriov_drivers_autoprobe").write_text("1")
                (self._root / "bus/pci/drivers_probe").write_text(address)
            except OSError as error:
                log.warning("%s: the host's driver was not bound to it: %s", address, error.strerror)

    def _check(self) -> str:
        """The same on any device: the IOMMU, and what the tool says."""
        if self._tool is None:
            iommus = self._root / "class/iommu"
            return "" if iommus.is_dir() and any(iommus.iterdir()) else "no IOMMU: it is off in the firmware or the kernel"
        try:
            return precheck_refusal(run_tool([self._tool, "vgpu", "--precheck", "-j"], PRECHECK_S, CHECKED))
        except VendorError as error:
            return str(error)

    def _number(self, address: str, name: str) -> int:
        try:
            value = int((self._devices / address / name).read_text())
        except (OSError, ValueError):
            return 0
        return value if 0 <= value <= MOST else 0

    def _write(self, address: str, name: str, word: str) -> None:
        try:
            (self._devices / address / name).write_text(word)
        except OSError as error:
            raise VendorError(f"{address}: writing {word} to {name}: {error.strerror}") from None
