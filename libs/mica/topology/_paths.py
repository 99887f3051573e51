"""How near two parts of a node are, in the words of ``nvidia-smi topo -m``.

Invariant: it is pure and symmetric; a path says the worst that has to be crossed, and a direct link is nearer than any PCIe path.
"""

from enum import StrEnum
from typing import Final, NamedTuple

from mica.events import LinkKind
from mica.topology._model import Part, PartKind, Topology


class PathKind(StrEnum):
    """What lies between two parts, from near to far; direct links of all kinds are equally near, and told apart by speed."""

    SELF = "X"
    NVLINK = "NV"
    XGMI = "XGMI"
    HCCS = "HCCS"
    XE_LINK = "XeLink"
    PIX = "PIX"
    PXB = "PXB"
    PHB = "PHB"
    NODE = "NODE"
    SYS = "SYS"


MEANING: Final = {
    PathKind.SELF: "the same",
    PathKind.NVLINK: "so many NVLinks, directly or through NVSwitch",
    PathKind.XGMI: "so many xGMI links",
    PathKind.HCCS: "so many HCCS links",
    PathKind.XE_LINK: "so many Xe Links",
    PathKind.PIX: "through at most one PCIe switch",
    PathKind.PXB: "through several PCIe switches, without a host bridge",
    PathKind.PHB: "through a PCIe host bridge (the processor)",
    PathKind.NODE: "through several host bridges of one NUMA node",
    PathKind.SYS: "from one NUMA node to another, or not known to be in one",
}
_BY_LINK: Final = {
    LinkKind.NVLINK: PathKind.NVLINK,
    LinkKind.NVSWITCH: PathKind.NVLINK,
    LinkKind.XGMI: PathKind.XGMI,
    LinkKind.HCCS: PathKind.HCCS,
    LinkKind.XE_LINK: PathKind.XE_LINK,
}
_RANK: Final = {PathKind.SYS: 0, PathKind.NODE: 1, PathKind.PHB: 2, PathKind.PXB: 3, PathKind.PIX: 4, PathKind.SELF: 6}
_DIRECT: Final = 5


class Closeness(NamedTuple):
    """Ordered: the greater, the nearer. ``bytes_per_s`` and ``lanes`` are those of a direct link, else 0."""

    rank: int
    bytes_per_s: int
    lanes: int


class DevicePath(NamedTuple):
    """What lies between two parts; ``lanes`` and ``bytes_per_s`` (each way, 0: not known) of a direct link, else 0."""

    kind: PathKind
    lanes: int = 0
    bytes_per_s: int = 0

    @property
    def label(self) -> str:
        """As a matrix shows it: ``NV12``, ``PIX``, ``X``."""
        return f"{self.kind}{self.lanes}" if self.lanes else str(self.kind)

    @property
    def closeness(self) -> Closeness:
        """For ordering."""
        return Closeness(_RANK.get(self.kind, _DIRECT), self.bytes_per_s, self.lanes)


def path(topology: Topology, a: str, b: str) -> DevicePath:
    """What lies between two parts. Raises TopologyError: there is no such part."""
    first, second = topology.part(a), topology.part(b)
    if a == b:
        return DevicePath(PathKind.SELF)
    link = topology.link(a, b)
    if link is not None:
        return DevicePath(_BY_LINK[link.kind], link.lanes, link.bytes_per_s)
    return DevicePath(_by_pcie(topology, first, second))


def closeness(topology: Topology, a: str, b: str) -> Closeness:
    """How near two parts are; the greater, the nearer. Raises TopologyError: there is no such part."""
    return path(topology, a, b).closeness


def pcie_rank(topology: Topology, a: str, b: str) -> int:
    """The rank of ``closeness``, had the two no direct link: how near they are to one processor."""
    return _RANK[PathKind.SELF if a == b else _by_pcie(topology, topology.part(a), topology.part(b))]


def _by_pcie(topology: Topology, first: Part, second: Part) -> PathKind:
    one, other = topology.above(first), topology.above(second)
    shared = sum(1 for left, right in zip(one, other, strict=False) if left.id == right.id)
    if any(part.kind is not PartKind.ROOT for part in one[:shared]):
        return PathKind.PIX if max(_ports(one[shared:]), _ports(other[shared:])) <= 1 else PathKind.PXB
    if shared:
        return PathKind.PHB
    return _between_roots(topology, topology.numa(first), topology.numa(second))


def _ports(bridges: tuple[Part, ...]) -> int:
    """How many switch ports those are: one, a downstream port, still keeps two devices at one switch; a whole switch is two."""
    return sum(2 if part.kind is PartKind.SWITCH else 1 for part in bridges)


def _between_roots(topology: Topology, one: int, other: int) -> PathKind:
    if one == other and one >= 0:
        return PathKind.NODE
    one_node = sum(1 for numa in topology.numa_nodes if numa >= 0) <= 1
    return PathKind.NODE if one_node and min(one, other) < 0 else PathKind.SYS
