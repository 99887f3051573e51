"""Intel's devices as ``xpu-smi`` numbers and prints them: the simulated node's, in its order, and their virtual functions.

Invariant: a function's PCI address is the one that the simulated driver gives it.
"""

import json
import os
import textwrap
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from mica.standins._engine import Engine

MIB: Final = 1 << 20
OK: Final = 0
GENERIC_ERROR: Final = 1
BAD_ARGUMENT: Final = 2
NO_DEVICE: Final = 4
INVALID_LMEM: Final = 52
INVALID_NUMVFS: Final = 53
DIRTY_PF: Final = 54
CREATE_FAILED: Final = 56
REMOVE_FAILED: Final = 58
UNSUPPORTED_MODEL: Final = 60
NO_IOMMU: Final = 63
NO_SRIOV: Final = 64
_LEFT: Final = 11
_RIGHT: Final = 86


class XpuError(Exception):
    """What the tool refuses, in its words, with the number that it ends with."""

    def __init__(self, message: str, code: int = GENERIC_ERROR) -> None:
        self.code = code
        super().__init__(message)


class XpuDevice:
    """One device: ``index`` is the tool's, ``native`` what the engine's books say."""

    def __init__(self, index: int, native: dict[str, Any]) -> None:
        self.index = index
        self.native = native

    @property
    def functions(self) -> list[dict[str, Any]]:
        """Its virtual functions, in order."""
        mine = [each for each in self.native["instances"] if each["layout"].startswith("vf")]
        return sorted(mine, key=lambda each: int(each["start"]))

    @property
    def tiles(self) -> list[dict[str, Any]]:
        """The tiles that programs confine themselves to now."""
        return [each for each in self.native["instances"] if each["layout"] == "tiles"]

    def address(self, function: int = 0) -> str:
        """The PCI address of a function; 0 is the physical one."""
        domain, bus, place = self.native["pci"].split(":")
        device = int(place.split(".")[0], 16)
        return f"{domain}:{bus}:{device + (function >> 3):02x}.{function & 7}"

    def model(self) -> Any:
        """The catalogue's entry."""
        from mica.hardware import Catalogue

        return Catalogue.load().model(self.native["key"])


def xpu_devices(engine: Engine) -> list[XpuDevice]:
    """All devices of the node that are Intel's. One that hangs keeps the tool waiting."""
    natives = [each for each in engine.books()["devices"] if each["vendor"] == "intel"]
    devices = [XpuDevice(index, native) for index, native in enumerate(natives)]
    time.sleep(max((each.native["hang_ms"] for each in devices), default=0) / 1000)
    return [each for each in devices if not each.native["lost"]]


def find(devices: Iterable[XpuDevice], word: str) -> XpuDevice:
    """The device of that number or PCI address. Raises XpuError."""
    for device in devices:
        if word == str(device.index) or word.lower() == device.address():
            return device
    raise XpuError("device not found", NO_DEVICE)


def has_iommu() -> bool:
    """Whether the node's /sys shows an IOMMU; one that nobody has written yet is not held against it."""
    place = Path(os.environ.get("MICA_SIM_DIR", "")) / "sys/class/iommu"
    return not place.is_dir() or any(place.iterdir())


def print_json(value: Any) -> None:
    """As the tool prints JSON: keys in order, four blanks for each level."""
    print(json.dumps(value, indent=4, sort_keys=True))


def print_table(rows: Iterable[tuple[str, list[str]]], heads: tuple[str, str] | None = None) -> None:
    """The tool's table of two columns; a row's lines stand below each other."""
    rule = f"+{'-' * (_LEFT)}+{'-' * (_RIGHT)}+"
    print(rule)
    for left, lines in (*([(heads[0], [heads[1]])] if heads else []), *rows):
        wrapped = [part for line in lines for part in textwrap.wrap(line, _RIGHT - 2, subsequent_indent="  ") or [""]]
        for number, line in enumerate(wrapped):
            print(f"| {left if number == 0 else '':<{_LEFT - 2}} | {line:<{_RIGHT - 2}} |")
        print(rule)


def print_list(blocks: Iterable[list[str]]) -> None:
    """The tool's table of one column, a box for each block."""
    width = _LEFT + _RIGHT + 1
    print(f"+{'-' * width}+")
    for lines in (["Device Information"], *blocks):
        for line in lines:
            print(f"| {line:<{width - 2}} |")
        print(f"+{'-' * width}+")
