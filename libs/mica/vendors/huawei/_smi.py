"""What npu-smi is asked: the templates, which DCMI does not list, and vNPUs where an older libdcmi lacks the call.

Invariant: an answer in a form that is not understood is one ``VendorError`` that names the command and quotes it. npu-smi is
itself built on libdcmi, so it stands in for single calls, never for the library.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from mica.vendors._port import VendorError
from mica.vendors._tools import find_tool, run_tool
from mica.vendors.huawei._library import Chip
from mica.vendors.huawei._templates import Template

PLACES: Final = (Path("/usr/local/bin"), Path("/usr/local/sbin"), Path("/usr/local/Ascend/driver/tools"))
TIMEOUT_S: Final = 20.0
_COLUMNS: Final = ("name", "aicore", "memory", "aicpu")
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")


def templates(chip: Chip) -> tuple[Template, ...]:
    """The templates of a card. Raises VendorError."""
    return parse_templates(_run("info", "-t", "template-info", "-i", str(chip.card)))


def vnpus(chip: Chip) -> list[tuple[int, str, bool]]:
    """Number, template and whether a container uses it, of each vNPU of a chip. Raises VendorError."""
    return parse_vnpus(_run("info", "-t", "info-vnpu", "-i", str(chip.card), "-c", str(chip.device)))


def create(chip: Chip, template: str, number: int) -> None:
    """Make a vNPU. Raises VendorError."""
    of_chip = ("-i", str(chip.card), "-c", str(chip.device))
    _done(_run("set", "-t", "create-vnpu", *of_chip, "-f", template, "-v", str(number)), f"{template} as {number}")


def destroy(chip: Chip, number: int) -> None:
    """Destroy a vNPU. Raises VendorError."""
    _done(_run("set", "-t", "destroy-vnpu", "-i", str(chip.card), "-c", str(chip.device), "-v", str(number)), f"vNPU {number}")


def parse_templates(text: str) -> tuple[Template, ...]:
    """Read ``info -t template-info``: columns by their names, and more of them than are needed. Raises VendorError."""
    columns: list[str] = []
    found: list[Template] = []
    for cells in _rows(text):
        words = cells[0].split()
        if words and words[0].lower() == "name":
            columns = [word.lower() for word in words]
        elif columns and len(words) == len(columns) and _is_number(words[1]):
            found.append(_template(dict(zip(columns, words, strict=True))))
    if not set(_COLUMNS) <= set(columns) or not found:
        raise _unknown("info -t template-info", text, f"a line with {', '.join(_COLUMNS)}, and templates")
    return tuple(found)


def parse_vnpus(text: str) -> list[tuple[int, str, bool]]:
    """Read the table of ``info -t info-vnpu``. Raises VendorError."""
    columns: list[str] = []
    found: list[tuple[int, str, bool]] = []
    for cells in _rows(text):
        if cells[0].lower() == "vnpu id":
            columns = [cell.lower() for cell in cells]
        elif columns and len(cells) == len(columns) and cells[0].isdecimal():
            row = dict(zip(columns, cells, strict=True))
            found.append((int(cells[0]), row.get("template name", ""), row.get("status", "0") not in ("0", "NA")))
    counted = re.search(r"Total number of vnpu:\s*(\d+)", text)
    if counted is None or int(counted[1]) != len(found):
        said = counted[1] if counted is not None else "no number"
        raise _unknown("info -t info-vnpu", text, f"as many rows as the total of vNPUs, {said}; {len(found)} found")
    return found


def _template(row: dict[str, str]) -> Template:
    cores, memory, cpus, jpegs = (_whole(row.get(column, "")) for column in ("aicore", "memory", "aicpu", "jpegd"))
    return Template(row["name"], cores, memory, cpus, jpegs)


def _rows(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("|") and stripped.strip("|"):
            yield [cell.strip() for cell in stripped.strip("|").split("|")]


def _is_number(word: str) -> bool:
    return _NUMBER.fullmatch(word) is not None


def _whole(word: str) -> int:
    """0 for the "NA" of what a chip does not say."""
    return int(float(word)) if _is_number(word) and len(word) < 16 else 0


def _run(*words: str) -> str:
    return run_tool((find_tool("npu-smi", PLACES), *words), TIMEOUT_S)


def _done(text: str, what: str) -> None:
    """npu-smi ends with 0 in some cases in which it did nothing."""
    if not re.search(r"Status\s*:\s*OK", text):
        raise VendorError(f"npu-smi: {what}: {' '.join(text.split())[:200] or 'no answer'}")


def _unknown(command: str, text: str, wanted: str) -> VendorError:
    lines: Sequence[str] = [line.strip() for line in text.splitlines() if line.strip(" +-=|")]
    return VendorError(f"npu-smi {command}: unknown format, begins {lines[0][:80] if lines else ''!r}, wanted: {wanted}")
