"""Whatever a node looks like: closeness is symmetric, itself is nearest, a direct link is nearer than PCIe."""

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from mica.events import Device, Inventory, Link, LinkKind, Vendor
from mica.topology import Topology, closeness, draw_svg, draw_text, from_inventory, path

BRIDGES = tuple(f"0000:{bus:02x}:0{port}.0" for bus in (0x10, 0x20, 0x30) for port in range(3))


@st.composite
def nodes(draw: st.DrawFn) -> Topology:
    """Up to six devices below bridges drawn from a few, on up to three NUMA nodes, with any links."""
    count = draw(st.integers(1, 6))
    tree = {bridge: draw(st.sampled_from(("", *BRIDGES[:nth]))) for nth, bridge in enumerate(BRIDGES)}
    devices = []
    for index in range(count):
        above: list[str] = []
        bridge = draw(st.sampled_from(("", *BRIDGES)))
        while bridge:
            above.insert(0, bridge)
            bridge = tree[bridge]
        devices.append(
            Device(
                id=f"d{index}", index=index, vendor=draw(st.sampled_from(Vendor)), model="M", vram_bytes=1,
                pci_bus_id=f"0000:{0x80 + index:02x}:00.0", numa_node=draw(st.integers(-1, 2)), pcie_path=tuple(above),
            )
        )  # fmt: skip
    ends = st.integers(0, count - 1).map(lambda each: f"d{each}")
    link = st.builds(
        Link, a=ends, b=ends, kind=st.sampled_from(LinkKind), lanes=st.integers(1, 18), bytes_per_s=st.integers(0, 10**12)
    )
    links = draw(st.lists(link, max_size=8))
    return from_inventory(Inventory(node="n", pool="p", boot_id="b", devices=tuple(devices), links=tuple(links)))


@settings(max_examples=60, deadline=None)
@given(nodes())
def test_closeness_is_an_order_to_plan_by(topology: Topology) -> None:
    """Symmetric; itself nearest and nothing as near; a direct link before any other path, and a faster one before a slower."""
    names = [part.id for part in topology.devices]
    for a, b in product(names, names):
        assert path(topology, a, b) == path(topology, b, a)
        assert (closeness(topology, a, b) == closeness(topology, a, a)) == (a == b)
        assert closeness(topology, a, b) <= closeness(topology, a, a)
        for c in names:
            if topology.link(a, b) and a != c and not topology.link(a, c):
                assert closeness(topology, a, b) > closeness(topology, a, c)
            one, other = topology.link(a, b), topology.link(a, c)
            if one and other and one.bytes_per_s > other.bytes_per_s:
                assert closeness(topology, a, b) > closeness(topology, a, c)


@settings(max_examples=60, deadline=None)
@given(nodes())
def test_pcie_closeness_is_that_of_a_tree(topology: Topology) -> None:
    """Two devices that switches join to a third are joined by switches; and so it is with host bridges."""
    names = [part.id for part in topology.devices]
    for a, b, c in product(names, names, names):
        shown = [path(topology, one, other) for one, other in ((a, b), (b, c), (a, c))]
        if all(way.kind in ("PIX", "PXB", "PHB") for way in shown):
            over_host = [way.kind == "PHB" for way in shown]
            assert not over_host[2] or any(over_host[:2])


@settings(max_examples=30, deadline=None)
@given(nodes())
def test_every_device_is_drawn(topology: Topology) -> None:
    """In the terminal and in SVG."""
    shown, svg = draw_text(topology), draw_svg(topology)
    for part in topology.devices:
        assert f"{part.label}  {part.pci}" in shown
        assert f"{part.label}  {part.pci}" in svg
