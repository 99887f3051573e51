"""What Linux says of PCI below ``/sys``.

Invariant: it reads and follows links below ``root`` alone, and a function that vanishes meanwhile is left out.
"""

from pathlib import Path
from typing import Final

from mica.topology import _pci as pci
from mica.topology._draft import Draft, Found
from mica.topology._model import PartKind, Topology, TopologyError

SYS: Final = Path("/sys")
_DEVICES: Final = Path("bus/pci/devices")
_TEXT_MAX: Final = 256


def pcie_path(bdf: str, root: Path = SYS) -> tuple[str, ...]:
    """The PCI addresses of the bridges above a function, the root port first; empty where there are none.

    Raises:
        TopologyError: it is no PCI address, or there is no such function.
    """
    try:
        address = pci.address(bdf)
    except ValueError as error:
        raise TopologyError(f"PCI address {bdf[:40]!r}; allowed: {error}") from None
    return _path(_directory(address, root))


def read(root: Path, node: str) -> Topology:
    """The PCI tree of a machine; sysfs does not tell of direct links. Raises TopologyError: there is no sysfs at ``root``."""
    folder = root / _DEVICES
    try:
        addresses = sorted(each.name for each in folder.iterdir() if pci.ADDRESS.match(each.name))
    except OSError as error:
        raise TopologyError(f"{folder}: {error.strerror}; allowed: the root of a sysfs, such as {SYS}") from None
    draft = Draft(node, "sysfs")
    for address in addresses:
        try:
            kind = pci.kind(_number(folder / address / "class") >> 8, _number(folder / address / "vendor"))
            if kind not in (None, PartKind.BRIDGE):
                _add(draft, address, kind, root)
        except FileNotFoundError:
            continue
    return draft.finish()


def _add(draft: Draft, address: str, kind: PartKind, root: Path) -> None:
    bridges = _path(_directory(address, root))
    folder = root / _DEVICES
    parent = draft.root((*bridges, address)[0], _signed(folder / (*bridges, address)[0] / "numa_node"))
    for each in (*bridges, address):
        if each not in draft:
            vendor_id = _number(folder / each / "vendor")
            draft.add(
                Found(
                    id=each, kind=kind if each == address else PartKind.BRIDGE, parent=parent, address=each,
                    numa=_signed(folder / each / "numa_node"), vendor=pci.vendor(vendor_id),
                    model="" if each != address else f"{vendor_id:04x}:{_number(folder / each / 'device'):04x}",
                    gt_per_s=_speed(folder / each), width=pci.width(max(_signed(folder / each / "current_link_width"), 0)),
                ),
                str(folder / each),
            )  # fmt: skip
        parent = each


def _directory(address: str, root: Path) -> Path:
    try:
        found = (root / _DEVICES / address).resolve(strict=True)
    except OSError as error:
        raise TopologyError(f"{root / _DEVICES / address}: {error.strerror}; allowed: a PCI function that is there") from None
    if not found.is_relative_to(root.resolve()):
        raise TopologyError(f"{root / _DEVICES / address}: it leads to {found}; allowed: below {root}")
    return found


def _path(directory: Path) -> tuple[str, ...]:
    return tuple(part for part in directory.parent.parts if pci.ADDRESS.match(part))


def _text(path: Path) -> str:
    """The content of an attribute; empty where the function has no such attribute, or it does not answer."""
    if not path.parent.exists():
        raise FileNotFoundError(path)
    try:
        return path.read_text(errors="replace")[:_TEXT_MAX].strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    return max(_signed(path), 0)


def _signed(path: Path) -> int:
    try:
        return int(_text(path), 0)
    except ValueError:
        return -1


def _speed(folder: Path) -> float:
    try:
        return pci.gt_per_s(_text(folder / "current_link_speed"))
    except ValueError:
        return 0.0
