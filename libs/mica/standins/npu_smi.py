"""Stands in for npu-smi on a simulated node: the queries and the two vNPU commands that are used most, in its own form.

Invariant: what it prints agrees with what the simulated libdcmi answers, since both read the same engine. Figures that the engine
does not have are NA. Exit statuses are npu-smi's: 215 for a parameter, 1 for what is not supported or not possible.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from mica.events import Vendor
from mica.hardware import (
    JPEG_DECODERS,
    BooksReader,
    Catalogue,
    ControlError,
    DeviceBooks,
    GpuInstanceBooks,
    HardwareProfile,
    Model,
)

VERSION: Final = "25.2.0"
BAD_PARAMETER: Final = 215
REFUSED: Final = 1
FIRST_NUMBER: Final = 100
NUMBERS: Final = 16
VGROUPS: Final = 4
AUTOMATIC: Final = 4294967295
_MIB: Final = 1 << 20
_GIB: Final = 1 << 30
_WIDE: Final = "+" + "-" * 90 + "+"
_TABLE: Final = "+" + "-" * 79 + "+"


class _ToolError(Exception):
    """What the tool says before it ends with ``status``."""

    def __init__(self, message: str, status: int = BAD_PARAMETER) -> None:
        super().__init__(message)
        self.status = status


class _Node:
    """The simulated node's Ascend chips, by their numbers."""

    def __init__(self) -> None:
        self.reader = BooksReader(Path(os.environ["MICA_SIM_DIR"]))
        self.books = self.reader.read()
        self.chips = [device for device in self.books.devices if device.vendor is Vendor.HUAWEI]

    def chip(self, flags: Mapping[str, str], *, chip_needed: bool = False) -> int:
        """The number that -i names; the only chip of a card, which -c names, is 0."""
        card = _number(flags, "-i", range(len(self.chips)))
        if chip_needed or "-c" in flags:
            _number(flags, "-c", range(1))
        self.reach(card)
        return card

    def reach(self, card: int) -> None:
        """A chip that hangs takes its time, one that fell off the bus does not answer."""
        time.sleep(self.chips[card].hang_ms / 1000)
        if self.chips[card].lost:
            raise _ToolError(f"Failed to get device {card} information, the device is not ready.", REFUSED)

    def model(self, card: int) -> Model:
        return Catalogue.load().model(self.chips[card].key)

    def templates(self, card: int) -> list[HardwareProfile]:
        return [each for each in self.model(card).profiles if not each.layout]

    def processes(self, card: int) -> list[tuple[int, str, int]]:
        """Pid, command and MB of the processes on the chip and its vNPUs."""
        found = []
        for process in self.books.processes:
            held = [each for each in process.accounts if each.device == self.chips[card].index and each.contexts]
            if process.live and held:
                found.append(
                    (process.pid, process.command, sum(each.granule_bytes + each.context_bytes for each in held) // _MIB)
                )
        return found


def main(words: Sequence[str] | None = None) -> int:
    """Run the tool; its exit status."""
    arguments = list(sys.argv[1:] if words is None else words)
    try:
        _run(arguments)
    except _ToolError as error:
        print(error)
        return error.status
    return 0


def _run(words: list[str]) -> None:
    if not words or words[0] not in ("info", "set"):
        raise _ToolError("Usage: npu-smi {info|set} [-l|-m|-t TYPE -i ID -c CHIP_ID ...]")
    node = _Node()
    if not node.chips:
        raise _ToolError("dcmi module initialize failed. ret is -8005", REFUSED)
    if words[0] == "info" and len(words) == 1:
        return _overview(node)
    if words == ["info", "-l"]:
        return _list(node)
    if words == ["info", "-m"]:
        return _mapping(node)
    flags = _flags(words[1:])
    kinds = INFO if words[0] == "info" else SET
    if flags.get("-t") not in kinds:
        raise _ToolError(f"Error parameter of -t. Supported types: {', '.join(kinds)}")
    return kinds[flags["-t"]](node, flags)


def _flags(words: list[str]) -> dict[str, str]:
    if len(words) % 2 or any(not word.startswith("-") for word in words[::2]):
        raise _ToolError("Error parameter, a flag and its value are wanted.")
    return dict(zip(words[::2], words[1::2], strict=True))


def _number(flags: Mapping[str, str], flag: str, allowed: range) -> int:
    text = flags.get(flag)
    if text is None:
        raise _ToolError(f"Must input parameter of {flag}.")
    if not text.isdecimal() or int(text) not in allowed:
        raise _ToolError(f"Error parameter of {flag}.")
    return int(text)


def _fields(rows: Mapping[str, object]) -> None:
    for name, value in rows.items():
        print(f"\t{name:<30} : {value}")


# Queries


def _overview(node: _Node) -> None:
    line, thick = ("+" + "+".join(mark * width for width in (27, 15, 52)) + "+" for mark in "-=")
    print("+" + "-" * 96 + "+")
    print(f"| npu-smi {VERSION:<24} Version: {VERSION:<52} |")
    print(line)
    print(f"| {'NPU   Name':<25} | {'Health':<13} | {'Power(W)    Temp(C)           Hugepages-Usage(page)':<51}|")
    print(f"| {'Chip':<25} | {'Bus-Id':<13} | {'AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)':<50} |")
    print(thick)
    for card, chip in enumerate(node.chips):
        used, total = (amount // _MIB for amount in _memory(chip))
        hbm = _has_hbm(chip)
        memory = f"0    / 0          {used:<5}/ {total}" if hbm else f"{used:<5}/ {total}"
        health = "Not Ready" if chip.lost else _health(chip)
        print(f"| {f'{card:<5} {_name(chip)}':<25} | {health:<13} | {f'NA          {_temperature(chip):<18}0    / 0':<50} |")
        print(f"| {'0':<25} | {_bus(chip):<13} | {f'0           {memory}':<50} |")
        print(thick)
    print(line)
    print(f"| {'NPU     Chip':<25} | {'Process id':<13} | {'Process name             | Process memory(MB)':<50} |")
    print(thick)
    for card in range(len(node.chips)):
        for pid, command, held in node.processes(card):
            print(f"| {f'{card:<7} 0':<25} | {pid:<13} | {f'{command:<24} | {held}':<50} |")
        if not node.processes(card):
            print(f"| {f'No running processes found in NPU {card}':<94} |")
        print(thick)


def _list(node: _Node) -> None:
    _fields({"Total Count": len(node.chips)})
    for card in range(len(node.chips)):
        print()
        _fields({"NPU ID": card, "Chip Count": 1})


def _mapping(node: _Node) -> None:
    print("\t" + "".join(f"{title:<31}" for title in ("NPU ID", "Chip ID", "Chip Logic ID", "Chip Name")))
    for card, chip in enumerate(node.chips):
        print("\t" + "".join(f"{cell!s:<31}" for cell in (card, 0, card, chip.name)))


def _common(node: _Node, flags: Mapping[str, str]) -> None:
    card = node.chip(flags)
    chip, model = node.chips[card], node.model(card)
    used, total = _memory(chip)
    _fields({"NPU ID": card, "Chip Count": 1, "Chip ID": 0})
    _fields({"Memory Usage Rate(%)": 0 if _has_hbm(chip) else 100 * used // total})
    _fields({"HBM Usage Rate(%)": 100 * used // total if _has_hbm(chip) else "NA", "Aicore Usage Rate(%)": 0})
    _fields({"Aicore Freq(MHZ)": model.clock_khz // 1000, "Aicore curFreq(MHZ)": model.clock_khz // 1000})
    _fields({"Aicore Count": chip.multiprocessors, "Temperature(C)": _temperature(chip), "NPU Real-time Power(W)": "NA"})


def _usages(node: _Node, flags: Mapping[str, str]) -> None:
    card = node.chip(flags)
    chip = node.chips[card]
    used, total = _memory(chip)
    kind, other = ("HBM", "DDR") if _has_hbm(chip) else ("DDR", "HBM")
    _fields({"NPU ID": card, "Chip Count": 1})
    _fields({f"{kind} Capacity(MB)": total // _MIB, f"{kind} Usage Rate(%)": 100 * used // total})
    _fields({f"{other} Capacity(MB)": 0, f"{other} Usage Rate(%)": 0, "Aicore Usage Rate(%)": 0, "Aicpu Usage Rate(%)": 0})
    _fields({f"{kind} Bandwidth Usage Rate(%)": 0, "Chip ID": 0})


def _health_info(node: _Node, flags: Mapping[str, str]) -> None:
    chip = node.chips[node.chip(flags)]
    failed = chip.ecc_uncorrected > 0
    _fields({"Health Status": _health(chip), "Error Code": "80E01801" if failed else "NA"})
    _fields({"Error Information": "node type=HBM, event state=multi-bit ECC error" if failed else "NA"})


def _board(node: _Node, flags: Mapping[str, str]) -> None:
    card = node.chip(flags)
    chip, model = node.chips[card], node.model(card)
    _fields({"NPU ID": card, "Software Version": VERSION, "Serial Number": chip.serial, "PCIe Bus Info": _bus(chip)})
    _fields({"PCI Vendor ID": "0x19E5", "PCI Device ID": f"0x{model.pci_device_id:04X}", "Chip Count": 1})


def _process_memory(node: _Node, flags: Mapping[str, str]) -> None:
    card = node.chip(flags)
    _fields({"NPU ID": card})
    for pid, command, held in node.processes(card):
        print(f"\tProcess id:{pid:<7} Process name:{command:<17} Process memory(MB):{held}")
    if not node.processes(card):
        print("\tNo process in device.")
    _fields({"Chip ID": 0})


def _mode(_: _Node, __: Mapping[str, str]) -> None:
    _fields({"vnpu-mode": "docker"})


def _template_info(node: _Node, flags: Mapping[str, str]) -> None:
    card = node.chip(flags) if "-i" in flags else 0
    if not node.templates(card):
        raise _ToolError("This device does not support querying template-info.", REFUSED)
    print(_WIDE)
    print(f"|{'NPU instance template info is:':<90}|")
    print(f"|{'Name':<19} {'AICORE':<9} {'Memory':<9} {'AICPU':<9} {'VPC':<14} {'VENC':<14} {'JPEGD':<10}|")
    print(f"|{'':<30}{'GB':<20}{'PNGD':<14} {'VDEC':<14} {'JPEGE':<10}|")
    print("|" + "=" * 90 + "|")
    for each in node.templates(card):
        row = (each.multiprocessors, _nominal_gib(node.chips[card], each), each.auxiliary)
        print(f"|{each.name:<19} {row[0]:<9} {row[1]:<9} {row[2]:<9} {'NA':<14} {'NA':<14} {each.jpegs:<10}|")
        print(f"|{'':<49} {'NA':<14} {'NA':<14} {'NA':<10}|")
        print(_WIDE)


def _vnpu_info(node: _Node, flags: Mapping[str, str]) -> None:
    card = node.chip(flags, chip_needed=True)
    if not node.templates(card):
        raise _ToolError("This device does not support querying info-vnpu.", REFUSED)
    chip = node.chips[card]
    print(_TABLE)
    print(f"| {'NPU resource static info as follow:':<78}|")
    print(f"| {'Format:Free/Total                   NA: Currently, query is not supported.':<78}|")
    print(f"| {'AICORE    Memory    AICPU    VPC    VENC    VDEC    JPEGD    JPEGE    PNGD':<78}|")
    print(f"| {'           GB':<78}|")
    print("|" + "=" * 79 + "|")
    cells = zip(_left(node, card), (9, 9, 8, 6, 7, 7, 8, 8, 8), strict=True)
    print("| " + " ".join(f"{cell:<{width}}" for cell, width in cells) + "|")
    print(_TABLE)
    print(f"| {f'Total number of vnpu: {len(chip.instances)}':<78}|")
    print(_TABLE)
    print("|  Vnpu ID  |  Vgroup ID     |  Container ID  |  Status  |  Template Name       |")
    for each in sorted(chip.instances, key=lambda instance: instance.id):
        used = any(node.books.accounts(part.uuid) for part in each.compute)
        number, container = _vnpu_number(card, each), ("f" if used else "0") * 12
        print(_TABLE)
        print(f"|  {number:<9}|  {'NA':<12}  |  {container}  |  {int(used):<2}      |  {each.profile:<15}     |")
    print(_TABLE)


def _left(node: _Node, card: int) -> tuple[str, ...]:
    """What is free of what there is, in the order of the columns."""
    chip, model = node.chips[card], node.model(card)
    profiles = {each.name: each for each in node.templates(card)}
    taken = [profiles[each.profile] for each in chip.instances]
    cores = model.multiprocessors - sum(each.multiprocessors for each in taken)
    gib = (chip.vram_bytes - sum(each.memory_bytes for each in taken)) // _GIB
    cpus = model.auxiliary if taken else model.auxiliary - 1
    jpegs = model.budgets.get(JPEG_DECODERS, 0)
    cpus_left = f"{cpus - sum(each.auxiliary for each in taken)}/{cpus}" if model.auxiliary else "NA/NA"
    jpegs_left = f"{jpegs - sum(each.jpegs for each in taken)}/{jpegs}" if jpegs else "NA/NA"
    unknown = ("NA/NA",) * 3
    return (
        f"{cores}/{model.multiprocessors}",
        f"{gib}/{chip.vram_bytes // _GIB}",
        cpus_left,
        *unknown,
        jpegs_left,
        *unknown[:2],
    )


# Changes


def _create(node: _Node, flags: Mapping[str, str]) -> None:
    card = node.chip(flags, chip_needed=True)
    profile = {each.name: each for each in node.templates(card)}.get(flags.get("-f", ""))
    if "-f" not in flags:
        raise _ToolError("Must input parameter of -f.")
    if profile is None:
        raise _ToolError("Error parameter of -f.")
    if "-g" in flags:
        _number(flags, "-g", range(VGROUPS))
    first = FIRST_NUMBER + NUMBERS * card
    taken = {_vnpu_number(card, each) for each in node.chips[card].instances}
    number = next(each for each in range(first, first + NUMBERS + 1) if each not in taken)
    if flags.get("-v", str(AUTOMATIC)) != str(AUTOMATIC):
        number = _number(flags, "-v", range(first, first + NUMBERS))
    start = number - first if number - first in profile.starts else -1
    uuid, identity = node.chips[card].uuid, number - first + 1
    try:
        try:
            node.reader.control(f"create {uuid} {profile.name} {start} {identity}")
        except ControlError:
            if start < 0:
                raise
            node.reader.control(f"create {uuid} {profile.name} -1 {identity}")
    except ControlError:
        raise _ToolError("create vnpu failed.", REFUSED) from None
    _fields({"Status": "OK", "Message": "Create vnpu success"})


def _destroy(node: _Node, flags: Mapping[str, str]) -> None:
    card = node.chip(flags, chip_needed=True)
    first = FIRST_NUMBER + NUMBERS * card
    number = _number(flags, "-v", range(first, first + NUMBERS))
    found = next((each for each in node.chips[card].instances if _vnpu_number(card, each) == number), None)
    if found is None:
        raise _ToolError("Error parameter of -v.")
    try:
        node.reader.control(f"destroy {node.chips[card].uuid} {found.start}")
    except ControlError:
        raise _ToolError(f"destroy vnpu {number} failed.", REFUSED) from None
    _fields({"Status": "OK", "Message": f"Destroy vnpu {number} success"})


INFO: Final[Mapping[str, Callable[[_Node, Mapping[str, str]], None]]] = {
    "board": _board,
    "common": _common,
    "health": _health_info,
    "info-vnpu": _vnpu_info,
    "proc-mem": _process_memory,
    "template-info": _template_info,
    "usages": _usages,
    "vnpu-mode": _mode,
}
SET: Final[Mapping[str, Callable[[_Node, Mapping[str, str]], None]]] = {"create-vnpu": _create, "destroy-vnpu": _destroy}


# Figures


def _vnpu_number(card: int, instance: GpuInstanceBooks) -> int:
    return FIRST_NUMBER + NUMBERS * card + instance.id - 1


def _memory(chip: DeviceBooks) -> tuple[int, int]:
    return chip.spent_bytes + chip.reserve_bytes, chip.vram_bytes


def _has_hbm(chip: DeviceBooks) -> bool:
    return chip.key.startswith("910")


def _name(chip: DeviceBooks) -> str:
    return chip.name.rpartition(" ")[2]


def _bus(chip: DeviceBooks) -> str:
    return ":".join((chip.pci.split(":")[0][-4:], *chip.pci.split(":")[1:]))


def _temperature(chip: DeviceBooks) -> int | str:
    return chip.temperature_c or "NA"


def _health(chip: DeviceBooks) -> str:
    return "Alarm" if chip.ecc_uncorrected else "OK"


def _nominal_gib(chip: DeviceBooks, template: HardwareProfile) -> int:
    """As its name says; a 310P's are parts of 24 GB, and a 910 says nothing."""
    named = re.search(r"_(\d+)g", template.name)
    if named is not None:
        return int(named[1])
    return -(-chip.vram_bytes // (8 * _GIB)) * 8 * template.multiprocessors // chip.multiprocessors if not _has_hbm(chip) else 0
