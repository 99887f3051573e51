"""A node's topology: its parts as a tree, and the links between its devices.

Invariant: a Topology that exists is sound. Identities are unique, every parent is a part and no part is above itself, and a link
joins two different devices.
"""

from enum import StrEnum
from functools import cached_property

from msgspec import Struct

from mica.events import Link, Vendor


class TopologyError(ValueError):
    """A description of a topology cannot be used. The message names file, element, what was observed and what is allowed."""


class PartKind(StrEnum):
    """What a part is.

    ``bridge`` is one port (a PCIe switch has one upstream and several downstream), ``switch`` a whole PCIe switch as NCCL's
    documents and node files have it. ``unknown``: a PCI function whose class is not told.
    """

    ROOT = "root"
    BRIDGE = "bridge"
    SWITCH = "switch"
    DEVICE = "device"
    NVSWITCH = "nvswitch"
    NIC = "nic"
    UNKNOWN = "unknown"


class Part(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One part of a node. ``label`` is what drawings call it, such as ``GPU0``; ``parent`` the identity of the part above it.

    ``numa``: -1 where it is not known. ``gt_per_s`` and ``width`` are its PCIe link's upward, ``bytes_per_s`` what that gives
    each way; 0 where it is not known.
    """

    id: str
    kind: PartKind
    label: str
    parent: str = ""
    pci: str = ""
    numa: int = -1
    vendor: Vendor | None = None
    model: str = ""
    gt_per_s: float = 0.0
    width: int = 0
    bytes_per_s: int = 0


class Topology(Struct, frozen=True, kw_only=True, dict=True):
    """A node, read from ``source``. ``notes`` say what that leaves open, or says oddly."""

    node: str
    source: str
    parts: tuple[Part, ...]
    links: tuple[Link, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises TopologyError."""
        for part in self.parts:
            if self.part(part.id) is not part:
                raise TopologyError(f"{self.node}: {part.id} is there twice; allowed: once")
            self._check_above(part)
        known = {part.id for part in self.devices}
        for link in self.links:
            odd = sorted({link.a, link.b} - known) or ([link.a] if link.a == link.b else [])
            if odd:
                raise TopologyError(f"{self.node}: link {link.a} to {link.b}: {odd[0]}; allowed: two different devices")

    def _check_above(self, part: Part) -> None:
        seen = {part.id}
        while part.parent:
            if part.parent not in self._by_id or part.parent in seen:
                wrong = "is below itself" if part.parent in seen else f"is below {part.parent}, which is not there"
                raise TopologyError(f"{self.node}: {part.id} {wrong}; allowed: a tree")
            part = self._by_id[part.parent]
            seen.add(part.id)

    @cached_property
    def _by_id(self) -> dict[str, Part]:
        return {part.id: part for part in self.parts}

    @cached_property
    def _below(self) -> dict[str, list[Part]]:
        found: dict[str, list[Part]] = {}
        for part in self.parts:
            found.setdefault(part.parent, []).append(part)
        return found

    @cached_property
    def _between(self) -> dict[frozenset[str], Link]:
        best: dict[frozenset[str], Link] = {}
        for link in self.links:
            pair = frozenset((link.a, link.b))
            other = best.get(pair)
            if other is None or (link.bytes_per_s, link.lanes) > (other.bytes_per_s, other.lanes):
                best[pair] = link
        return best

    def part(self, name: str) -> Part:
        """The part with that identity. Raises TopologyError."""
        try:
            return self._by_id[name]
        except KeyError:
            raise TopologyError(f"{self.node}: no part {name[:64]!r}; devices: {self._devices()}") from None

    def _devices(self) -> str:
        return ", ".join(part.id for part in self.devices) or "none"

    def of(self, kind: PartKind) -> tuple[Part, ...]:
        """All parts of a kind, in the source's order."""
        return tuple(part for part in self.parts if part.kind is kind)

    @property
    def devices(self) -> tuple[Part, ...]:
        """The devices, in the source's order."""
        return self.of(PartKind.DEVICE)

    @property
    def numa_nodes(self) -> tuple[int, ...]:
        """The NUMA nodes that any part is at, -1 (not known) last."""
        return tuple(sorted({self.numa(part) for part in self.parts}, key=lambda each: (each < 0, each)))

    def below(self, name: str) -> tuple[Part, ...]:
        """The parts directly below one; below ``""``: those with nothing above them."""
        return tuple(self._below.get(name, ()))

    def above(self, part: Part) -> tuple[Part, ...]:
        """The parts above one, the root first."""
        found: list[Part] = []
        while part.parent:
            part = self.part(part.parent)
            found.append(part)
        return tuple(reversed(found))

    def numa(self, part: Part) -> int:
        """The NUMA node of a part: its own, else that of the nearest part above it which has one; -1: not known."""
        return next((each.numa for each in (part, *reversed(self.above(part))) if each.numa >= 0), -1)

    def link(self, a: str, b: str) -> Link | None:
        """The best link between two devices, if there is any."""
        return self._between.get(frozenset((a, b)))
