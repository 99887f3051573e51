"""Topologies from NCCL's and hwloc's documents, and what becomes of bad ones."""

from itertools import combinations

import pytest
from topology_documents import DIRECT, HOPS, NCCL, SWITCHED, hwloc

from mica.events import LinkKind
from mica.topology import PartKind, Topology, TopologyError, parse_xml, path


def read(text: bytes) -> Topology:
    return parse_xml(text, where="t.xml", node="n")


def labels(topology: Topology) -> dict[str, str]:
    """The path of every two devices, by their labels."""
    pairs = combinations(topology.devices, 2)
    return {f"{a.label}-{b.label}": path(topology, a.id, b.id).label for a, b in pairs}


def test_an_nccl_document_gives_its_devices_in_nccls_order_and_their_links() -> None:
    """``dev`` numbers the GPUs; both ends of a link are one link, with the speed of its generation."""
    found = read(NCCL)
    assert [(part.label, part.pci) for part in found.devices] == [
        ("GPU0", "0000:12:00.0"), ("GPU1", "0000:11:00.0"), ("GPU2", "0000:20:00.0"),
    ]  # fmt: skip
    (link,) = found.links
    assert (link.kind, link.lanes, link.bytes_per_s) == (LinkKind.NVLINK, 4, 100_000_000_000)
    assert labels(found) == {"GPU0-GPU1": "NV4", "GPU0-GPU2": "SYS", "GPU1-GPU2": "SYS"}
    assert found.notes == ()
    (nic,) = found.of(PartKind.NIC)
    assert (nic.model, path(found, nic.id, found.devices[0].id).label) == ("mlx5_0", "PIX")


def test_what_is_not_known_of_a_pcie_link_is_nought() -> None:
    """A virtual function says 255 lanes and no speed."""
    found = read(NCCL)
    assert [part.bytes_per_s for part in found.devices] == [0, 31_507_692_308, 0]


def test_through_nvswitch_all_reach_all() -> None:
    """Two devices have the fewer of their lanes into NVSwitches."""
    text = NCCL.replace(
        b'target="0000:12:00.0" count="4" tclass="0x030200"', b'target="fffffff:ffff:ff" count="12" tclass="0x068000"'
    )
    text = text.replace(
        b'target="0000:11:00.0" count="4" tclass="0x030200"', b'target="fffffff:ffff:ff" count="6" tclass="0x068000"'
    )
    (link,) = read(text).links
    assert (link.kind, link.lanes, link.bytes_per_s) == (LinkKind.NVSWITCH, 6, 150_000_000_000)


def test_a_document_of_pci_functions_alone_says_so() -> None:
    """Without classes there are no devices, and nothing is guessed."""
    found = read(b'<system version="1"><cpu numaid="0"><pci busid="0000:00:16.0"/><pci busid="0000:00:17.0"/></cpu></system>')
    assert (found.devices, found.links) == ((), ())
    assert len(found.of(PartKind.UNKNOWN)) == 2
    assert found.notes == ("2 PCI functions without a class: the document does not say what they are",)


def test_links_that_join_no_two_devices_are_left_out_with_a_note() -> None:
    """A device linked to itself, and one to a device that is not there."""
    itself = read(NCCL.replace(b"0000:12:00.0", b"0000:11:00.0", 1))
    assert "GPU1: 4 links to itself are no link between devices; left out" in itself.notes
    absent = read(NCCL.replace(b'target="0000:12:00.0"', b'target="0000:99:00.0"'))
    assert "0000:11:00.0: 4 links to 0000:99:00.0, which is no device of this document; left out" in absent.notes


def test_two_ends_that_disagree_give_the_smaller_number() -> None:
    """And a note."""
    found = read(NCCL.replace(b'count="4"', b'count="2"', 1))
    assert [link.lanes for link in found.links] == [2]
    (note,) = found.notes
    assert note == "GPU0 and GPU1 do not say the same of their links; the smaller number is taken"


def test_devices_without_links_are_no_claim_that_there_are_none() -> None:
    """Cloud files leave links to the driver."""
    assert read(hwloc()).notes == ("the source states no links between devices, so none are shown; the devices may have some",)


def test_an_hwloc_document_gives_bridges_numa_nodes_and_names() -> None:
    """Two ports below one upstream port are one switch; a management chip's VGA is no device."""
    found = read(hwloc())
    assert [(part.id, found.numa(part)) for part in found.devices] == [("GPU-a", 0), ("0000:35:00.0", 0), ("0000:80:00.0", 1)]
    assert found.part("GPU-a").model == "Tesla V100"
    assert [part.id for part in found.above(found.part("GPU-a"))] == [
        "pci0000:2b",
        "0000:2b:00.0",
        "0000:2c:00.0",
        "0000:2d:00.0",
    ]
    assert labels(found) == {"GPU0-GPU1": "PIX", "GPU0-GPU2": "SYS", "GPU1-GPU2": "SYS"}


def test_an_hwloc_matrix_with_switches_gives_links_through_them() -> None:
    """150 GB/s are six links of NVLink 2; the pair has what the slower end has."""
    found = read(hwloc(SWITCHED))
    assert labels(found) == {"GPU0-GPU1": "NV6", "GPU0-GPU2": "NV2", "GPU1-GPU2": "NV2"}
    assert {(link.kind, link.bytes_per_s) for link in found.links} == {
        (LinkKind.NVSWITCH, 150_000_000_000),
        (LinkKind.NVSWITCH, 50_000_000_000),
    }


def test_an_hwloc_matrix_between_devices_gives_direct_links() -> None:
    """80 GB/s are four links of NVLink 1; the diagonal means nothing."""
    (link,) = read(hwloc(DIRECT)).links
    assert (link.a, link.b, link.kind, link.lanes, link.bytes_per_s) == (
        "GPU-a",
        "0000:35:00.0",
        LinkKind.NVLINK,
        4,
        80_000_000_000,
    )


def test_devices_that_are_several_links_apart_have_none_between_them() -> None:
    """hwloc's xGMI bandwidth is the same for all pairs; its matrix of hops tells neighbours from those behind them."""
    found = read(hwloc(HOPS))
    assert {(link.a, link.b, link.kind, link.bytes_per_s) for link in found.links} == {
        ("GPU-a", "0000:35:00.0", LinkKind.XGMI, 100_000_000_000),
        ("0000:35:00.0", "0000:80:00.0", LinkKind.XGMI, 100_000_000_000),
    }


def test_network_cards_without_an_address_may_have_one_name() -> None:
    """Beside one processor or beside two: each is a part of its own."""
    nic = b'<nic><net name="eth0" dev="0"/></nic>'
    found = read(b'<system><cpu numaid="0">' + nic + nic + b'</cpu><cpu numaid="1">' + nic + b"</cpu></system>")
    assert [(part.label, part.model, found.numa(part)) for part in found.of(PartKind.NIC)] == [
        ("NIC0", "eth0", 0),
        ("NIC1", "eth0", 0),
        ("NIC2", "eth0", 1),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'<?xml version="1.0" encoding="ebcdic-9"?><system/>', r"t\.xml: no XML: unknown encoding: ebcdic-9"),
        (b'<?xml version="1.0" encoding="shift-jis"?><system/>', r"t\.xml: no XML: multi-byte encodings are not supported"),
        (b'<system><cpu numaid="0" host_hash="0x1"/><cpu numaid="0" host_hash="0x2"/></system>', r"2 machines by"),
        (b"", r"t\.xml, line 1: no XML: no element found"),
        (b"<system><cpu>", r"t\.xml, line 1: no XML"),
        (b"<graphs/>", r"<graphs>: another root element; allowed: <system> \(NCCL\) or <topology> \(hwloc\)"),
        (b'<!DOCTYPE s [<!ENTITY a "b">]><system/>', r"line 1: it declares entity 'a'; allowed: no entities"),
        (b'<!DOCTYPE s [<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;]><system/>', r"entity 'a'; allowed: no entities"),
        (b'<!DOCTYPE s SYSTEM "x.dtd"><system>&b;</system>', r"it uses entity 'b'; allowed: no entities"),
        (b"<a>" * 200, r"<a> is element 101 at depth 101; allowed: 100000 elements, depth 100"),
        (b"<system>" + b"<a/>" * 100_001 + b"</system>", r"element 100001"),
        (b" " * (8 << 20) + b"<system/>", r"t\.xml: 8388617 bytes; allowed: 8388608"),
        (b"<system><cpu/></system>", r"line 1: <cpu>: no numaid; allowed: it must be there"),
        (b'<system><cpu numaid="x"/></system>', r"<cpu>: numaid='x'; allowed: a whole number from -1 to 4095"),
        (b'<system><cpu numaid="0"><pci busid="zz"/></cpu></system>', r"<pci>: busid='zz'; allowed: a PCI address"),
        (NCCL.replace(b"12:00.0", b"11:00.0"), r"line 10: <pci>: 0000:11:00\.0 is there twice; allowed: once"),
        (NCCL.replace(b'count="4"', b'count="-4"', 1), r"line 7: <nvlink>: count='-4'; allowed: a whole number from 1 to 64"),
        (NCCL.replace(b'"16 GT/s"', b'"fast"'), r"<pci>: link_speed='fast'; allowed: a PCIe speed such as '16 GT/s'"),
        (b"<topology/>", r"<topology>: version '1'; allowed: hwloc's version 2 or 3"),
        (hwloc().replace(b'"0302 [10de:1db8]', b'"gpu'), r"<object>: pci_type='gpu.*allowed: class and identities"),
        (hwloc(DIRECT.replace(b"80000 80000", b"80000")), r"<distances2>: 2 indexes and 3 values; allowed: 2 and 4"),
        (hwloc(DIRECT.replace(b"80000 80000", b"80000 -1")), r"<distances2>: value '-1'; allowed: MB/s"),
    ],
)  # fmt: skip
def test_a_bad_document_is_one_error_that_names_the_place(text: bytes, message: str) -> None:
    """File, line, element, what was observed and what is allowed."""
    with pytest.raises(TopologyError, match=message):
        read(text)
