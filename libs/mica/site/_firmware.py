"""What the firmware says of its machine: SMBIOS, as the kernel shows it.

Invariant: text that can be shown, of bounded length.
"""

from pathlib import Path
from typing import Final

from msgspec import Struct

FIRMWARE_DIR: Final = Path("/sys/class/dmi/id")
LONGEST: Final = 128
PLACEHOLDERS: Final = frozenset(
    {
        "",
        "default string",
        "empty",
        "none",
        "not applicable",
        "not specified",
        "o.e.m.",
        "system manufacturer",
        "system product name",
        "system version",
        "to be filled by o.e.m.",
        "unknown",
    }
)
"""What vendors leave in fields that they do not fill."""


class Firmware(Struct, frozen=True, kw_only=True):
    """The fields by which machines are told apart; empty where there is nothing. Serial numbers are not among them."""

    sys_vendor: str = ""
    product_name: str = ""
    product_version: str = ""
    board_vendor: str = ""
    bios_vendor: str = ""
    bios_version: str = ""
    chassis_vendor: str = ""
    chassis_asset_tag: str = ""


def read_firmware(root: Path = FIRMWARE_DIR) -> Firmware:
    """The fields that there are: a machine without SMBIOS, or a container that hides it, has none."""
    return Firmware(**{name: _read(root / name) for name in Firmware.__struct_fields__})


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(LONGEST).decode(errors="replace")
    except OSError:
        return ""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return "" if line.lower() in PLACEHOLDERS else line
