"""Paths in nvidia-smi's words, from inventories, node files and sysfs."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from mica.events import Device, Inventory, Link, LinkKind, Vendor
from mica.hardware import NodeFile
from mica.topology import (
    PartKind,
    Topology,
    TopologyError,
    closeness,
    from_inventory,
    from_node_file,
    path,
    pcie_path,
    read_file,
    read_sysfs,
)


def device(index: int, bus: str, bridges: Sequence[str] = (), numa: int = 0, vendor: Vendor = Vendor.NVIDIA) -> Device:
    return Device(
        id=f"d{index}", index=index, vendor=vendor, model="M", vram_bytes=1 << 30, pci_bus_id=bus, numa_node=numa,
        pcie_path=tuple(bridges),
    )  # fmt: skip


def node(*devices: Device, links: tuple[Link, ...] = ()) -> Topology:
    return from_inventory(Inventory(node="n", pool="p", boot_id="b", devices=devices, links=links))


SWITCH = ("0000:10:01.0", "0000:11:00.0")
"""A root port and a switch's upstream port."""
NEAR = node(
    device(0, "0000:20:00.0", (*SWITCH, "0000:12:00.0")),
    device(1, "0000:21:00.0", (*SWITCH, "0000:12:01.0")),
    device(2, "0000:24:00.0", (*SWITCH, "0000:12:02.0", "0000:22:00.0", "0000:23:00.0")),
    device(3, "0000:30:00.0", ("0000:10:02.0",)),
    device(4, "0000:40:00.0", ("0000:3f:00.0",)),
    device(5, "0000:50:00.0", ("0000:4f:00.0",), numa=1),
)


@pytest.mark.parametrize(("other", "label"), [(0, "X"), (1, "PIX"), (2, "PXB"), (3, "PHB"), (4, "NODE"), (5, "SYS")])
def test_a_path_is_what_has_to_be_crossed(other: int, label: str) -> None:
    """One switch, a second one below it, the host bridge, another host bridge, another NUMA node."""
    assert path(NEAR, "d0", f"d{other}").label == label


def test_closeness_orders_by_what_has_to_be_crossed() -> None:
    """The farther, the less."""
    order = [closeness(NEAR, "d0", f"d{other}") for other in range(6)]
    assert order == sorted(order, reverse=True)
    assert len(set(order)) == 6


@pytest.mark.parametrize(
    ("kind", "label"),
    [
        (LinkKind.NVLINK, "NV4"),
        (LinkKind.NVSWITCH, "NV4"),
        (LinkKind.XGMI, "XGMI4"),
        (LinkKind.HCCS, "HCCS4"),
        (LinkKind.XE_LINK, "XeLink4"),
    ],
)
def test_a_direct_link_is_nearer_than_any_pcie_path(kind: LinkKind, label: str) -> None:
    """Even between NUMA nodes, and a faster one is nearer."""
    links = (
        Link(a="d1", b="d0", kind=kind, lanes=4, bytes_per_s=10),
        Link(a="d0", b="d2", kind=kind, lanes=8, bytes_per_s=20),
    )
    found = node(device(0, "0000:20:00.0"), device(1, "0000:30:00.0", numa=1), device(2, "0000:40:00.0"), links=links)
    assert path(found, "d0", "d1") == path(found, "d1", "d0")
    assert path(found, "d0", "d1").label == label
    assert (
        closeness(NEAR, "d0", "d1") < closeness(found, "d0", "d1") < closeness(found, "d0", "d2") < closeness(found, "d0", "d0")
    )


def test_devices_of_no_known_numa_node_are_near_only_where_there_is_one() -> None:
    """-1 on a machine with two nodes may be either."""
    assert path(node(device(0, "01:00.0", numa=-1), device(1, "02:00.0", numa=-1)), "d0", "d1").label == "NODE"
    two = node(*(device(index, f"0{index + 1}:00.0", numa=numa) for index, numa in enumerate((-1, -1, 0, 1))))
    assert path(two, "d0", "d1").label == "SYS"


def test_an_inventory_without_pci_still_is_a_topology() -> None:
    """Addresses of other forms are NVML's long ones or left out; links to strangers are left out with a note."""
    found = node(device(0, "00000000:3B:00.0"), device(1, ""), links=(Link(a="d0", b="d9", kind=LinkKind.XGMI),))
    assert [part.pci for part in found.devices] == ["0000:3b:00.0", ""]
    assert found.notes[0] == "1 links of devices that are not listed; left out"


def test_an_address_of_no_known_form_is_left_out_with_a_note() -> None:
    """The device stays."""
    found = node(device(0, "0000:20:00.0", ("up",)))
    assert found.notes == ("device 0: its bridges are up; allowed: a PCI address such as 0000:3b:00.0; left out",)
    assert len(found.devices) == 1


def test_no_part_of_that_name_is_an_error() -> None:
    """The message lists the devices."""
    with pytest.raises(TopologyError, match=r"n: no part 'x'; devices: d0, d1, d2, d3, d4, d5"):
        path(NEAR, "d0", "x")


def test_a_node_file_gives_its_numa_nodes_switches_and_links() -> None:
    """Switch 1 of one NUMA node is another than switch 1 of the next."""
    text = b"""name = "n"
device = [{ model = "L4", count = 4, numa = [0, 0, 0, 1], switch = [1, 1, 0, 1] }]
link = [{ kind = "nvlink", lanes = 2, gb_per_s = 50, devices = [2, 3] }]"""
    found = from_node_file(NodeFile.parse(text))
    first, second, third, fourth = (part.id for part in found.devices)
    assert path(found, first, second).label == "PIX"
    assert path(found, first, third).label == "PHB"
    assert path(found, first, fourth).label == "SYS"
    assert path(found, third, fourth) == path(found, fourth, third)
    assert path(found, third, fourth).label == "NV2"


def function(root: Path, place: str, code: str, vendor: str, numa: int = 0, **more: str) -> None:
    """One PCI function below a fake /sys, with the link that sysfs has to it."""
    folder = root / "devices" / place
    folder.mkdir(parents=True, exist_ok=True)
    attributes = {"class": code, "vendor": vendor, "device": "0x0001", "numa_node": str(numa), **more}
    for name, value in attributes.items():
        (folder / name).write_text(f"{value}\n")
    links = root / "bus" / "pci" / "devices"
    links.mkdir(parents=True, exist_ok=True)
    (links / folder.name).symlink_to(folder)


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    function(tmp_path, "pci0000:00/0000:00:01.0", "0x060400", "0x8086")
    function(tmp_path, "pci0000:00/0000:00:01.0/0000:01:00.0", "0x060400", "0x10b5")
    for nth, (code, vendor) in enumerate([("0x030200", "0x10de"), ("0x020700", "0x15b3"), ("0x120000", "0x19e5")]):
        port = f"pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:0{nth}.0"
        function(tmp_path, port, "0x060400", "0x10b5")
        speed = {"current_link_speed": "16.0 GT/s PCIe", "current_link_width": "8"}
        function(tmp_path, f"{port}/0000:0{nth + 3}:00.0", code, vendor, **speed)
    function(tmp_path, "pci0000:00/0000:00:1f.0", "0x010802", "0x144d")
    function(tmp_path, "pci0000:00/0000:00:1e.0", "0x030000", "0x1a03")
    return tmp_path


def test_sysfs_gives_the_bridges_above_a_function(sysfs: Path) -> None:
    """The root port first; none above a function on the root's own bus."""
    assert pcie_path("0000:03:00.0", sysfs) == ("0000:00:01.0", "0000:01:00.0", "0000:02:00.0")
    assert pcie_path("00000000:03:00.0", sysfs) == pcie_path("03:00.0", sysfs)
    assert pcie_path("0000:00:1f.0", sysfs) == ()


@pytest.mark.parametrize(
    ("address", "message"), [("x", "PCI address 'x'; allowed: a PCI address"), ("0000:99:00.0", "a PCI function that is there")]
)
def test_sysfs_without_that_function_is_an_error(sysfs: Path, address: str, message: str) -> None:
    """So is what is no address."""
    with pytest.raises(TopologyError, match=message):
        pcie_path(address, sysfs)


def test_a_link_that_leads_out_of_sysfs_is_refused(sysfs: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whoever made that folder does not choose what is read."""
    (sysfs / "bus/pci/devices/0000:77:00.0").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(TopologyError, match="allowed: below"):
        pcie_path("0000:77:00.0", sysfs)


def test_sysfs_gives_devices_nics_and_only_the_bridges_above_them(sysfs: Path) -> None:
    """Disks and a management chip's VGA are not shown."""
    found = read_file(sysfs)
    assert found.source == read_sysfs(sysfs, "n").source == "sysfs"
    assert [(part.label, part.pci, part.bytes_per_s) for part in found.devices] == [
        ("GPU0", "0000:03:00.0", 15_753_846_154), ("NPU0", "0000:05:00.0", 15_753_846_154),
    ]  # fmt: skip
    assert [part.pci for part in found.of(PartKind.NIC)] == ["0000:04:00.0"]
    assert path(found, "0000:03:00.0", "0000:05:00.0").label == path(found, "0000:03:00.0", "0000:04:00.0").label == "PIX"
    assert len(found.of(PartKind.BRIDGE)) == 5


def test_no_sysfs_is_an_error(tmp_path: Path) -> None:
    """It names the folder that is not there."""
    with pytest.raises(TopologyError, match=r"bus/pci/devices: No such file or directory; allowed: the root of a sysfs"):
        read_file(tmp_path)
