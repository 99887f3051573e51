"""Topologies from what mica knows itself: a node's inventory, and a node file.

Invariant: links are the inventory's. An address or a link that makes no sense is left out with a note; where two devices put one
bridge in two places, the first holds.
"""

from mica.events import Device, Inventory, Link
from mica.hardware import NodeFile
from mica.topology import _pci as pci
from mica.topology._draft import Draft, Found
from mica.topology._model import PartKind, Topology


def from_inventory(inventory: Inventory) -> Topology:
    """The topology of a node on the bus. Raises TopologyError: a device or a bridge is there twice."""
    draft = Draft(inventory.node, "inventory")
    known = {device.id for device in inventory.devices}
    for device in inventory.devices:
        _add(draft, device)
    sound = [link for link in inventory.links if link.a in known and link.b in known and link.a != link.b]
    if len(sound) < len(inventory.links):
        draft.notes.append(f"{len(inventory.links) - len(sound)} links of devices that are not listed; left out")
    draft.join(sound)
    return draft.finish()


def _add(draft: Draft, device: Device) -> None:
    address, parent = _known(device.pci_bus_id), ""
    path = [_known(each) for each in device.pcie_path]
    if not all(path):
        given = ", ".join(device.pcie_path)
        draft.notes.append(f"device {device.index}: its bridges are {given}; allowed: {pci.ADDRESS_ALLOWED}; left out")
        path = []
    if path or address:
        parent = draft.root((path or [address])[0], device.numa_node)
    for bridge in path:
        if bridge not in draft:
            draft.add(Found(id=bridge, kind=PartKind.BRIDGE, parent=parent, address=bridge), f"device {device.index}")
        parent = bridge
    draft.add(
        Found(
            id=device.id, kind=PartKind.DEVICE, parent=parent, address=address, numa=device.numa_node, vendor=device.vendor,
            model=device.model, order=device.index,
        ),
        f"device {device.index}",
    )  # fmt: skip


def _known(text: str) -> str:
    try:
        return pci.address(text)
    except ValueError:
        return ""


def from_node_file(node: NodeFile) -> Topology:
    """The topology that a node file describes: devices below numbered switches, or below their NUMA node's processor."""
    draft = Draft(node.name, "node file")
    for index, device in enumerate(node.devices()):
        where = f"device {index}"
        parent = f"cpu{device.numa}"
        if parent not in draft:
            draft.add(Found(id=parent, kind=PartKind.ROOT, label=f"cpu {device.numa}", numa=device.numa), where)
        if device.switch:
            above, parent = parent, f"switch{device.numa}-{device.switch}"
            if parent not in draft:
                draft.add(Found(id=parent, kind=PartKind.SWITCH, parent=above, label=f"switch {device.switch}"), where)
        model = device.model
        found = Found(
            id=f"device-{index}", kind=PartKind.DEVICE, parent=parent, vendor=model.vendor, model=model.name, order=index
        )
        draft.add(found, where)
    draft.join(
        Link(a=f"device-{link.a}", b=f"device-{link.b}", kind=link.kind, lanes=link.lanes, bytes_per_s=link.bytes_per_s)
        for link in node.links()
    )
    return draft.finish()
