"""Drawings of topologies, and ``mica topology`` on files."""

import json
import re
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner
from topology_documents import NCCL, SWITCHED, hwloc

from mica.cli.commands.topology import topology
from mica.events import Device, Inventory, Link, LinkKind, Vendor
from mica.topology import Topology, draw_svg, draw_text, from_inventory, parse_xml

SVG = "{http://www.w3.org/2000/svg}"


def nccl() -> Topology:
    return parse_xml(NCCL, where="t", node="small")


def mesh(count: int, kind: LinkKind) -> Topology:
    devices = tuple(
        Device(
            id=f"d{each}", index=each, vendor=Vendor.AMD, model="MI <&> 300", vram_bytes=1, numa_node=each * 2 // count,
            pci_bus_id=f"0000:{each * 4 + 3:02x}:00.0", pcie_path=(f"0000:{each * 4:02x}:01.0", f"0000:{each * 4 + 1:02x}:00.0"),
        )
        for each in range(count)
    )  # fmt: skip
    links = tuple(Link(a=a.id, b=b.id, kind=kind, lanes=1, bytes_per_s=64 * 10**9) for a, b in combinations(devices, 2))
    return from_inventory(Inventory(node="m", pool="p", boot_id="b", devices=devices, links=links))


def test_the_terminal_shows_tree_matrix_and_a_legend_of_what_appears() -> None:
    """As a whole, once."""
    assert draw_text(nccl()).splitlines() == [
        "node small (from nccl)",
        "NUMA 0",
        "└─ cpu 0",
        "   └─ switch  0000:10:00.0  31.5 GB/s",
        "      ├─ NIC0  0000:13:00.0  mlx5_0",
        "      ├─ GPU0  0000:12:00.0  10de:20b0",
        "      └─ GPU1  0000:11:00.0  10de:20b0  31.5 GB/s",
        "NUMA 1",
        "└─ cpu 1",
        "   └─ GPU2  0000:20:00.0  10de:20b0",
        "",
        "      GPU0  GPU1  GPU2  NUMA  NEAREST NICS",
        "GPU0  X     NV4   SYS   0     NIC0 (PIX)",
        "GPU1  NV4   X     SYS   0     NIC0 (PIX)",
        "GPU2  SYS   SYS   X     1     NIC0 (SYS)",
        "",
        "X       the same",
        "NV#     so many NVLinks, directly or through NVSwitch",
        "PIX     through at most one PCIe switch",
        "SYS     from one NUMA node to another, or not known to be in one",
        "links: 1 pair: NV4, 100 GB/s each way",
    ]


def test_bridges_that_join_nothing_are_not_drawn() -> None:
    """A port with one thing below it is part of the way."""
    shown = draw_text(parse_xml(hwloc(SWITCHED), where="t", node="n"))
    assert "switch  0000:2c:00.0" in shown
    assert "0000:2d:" not in shown


@pytest.mark.parametrize("kind", [LinkKind.NVSWITCH, LinkKind.XGMI])
@pytest.mark.parametrize("count", [1, 2, 8, 16])
def test_boxes_and_matrix_cells_of_an_svg_never_overlap(kind: LinkKind, count: int) -> None:
    """And all is inside the drawing; only frames hold boxes."""
    root = ET.fromstring(draw_svg(mesh(count, kind)))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    boxes = []
    for rect in root.iter(f"{SVG}rect"):
        if rect.attrib["class"] not in ("bg", "numa"):
            left, top = float(rect.attrib["x"]), float(rect.attrib["y"])
            boxes.append((left, top, left + float(rect.attrib["width"]), top + float(rect.attrib["height"])))
    assert len(boxes) >= count + count * count
    assert all(0 <= left < right <= width and 0 <= top < bottom <= height for left, top, right, bottom in boxes)
    for one, other in combinations(boxes, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1], (one, other)


def test_direct_links_are_arcs_and_switched_ones_lead_to_one_bar() -> None:
    """One arc for each pair; one line for each device."""
    arcs = [each for each in ET.fromstring(draw_svg(mesh(8, LinkKind.XGMI))).iter(f"{SVG}path") if "C" in each.attrib["d"]]
    assert len(arcs) == 28
    root = ET.fromstring(draw_svg(mesh(8, LinkKind.NVSWITCH)))
    lines = [each for each in root.iter(f"{SVG}path") if each.attrib["class"] == "link"]
    assert len(lines) == 8
    assert len([each for each in root.iter(f"{SVG}rect") if each.attrib["class"] == "fabric"]) == 1


def test_text_of_an_svg_is_escaped() -> None:
    """Names come from foreign documents."""
    shown = draw_svg(mesh(2, LinkKind.XGMI))
    assert "MI &lt;&amp;&gt; 300" in shown
    assert {each.tag for each in ET.fromstring(shown).iter()} == {
        f"{SVG}{tag}" for tag in ("svg", "style", "rect", "text", "path")
    }


def test_nothing_in_a_document_steers_the_terminal() -> None:
    """A control character that XML allows is a blank, in SVG as well."""
    text = NCCL.replace(b"mlx5_0", "m\x9b2J\u202e".encode())
    found = parse_xml(text, where="t", node="n")
    assert "NIC0  0000:13:00.0  m 2J " in draw_text(found)
    assert "\x9b" not in draw_svg(found) + draw_text(found)


def test_the_command_draws_a_file_and_writes_json_and_svg(tmp_path: Path) -> None:
    """All from the same file, whatever it is called; no bus is needed."""
    source, svg = tmp_path / "any.name", tmp_path / "out.svg"
    source.write_bytes(NCCL)
    shown = CliRunner().invoke(topology, ["--file", str(source)])
    assert (shown.exit_code, "GPU1  NV4   X" in shown.output) == (0, True)
    done = CliRunner().invoke(topology, ["--file", str(source), "--json", "--svg", str(svg)])
    (found,) = json.loads(done.output)
    assert [each["path"] for each in found["paths"]] == ["NV4", "SYS", "SYS"]
    assert found["numa_nodes"] == [0, 1]
    assert re.match(r"<svg ", svg.read_text(encoding="utf-8"))


def test_the_command_reads_a_node_file(tmp_path: Path) -> None:
    """By its ending."""
    source = tmp_path / "n.toml"
    source.write_text("name = 'n'\ndevice = [{ model = 'L4', count = 2 }]\nlink = [{ kind = 'nvlink', lanes = 3 }]\n")
    assert "GPU0  X     NV3   0" in CliRunner().invoke(topology, ["--file", str(source)]).output


@pytest.mark.parametrize(
    ("content", "more", "message"),
    [
        (b"<graphs/>", (), "another root element"),
        (b"<graphs/>", ("--node", "x"), "allowed: one of them"),
        (NCCL, ("--svg", "/dev/null/x"), "Not a directory"),
    ],
)
def test_what_the_command_cannot_do_is_one_line(tmp_path: Path, content: bytes, more: tuple[str, ...], message: str) -> None:
    """With an exit status of its own."""
    source = tmp_path / "a.xml"
    source.write_bytes(content)
    done = CliRunner().invoke(topology, ["--file", str(source), *more])
    assert done.exit_code == 1
    assert message in done.output
    assert len(done.output.splitlines()) == 1
