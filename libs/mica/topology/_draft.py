"""A topology while it is being read. Invariant: ``finish`` gives the same for the same parts; numbers follow ``order``."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from mica.events import Link, Vendor
from mica.topology import _pci as pci
from mica.topology._fabric import Connection, links
from mica.topology._model import Part, PartKind, Topology, TopologyError

PARTS_MAX: Final = 4096
DEVICES_MAX: Final = 256
NO_LINKS: Final = "the source states no links between devices, so none are shown; the devices may have some"
_NPU: Final = frozenset({Vendor.HUAWEI, Vendor.QUALCOMM})


class Found(Struct, frozen=True, kw_only=True):
    """A part as a reader finds it. ``order``: by what parts of its kind are numbered, before their PCI address."""

    id: str
    kind: PartKind
    parent: str = ""
    address: str = ""
    numa: int = -1
    vendor: Vendor | None = None
    model: str = ""
    gt_per_s: float = 0.0
    width: int = 0
    bytes_per_s: int = 0
    label: str = ""
    order: int = 0


class Draft:
    """Collects what a reader finds."""

    def __init__(self, node: str, source: str) -> None:
        self.node, self.source = node, source
        self.notes: list[str] = []
        self._found: dict[str, Found] = {}
        self._connections: list[Connection] = []
        self._links: tuple[Link, ...] = ()

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def __len__(self) -> int:
        return len(self._found)

    def add(self, found: Found, where: str) -> None:
        """Take a part; ``where`` names its place in errors. Raises TopologyError."""
        if found.id in self._found:
            raise TopologyError(f"{where}: {found.id} is there twice; allowed: once")
        if len(self._found) >= PARTS_MAX:
            raise TopologyError(f"{where}: {found.id} is part {PARTS_MAX + 1}; allowed: {PARTS_MAX}")
        if found.kind is PartKind.DEVICE and len(self.ids(PartKind.DEVICE)) >= DEVICES_MAX:
            raise TopologyError(f"{where}: {found.id} is device {DEVICES_MAX + 1}; allowed: {DEVICES_MAX}")
        self._found[found.id] = found

    def root(self, address: str, numa: int) -> str:
        """The root above a port or device, by its address: a host bridge's first bus. It is made when it is new."""
        bus = address.rsplit(":", 1)[0]
        name = f"pci{bus}"
        if name not in self._found:
            self.add(Found(id=name, kind=PartKind.ROOT, label=f"root {bus}", numa=numa), self.source)
        return name

    def connect(self, connections: Iterable[Connection]) -> None:
        """Take what devices say of their links."""
        self._connections += connections

    def join(self, joined: Iterable[Link]) -> None:
        """Take links between devices as they are."""
        self._links += tuple(joined)

    def ids(self, kind: PartKind) -> tuple[str, ...]:
        """The parts of a kind so far."""
        return tuple(each.id for each in self._found.values() if each.kind is kind)

    def finish(self) -> Topology:
        """The topology. Raises TopologyError."""
        parts = self._parts()
        devices = tuple(part.id for part in parts if part.kind is PartKind.DEVICE)
        joined, odd = links(devices, self._connections)
        joined += self._links
        labels = {part.id: part.label for part in parts}
        notes = [*self.notes, *(_named(note, labels) for note in odd)]
        if len(devices) > 1 and not joined:
            notes.append(NO_LINKS)
        return Topology(node=self.node, source=self.source, parts=parts, links=joined, notes=tuple(notes))

    def _parts(self) -> tuple[Part, ...]:
        counts: Counter[str] = Counter()
        parts = []
        for each in sorted(self._found.values(), key=lambda each: (each.kind is PartKind.DEVICE, each.order, each.address)):
            name = each.label or _NAMES.get(each.kind, str(each.kind))
            if each.kind is PartKind.DEVICE:
                name = "NPU" if each.vendor in _NPU else "GPU"
            if not each.label and each.kind in _NUMBERED:
                counts[name] += 1
                name += str(counts[name] - 1)
            fast = each.bytes_per_s or pci.bytes_per_s(each.gt_per_s, each.width)
            parts.append(
                Part(
                    id=each.id, kind=each.kind, label=name, parent=each.parent, pci=each.address, numa=each.numa,
                    vendor=each.vendor, model=each.model, gt_per_s=each.gt_per_s, width=each.width, bytes_per_s=fast,
                )
            )  # fmt: skip
        return tuple(parts)


_NAMES: Final = {PartKind.NIC: "NIC", PartKind.NVSWITCH: "NVSwitch", PartKind.UNKNOWN: "PCI"}
_NUMBERED: Final = frozenset({PartKind.DEVICE, PartKind.NIC, PartKind.NVSWITCH, PartKind.UNKNOWN})


def _named(note: str, labels: dict[str, str]) -> str:
    return " ".join(labels.get(word.rstrip(":"), word.rstrip(":")) + ":" * word.endswith(":") for word in note.split(" "))
