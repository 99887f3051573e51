"""What ``qaic-util -q`` prints, read. Invariant: a line that is not known is no error, an essential one that is missing is one.

The tool prints ``QID n`` and then, indented, ``name:value`` lines; a device that is not ready has only the first few.
"""

import re
from collections.abc import Mapping
from typing import Final, TypeAlias

from msgspec import Struct

from mica.vendors._port import VendorError

Fields: TypeAlias = Mapping[str, str]

READY: Final = "Ready"
FIRST_DERIVED: Final = 100
"""QIDs from here on are derived devices'."""
NSPS_MAX: Final = 64
DRAM_MAX_MIB: Final = 1 << 24

_QID: Final = re.compile(r"\s*QID\s+(\d{1,6})\s*")
_COUNT: Final = re.compile(r"(\d{1,9})(?:\.\d+)?(?:\s*MB)?")
_PCI: Final = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", re.IGNORECASE)


class Report(Struct, frozen=True, kw_only=True):
    """A device that is ready, native or derived. ``link`` is its device node, ``pci`` empty for a derived one.

    ``networks`` are programs loaded into it; ``nsp_free`` are neither used nor reserved. ``board`` is its card's serial number.
    """

    qid: int
    pci: str
    link: str
    serial: str
    board: str
    sku: str
    dram_total_mib: int
    dram_free_mib: int
    nsp_total: int
    nsp_free: int
    networks: int
    temperature_c: int | None
    power_mw: int | None


def read_fields(text: str) -> dict[int, Fields]:
    """Every device's lines by name, by QID; what stands before the first one is ignored."""
    found: dict[int, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in text.splitlines():
        heading = _QID.fullmatch(line)
        if heading:
            current = found.setdefault(int(heading[1]), {})
            continue
        name, colon, value = line.partition(":")
        if colon:
            current.setdefault(name.strip(), value.strip())
    return dict(found)


def pci_address(qid: int, fields: Fields) -> str:
    """Where a native device is, in lower case.

    Raises:
        VendorError: the tool does not say.
    """
    address = fields.get("PCI Address", "").lower()
    if not _PCI.fullmatch(address):
        raise VendorError(f"QID {qid}: PCI Address {address!r}, wanted domain:bus:device.function")
    return address


def read_report(qid: int, fields: Fields) -> Report:
    """What the device says of itself.

    Raises:
        VendorError: it is not ready, or an essential line is missing or makes no sense.
    """
    status = fields.get("Status")
    if status != READY:
        raise VendorError(f"QID {qid}: Status {status or 'missing'}, wanted {READY}")
    derived = qid >= FIRST_DERIVED
    report = Report(
        qid=qid,
        pci="" if derived else pci_address(qid, fields),
        link=fields.get("Dev Link", ""),
        serial=fields.get("HW Serial", ""),
        board=fields.get("Board serial", ""),
        sku=fields.get("Sku Type", ""),
        dram_total_mib=_count(qid, fields, "Dram Total"),
        dram_free_mib=_count(qid, fields, "Dram Free"),
        nsp_total=_count(qid, fields, "Nsp Total"),
        nsp_free=_count(qid, fields, "Nsp Free"),
        networks=_optional(fields, "Networks Loaded") or 0,
        temperature_c=_optional(fields, "SoC temperature(degree C)"),
        power_mw=_milli(fields, "Board power(Watts)"),
    )
    for what, value, limit in (
        ("Nsp Total", report.nsp_total, NSPS_MAX),
        ("Nsp Free", report.nsp_free, report.nsp_total),
        ("Dram Total", report.dram_total_mib, DRAM_MAX_MIB),
        ("Dram Free", report.dram_free_mib, report.dram_total_mib),
    ):
        if value > limit:
            raise VendorError(f"QID {qid}: {what} {value}, at most {limit} makes sense")
    if not report.nsp_total or not report.dram_total_mib:
        raise VendorError(
            f"QID {qid}: Nsp Total {report.nsp_total} and Dram Total {report.dram_total_mib} MB, wanted more than 0"
        )
    return report


def _count(qid: int, fields: Fields, name: str) -> int:
    found = _optional(fields, name)
    if found is None:
        raise VendorError(f"QID {qid}: {name} {fields.get(name, 'missing')!r}, wanted a number")
    return found


def _optional(fields: Fields, name: str) -> int | None:
    match = _COUNT.fullmatch(fields.get(name, ""))
    return int(match[1]) if match else None


def _milli(fields: Fields, name: str) -> int | None:
    match = re.fullmatch(r"\d{1,5}(\.\d+)?", fields.get(name, ""))
    return round(float(match[0]) * 1000) if match else None
