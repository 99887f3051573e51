"""Nodes of the shapes that are sold: inventories of our own, small enough to try every set of their devices."""

from collections.abc import Mapping
from itertools import combinations

from hypothesis import strategies as st

from mica.events import Device, Inventory, Link, LinkKind, Runtime, Vendor

GIB = 1 << 30
Pair = tuple[int, int]


def node(
    count: int,
    links: Mapping[Pair, tuple[LinkKind, int, int]],
    *,
    numa: Mapping[int, int] | None = None,
    switch: Mapping[int, int] | None = None,
    name: str = "n1",
) -> Inventory:
    """``links``: kind, lanes and GB/s each way of a pair. ``switch``: by device the number of its PCIe switch."""
    devices = []
    for index in range(count):
        at = (numa or {}).get(index, 0)
        below = (switch or {}).get(index)
        path = () if below is None else (f"000{at}:0{below}:00.0", f"000{at}:1{below}:{index:02x}.0")
        address = f"000{at}:{'20' if path else '00'}:{index:02x}.0"
        devices.append(
            Device(
                id=f"{name}-d{index:02}", index=index, vendor=Vendor.NVIDIA, model="A100-SXM4-80GB", vram_bytes=80 * GIB,
                compute_capability=(8, 0), runtimes=(Runtime.CUDA,), pci_bus_id=address, numa_node=at, pcie_path=path,
            )
        )  # fmt: skip
    made = tuple(
        Link(a=f"{name}-d{a:02}", b=f"{name}-d{b:02}", kind=kind, lanes=lanes, bytes_per_s=speed * 10**9)
        for (a, b), (kind, lanes, speed) in links.items()
    )
    return Inventory(node=name, pool="default", boot_id="b1", devices=tuple(devices), links=made)


def every_pair(count: int, kind: LinkKind, lanes: int, speed: int) -> dict[Pair, tuple[LinkKind, int, int]]:
    return dict.fromkeys(combinations(range(count), 2), (kind, lanes, speed))


HALVES = {index: index // 4 for index in range(8)}
BOARDS = {index: index // 8 for index in range(16)}
CUBE_MESH = {
    pair: (LinkKind.NVLINK, lanes, 25 * lanes)
    for lanes, pairs in {
        1: [(0, 1), (0, 2), (1, 3), (2, 6), (4, 5), (4, 6), (5, 7), (1, 5)],
        2: [(0, 3), (0, 4), (1, 2), (2, 3), (3, 7), (4, 7), (5, 6), (6, 7)],
    }.items()
    for pair in pairs
}  # the eight V100 of a DGX-1
UNEQUAL = {(0, 1): 4, (2, 3): 4, (4, 5): 4, (6, 7): 4, (1, 2): 1, (3, 4): 2, (5, 6): 1, (0, 7): 2, (0, 4): 1, (2, 6): 1}
NODES = {
    "nvswitch": node(8, every_pair(8, LinkKind.NVSWITCH, 18, 450), numa=HALVES),
    "dgx2": node(16, every_pair(16, LinkKind.NVSWITCH, 6, 150), numa=BOARDS, switch={index: index // 2 for index in range(16)}),
    "pcie-tree": node(8, {}, numa=HALVES, switch={index: index // 2 for index in range(8)}),
    "pcie-odd-tree": node(8, {}, numa={i: int(i > 2) for i in range(8)}, switch={i: int(i > 2) + int(i > 5) for i in range(8)}),
    "four-numa": node(8, {}, numa={index: index // 2 for index in range(8)}),
    "cube-mesh": node(8, CUBE_MESH, numa=HALVES, switch={index: index // 2 for index in range(8)}),
    "xgmi-mesh": node(8, every_pair(8, LinkKind.XGMI, 1, 64), numa=HALVES),
    "xgmi-packages": node(8, {pair: (LinkKind.XGMI, lanes, 50 * lanes) for pair, lanes in UNEQUAL.items()}, numa=HALVES),
    "hccs": node(
        8, {pair: (LinkKind.HCCS, 1, 30) for half in (range(4), range(4, 8)) for pair in combinations(half, 2)}, numa=HALVES
    ),
    "ring": node(6, {(i, (i + 1) % 6): (LinkKind.NVLINK, 1 + i % 3, 25 * (1 + i % 3)) for i in range(6)}),
    "bridged-pairs": node(8, {(i, i + 1): (LinkKind.NVLINK, 12, 300) for i in range(0, 8, 2)}, numa=HALVES),
}  # fmt: skip
"""By name."""


@st.composite
def odd_nodes(draw: st.DrawFn) -> Inventory:
    """Up to seven devices with any links, on any switches: shapes that nobody sells."""
    count = draw(st.integers(2, 7))
    pairs = st.sampled_from(list(combinations(range(count), 2)))
    link = st.tuples(st.sampled_from([LinkKind.NVLINK, LinkKind.XGMI]), st.integers(1, 3), st.sampled_from([0, 25, 50]))
    numa = {index: draw(st.integers(0, 1)) for index in range(count)}
    switch = {index: draw(st.integers(0, 2)) for index in range(count) if draw(st.booleans())}
    return node(count, draw(st.dictionaries(pairs, link, max_size=12)), numa=numa, switch=switch)
