"""Loads libdcmi and calls it. Invariant: in a simulation the system's is never opened; every failure is a ``DcmiError``."""

import ctypes
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from mica.native import NativeBuildError, sim_dcmi
from mica.vendors._port import VendorAbsentError, VendorError
from mica.vendors._tools import SIMULATION
from mica.vendors.huawei._abi import CARDS_MAX, NPU, PROCESSES_MAX, VDEV_MANAGEMENT, VDEVS_MAX, Code, ProcessMemory, VdevCommand

PLACES: Final = (
    "/usr/local/dcmi/libdcmi.so",
    "/usr/local/Ascend/driver/lib64/driver/libdcmi.so",
    "/usr/local/Ascend/driver/lib64/libdcmi.so",
    "/usr/lib64/libdcmi.so",
    "libdcmi.so",
)
CHIPS_MAX: Final = 8
"""On one card."""


class DcmiError(VendorError):
    """A call of libdcmi failed with ``code``."""

    def __init__(self, what: str, code: int) -> None:
        self.code = code
        name = next((each.name.lower().replace("_", " ") for each in Code if each == code), "error")
        super().__init__(f"{what}: {name} ({code})")


class Chip(Struct, frozen=True):
    """Where a chip is: its card, and which of that card's chips. ``npu-smi`` says -i and -c."""

    card: int
    device: int

    @property
    def key(self) -> str:
        """The library's name of it."""
        return f"{self.card}.{self.device}"


def simulated() -> bool:
    """Whether this process is told to use the simulated library."""
    return bool(os.environ.get(SIMULATION))


def open_dcmi() -> "Dcmi":
    """The library, loaded and initialised.

    Raises:
        VendorAbsentError: no library, or no chip behind it.
        VendorError: the library is there and does not start.
    """
    dcmi = Dcmi(_load_simulated() if simulated() else _load())
    try:
        dcmi.call("dcmi_init")
    except DcmiError as error:
        absent = error.code in (Code.NO_SUCH_DEVICE, Code.NOT_SUPPORTED)
        raise (VendorAbsentError if absent else VendorError)(str(error)) from None
    return dcmi


def _load() -> ctypes.CDLL:
    for place in PLACES:
        if place.startswith("/") and not Path(place).exists():
            continue
        try:
            return ctypes.CDLL(place)
        except OSError as error:
            if place.startswith("/"):
                raise VendorError(f"{place}: {error}") from None
    raise VendorAbsentError(f"libdcmi.so: not found in {', '.join(PLACES[:-1])}")


@cache
def _load_simulated() -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(sim_dcmi()))
    except (OSError, NativeBuildError) as error:
        raise VendorError(f"simulated DCMI: {error}") from None


class Dcmi:
    """The calls, with the library's answers held to what they can be."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the library. Raises DcmiError."""
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise DcmiError(name, Code.MISSING) from None
        code = int(function(*arguments))
        if code:
            raise DcmiError(name, code)

    def ask(self, name: str, chip: Chip, answer: Any, *more: Any) -> Any:
        """Have a function write its answer about a chip: ``name(card, device, *more, &answer)``. Raises DcmiError."""
        try:
            self.call(name, chip.card, chip.device, *more, ctypes.byref(answer))
        except DcmiError as error:
            raise DcmiError(f"chip {chip.key}: {name}", error.code) from None
        return answer

    def number(self, name: str, chip: Chip, *more: Any) -> int:
        """A number about a chip. Raises DcmiError."""
        return int(self.ask(name, chip, ctypes.c_int(), *more).value)

    def chips(self) -> Iterator[Chip]:
        """The NPUs, by card. Raises VendorError."""
        count, cards = ctypes.c_int(), (ctypes.c_int * CARDS_MAX)()
        self.call("dcmi_get_card_list", ctypes.byref(count), cards, CARDS_MAX)
        for card in cards[: _held("dcmi_get_card_list", count.value, CARDS_MAX)]:
            devices = ctypes.c_int()
            self.call("dcmi_get_device_num_in_card", card, ctypes.byref(devices))
            for device in range(_held(f"card {card}: dcmi_get_device_num_in_card", devices.value, CHIPS_MAX)):
                chip = Chip(card, device)
                if self._is_npu(chip):
                    yield chip

    def _is_npu(self, chip: Chip) -> bool:
        """A card's controller is numbered behind its chips; one that does not say what it is passes for a chip."""
        try:
            return self.number("dcmi_get_device_type", chip) == NPU
        except DcmiError:
            return True

    def physical(self, chip: Chip) -> tuple[int, int]:
        """Logical and physical number of a chip: /dev/davinciN, and vNPUs, go by the physical one. Raises DcmiError."""
        logic, physical = ctypes.c_int(), ctypes.c_uint()
        self.call("dcmi_get_device_logic_id", ctypes.byref(logic), chip.card, chip.device)
        self.call("dcmi_get_device_phyid_from_logicid", logic.value, ctypes.byref(physical))
        return logic.value, physical.value

    def vdev(self, chip: Chip, command: VdevCommand, answer: Any) -> Any:
        """Ask about vNPUs. Raises DcmiError."""
        size = ctypes.c_uint(ctypes.sizeof(answer))
        what = "dcmi_get_device_info"
        try:
            self.call(what, chip.card, chip.device, VDEV_MANAGEMENT, int(command), ctypes.byref(answer), ctypes.byref(size))
        except DcmiError as error:
            raise DcmiError(f"chip {chip.key}: {what} (vNPUs, {command.name.lower()})", error.code) from None
        return answer

    def processes(self, chip: Chip) -> list[tuple[int, int]]:
        """Process id and memory in bytes of all processes on the chip, those on its vNPUs included. Raises VendorError."""
        count, found = ctypes.c_int(), (ProcessMemory * PROCESSES_MAX)()
        self.ask("dcmi_get_device_resource_info", chip, count, found)
        listed = found[: _held(f"chip {chip.key}: dcmi_get_device_resource_info", count.value, PROCESSES_MAX)]
        return [(each.proc_id, each.proc_mem_usage) for each in listed]

    def numbers(self, chip: Chip, total: Any) -> list[int]:
        """The numbers of the chip's vNPUs. Raises VendorError."""
        return list(total.vdev_id[: _held(f"chip {chip.key}: vNPUs", total.vdev_num, VDEVS_MAX)])


def _held(what: str, count: int, most: int) -> int:
    if not 0 <= count <= most:
        raise VendorError(f"{what}: {count}, allowed: 0 to {most}")
    return count
