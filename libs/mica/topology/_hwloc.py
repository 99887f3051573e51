"""hwloc's documents, versions 2 and 3: objects, PCI bridges and functions, and matrices of bandwidths.

Invariant: a matrix joins only devices and switches that are in the document; hwloc gives bandwidths in MB/s each way, and lanes
are counted from them.
"""

import re
from typing import Final

from mica.events import LinkKind
from mica.topology import _pci as pci
from mica.topology._draft import Draft, Found
from mica.topology._fabric import Connection
from mica.topology._model import PartKind, Topology
from mica.topology._xml import Element

_MATRICES: Final = {"NVLinkBandwidth": LinkKind.NVLINK, "XGMIBandwidth": LinkKind.XGMI, "XeLinkBandwidth": LinkKind.XE_LINK}
_HOPS: Final = {LinkKind.XGMI: "XGMIHops"}
"""hwloc gives pairs that are several links apart a bandwidth, too; another matrix says how many there are between."""
_NVLINK_MB_PER_S: Final = (25_000, 20_000)
"""One NVLink of version 2 to 4, and of version 1, as hwloc counts it."""
_MATRIX_MAX: Final = 512
_PCI_TYPE: Final = re.compile(r"^([0-9a-f]{4}) \[([0-9a-f]{4}):([0-9a-f]{4})\]", re.IGNORECASE)
_IO: Final = frozenset({"Bridge", "PCIDev", "OSDev", "Misc"})
_UUIDS: Final = ("NVIDIAUUID", "AMDUUID", "LevelZeroUUID")
_MODELS: Final = ("GPUModel", "LevelZeroModel", "CoProcType")


def read(root: Element, node: str) -> Topology:
    """The topology in an hwloc document. Raises TopologyError."""
    version = root.get("version", "1")
    if not re.match(r"^[23](\.\d+)?$", version):
        raise root.error(f"version {version[:20]!r}", "hwloc's version 2 or 3")
    reader = _Reader(Draft(node, "hwloc"))
    for child in root.all("object"):
        reader.object(child, "", -1)
    matrices = {matrix.get("name", ""): matrix for tag in ("distances2", "distances2hetero") for matrix in root.all(tag)}
    for name, kind in _MATRICES.items():
        if name in matrices:
            reader.matrix(matrices[name], kind, matrices.get(_HOPS.get(kind, "")))
    return reader.finish()


class _Reader:
    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._parts: dict[str, str] = {}
        self._switches: set[str] = set()

    def finish(self) -> Topology:
        return self._draft.finish()

    def object(self, element: Element, parent: str, numa: int) -> None:
        kind = element.get("type")
        if kind not in _IO:
            numa = _numa(element, numa)
        elif kind == "Bridge" and "pci_busid" not in element.attributes:
            parent = self._root(element, numa)
        elif kind in ("Bridge", "PCIDev"):
            parent = self._pci(element, parent, numa)
        elif kind == "OSDev" and parent:
            self._parts[element.get("gp_index", "")] = parent
        for child in element.all("object"):
            self.object(child, parent, numa)

    def _root(self, element: Element, numa: int) -> str:
        bus = element.get("bridge_pci", "?").replace("[", "").split("-")[0]
        name = f"pci{bus}"
        self._draft.add(Found(id=name, kind=PartKind.ROOT, label=f"root {bus}", numa=numa), element.place)
        return name

    def _pci(self, element: Element, parent: str, numa: int) -> str:
        address = element.parsed("pci_busid", pci.address)
        code, vendor_id, device_id = _numbers(element)
        kind = PartKind.NVSWITCH if element.get("subtype", "") == "NVSwitch" else pci.kind(code, vendor_id)
        if kind is None:
            return parent
        told = {info.get("name", ""): info.get("value", "") for child in element.all("object") for info in child.all("info")}
        name = next((told[key] for key in _UUIDS if told.get(key)), address) if kind is PartKind.DEVICE else address
        model = next((told[key] for key in _MODELS if told.get(key)), f"{vendor_id:04x}:{device_id:04x}")
        if kind is PartKind.NIC:
            model = ", ".join(child.get("name", "?") for child in element.all("object")) or model
        self._draft.add(
            Found(
                id=name[:64], kind=kind, parent=parent, address=address, numa=numa if not parent else -1,
                vendor=pci.vendor(vendor_id), model="" if kind is PartKind.BRIDGE else model[:128], bytes_per_s=_speed(element),
            ),
            element.place,
        )  # fmt: skip
        self._parts[element.get("gp_index", "")] = name[:64]
        if kind is PartKind.NVSWITCH:
            self._switches.add(name)
        return name[:64]

    def matrix(self, matrix: Element, kind: LinkKind, hops: Element | None) -> None:
        far = {pair for pair, number in self._values(hops).items() if number > 1} if hops is not None else set()
        devices = set(self._draft.ids(PartKind.DEVICE))
        for (a, b), speed in self._values(matrix).items():
            if speed and (a, b) not in far and a in devices and (b in devices or b in self._switches):
                self._connect(kind, a, b, speed)

    def _values(self, matrix: Element) -> dict[tuple[str, str], int]:
        """What a matrix has for each two parts; what it has for a part and itself means nothing."""
        size = matrix.number("nbobjs", 1, _MATRIX_MAX)
        names = [each.rsplit(":", 1)[-1] for indexes in matrix.all("indexes") for each in indexes.text.split()]
        values = [_value(matrix, text) for row in matrix.all("u64values") for text in row.text.split()]
        if len(names) != size or len(values) != size * size:
            raise matrix.error(f"{len(names)} indexes and {len(values)} values", f"{size} and {size * size}")
        parts = [self._parts.get(name, "") for name in names]
        pairs = ((row, column) for row in range(size) for column in range(size) if row != column)
        return {(parts[row], parts[column]): values[row * size + column] for row, column in pairs}

    def _connect(self, kind: LinkKind, a: str, b: str, mb_per_s: int) -> None:
        lanes = 1
        if kind is LinkKind.NVLINK:
            lanes = next((mb_per_s // lane for lane in _NVLINK_MB_PER_S if mb_per_s % lane == 0), 1)
        switched = b in self._switches
        speed = mb_per_s * 1_000_000
        self._draft.connect([Connection(a, b, LinkKind.NVSWITCH if switched else kind, lanes, speed)])


def _numa(element: Element, above: int) -> int:
    """The NUMA node of an object with exactly one in its nodeset; -1 with several."""
    text = element.get("nodeset", "")
    if not text or "..." in text:
        return above
    try:
        bits = int("".join(word.removeprefix("0x").rjust(8, "0") for word in text.split(",")), 16)
    except ValueError:
        raise element.error(f"nodeset={text[:40]!r}", "a bit set such as 0x00000003") from None
    return bits.bit_length() - 1 if bits and bits & (bits - 1) == 0 else -1


def _numbers(element: Element) -> tuple[int, int, int]:
    text = element.get("pci_type")
    found = _PCI_TYPE.match(text)
    if not found:
        raise element.error(f"pci_type={text[:40]!r}", "class and identities such as '0302 [10de:1db8]'")
    return int(found[1], 16), int(found[2], 16), int(found[3], 16)


def _speed(element: Element) -> int:
    """The ``pci_link_speed``, which is in GB/s, in bytes a second."""
    text = element.get("pci_link_speed", "0")
    if not re.match(r"^\d{1,4}(\.\d{1,9})?$", text):
        raise element.error(f"pci_link_speed={text[:40]!r}", "GB/s such as '15.753846'")
    return round(float(text) * 1e9)


def _value(matrix: Element, text: str) -> int:
    if not re.match(r"^\d{1,20}$", text):
        raise matrix.error(f"value {text[:40]!r}", "MB/s as a whole number")
    return int(text)
