"""NCCL's topology documents (and RCCL's): ``<system>`` of ``<cpu>``, ``<pci>``, ``<gpu>``, ``<nic>``.

Invariant: only what the document says is shown. Files that a cloud ships for NCCL_TOPO_FILE often hold processors and PCI
functions alone, because NCCL asks the driver for the rest: then there are devices where classes are given, and no links.
"""

from typing import Final

from mica.events import LinkKind, Vendor
from mica.topology import _pci as pci
from mica.topology._draft import Draft, Found
from mica.topology._fabric import Connection
from mica.topology._model import PartKind, Topology
from mica.topology._xml import Element

LANE_BYTES_PER_S: Final = {60: 20_000_000_000, 70: 25_000_000_000, 80: 25_000_000_000, 90: 25_000_000_000, 100: 50_000_000_000}
"""What one NVLink gives each way, by compute capability of the data-centre parts: the document only counts links."""
_LINKS: Final = {"nvlink": LinkKind.NVLINK, "xgmi": LinkKind.XGMI}
_NVSWITCH_CLASS: Final = "0x068000"
_NO_IDS: Final = frozenset({0, 0xFFFF})


def read(root: Element, node: str) -> Topology:
    """The topology in an NCCL document. Raises TopologyError."""
    reader = _Reader(Draft(node, "nccl"))
    machines = {cpu.get("host_hash", "") for cpu in root.all("cpu")}
    if len(machines) > 1:
        raise root.error(f"{len(machines)} machines by their host_hash", "one")
    for cpu in root.all("cpu"):
        reader.cpu(cpu)
    return reader.finish()


class _Reader:
    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._gpus: list[tuple[str, Element]] = []
        self._unknown = 0

    def cpu(self, cpu: Element) -> None:
        numa = cpu.number("numaid", -1, 4095)
        name = f"cpu{numa}"
        if name not in self._draft:
            label = f"cpu {numa}" if numa >= 0 else "cpu"
            self._draft.add(Found(id=name, kind=PartKind.ROOT, label=label, numa=numa), cpu.place)
        self._below(cpu, name)

    def _below(self, element: Element, parent: str) -> None:
        for child in element.all("pci"):
            self._pci(child, parent)
        for child in element.all("nic") if element.tag == "cpu" else ():
            name = _nets(child)
            known = f"nic {name}"
            key = known if known not in self._draft else f"{known} {len(self._draft)}"
            self._draft.add(Found(id=key, kind=PartKind.NIC, parent=parent, model=name), child.place)

    def _pci(self, element: Element, parent: str) -> None:
        address = element.parsed("busid", pci.address)
        vendor_id = element.number("vendor", 0, 0xFFFF, "0")
        kind = _kind(element, vendor_id)
        if kind is None:
            return
        self._unknown += kind is PartKind.UNKNOWN
        gpu = next(iter(element.all("gpu")), None)
        nets = ", ".join(_nets(nic) for nic in element.all("nic"))
        numbers = vendor_id, element.number("device", 0, 0xFFFF, "0")
        self._draft.add(
            Found(
                id=address, kind=kind, parent=parent, address=address, gt_per_s=element.parsed("link_speed", pci.gt_per_s, ""),
                vendor=pci.vendor(vendor_id) or (Vendor.NVIDIA if gpu is not None and gpu.all("nvlink") else None),
                model=nets or ("" if _NO_IDS & set(numbers) else "{:04x}:{:04x}".format(*numbers)),
                width=pci.width(element.number("link_width", 0, 255, "0")),
                order=gpu.number("dev", 0, 4095, "0") if gpu is not None else 0,
            ),
            element.place,
        )  # fmt: skip
        if gpu is not None:
            self._gpus.append((address, gpu))
        self._below(element, address)

    def finish(self) -> Topology:
        devices = set(self._draft.ids(PartKind.DEVICE))
        for address, gpu in self._gpus:
            for kind in _LINKS:
                for link in gpu.all(kind):
                    self._connect(address, gpu, link, devices)
        if self._unknown:
            self._draft.notes.append(f"{self._unknown} PCI functions without a class: the document does not say what they are")
        return self._draft.finish()

    def _connect(self, address: str, gpu: Element, link: Element, devices: set[str]) -> None:
        lanes = link.number("count", 1, 64)
        lane = LANE_BYTES_PER_S.get(gpu.number("sm", 0, 999, "0"), 0) if link.tag == "nvlink" else 0
        if link.get("tclass", "").lower().startswith(_NVSWITCH_CLASS):
            self._draft.connect([Connection(address, link.get("target", ""), LinkKind.NVSWITCH, lanes, lanes * lane)])
            return
        target = link.parsed("target", pci.address)
        if target in devices:
            self._draft.connect([Connection(address, target, _LINKS[link.tag], lanes, lanes * lane)])
        else:
            self._draft.notes.append(f"{address}: {lanes} links to {target}, which is no device of this document; left out")


def _kind(element: Element, vendor_id: int) -> PartKind | None:
    if element.all("gpu"):
        return PartKind.DEVICE
    if element.all("pci"):
        return PartKind.SWITCH
    if element.all("nic"):
        return PartKind.NIC
    if not element.get("class", ""):
        return PartKind.UNKNOWN
    found = pci.kind(element.number("class", 0, 0xFFFFFF) >> 8, vendor_id)
    return PartKind.SWITCH if found is PartKind.BRIDGE else found


def _nets(nic: Element) -> str:
    return ", ".join(net.get("name", "?")[:64] for net in nic.all("net")) or "?"
