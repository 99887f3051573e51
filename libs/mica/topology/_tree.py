"""What drawings share: the tree without its uninteresting joints, and words for parts and links.

Invariant: every part is in the tree but bridges with nothing or one thing below them.
"""

from collections import Counter
from itertools import combinations

from msgspec import Struct

from mica.topology._model import Part, PartKind, Topology
from mica.topology._paths import DevicePath, PathKind, path


class Branch(Struct, frozen=True):
    """A part and what is below it."""

    part: Part
    below: tuple["Branch", ...]


class Numa(Struct, frozen=True):
    """What belongs to one NUMA node (-1: not known to which)."""

    numa: int
    below: tuple[Branch, ...]

    @property
    def label(self) -> str:
        """For drawings."""
        return f"NUMA {self.numa}" if self.numa >= 0 else "NUMA node not known"


def by_numa(topology: Topology) -> tuple[Numa, ...]:
    """The tree of each NUMA node."""
    tops = [(topology.numa(_first(topology, part)), part) for part in topology.below("")]
    numbers = sorted({numa for numa, _ in tops}, key=lambda each: (each < 0, each))
    return tuple(
        Numa(number, tuple(branch for numa, part in tops if numa == number for branch in _branches(topology, part)))
        for number in numbers
    )


def _first(topology: Topology, part: Part) -> Part:
    """The part itself, or one below it that knows its NUMA node: a root that serves one node need not say so."""
    if part.numa >= 0:
        return part
    return next((found for each in topology.below(part.id) if topology.numa(found := _first(topology, each)) >= 0), part)


def _branches(topology: Topology, part: Part) -> tuple[Branch, ...]:
    below = tuple(branch for each in topology.below(part.id) for branch in _branches(topology, each))
    if part.kind is PartKind.BRIDGE and len(below) < 2:
        return below
    return (Branch(part, below),)


def printable(text: str) -> str:
    """Text in which nothing steers a terminal or a viewer: it comes from foreign documents."""
    return "".join(char if char.isprintable() else " " for char in text)


def speed(bytes_per_s: int) -> str:
    """``150 GB/s``; empty where it is not known."""
    return f"{bytes_per_s / 1e9:.3g} GB/s" if bytes_per_s else ""


def words(part: Part) -> str:
    """A part in one line: label, address, model."""
    address = part.pci if part.pci and part.pci not in part.label else ""
    label = "switch" if part.kind is PartKind.BRIDGE else part.label
    return "  ".join(filter(None, (label, address, part.model, speed(part.bytes_per_s))))


def paths(topology: Topology) -> dict[tuple[str, str], DevicePath]:
    """The path of every two devices, both ways, and of each to itself."""
    devices = topology.devices
    return {(a.id, b.id): path(topology, a.id, b.id) for a in devices for b in devices}


def legend(topology: Topology, *, nics: bool) -> tuple[PathKind, ...]:
    """The kinds of path that a matrix of the devices shows, near to far; ``nics``: with those to the nearest NICs."""
    found = {each.kind for each in paths(topology).values()}
    if nics:
        found |= {near.kind for device in topology.devices for near, _ in [nearest_nics(topology, device)] if near}
    return tuple(kind for kind in PathKind if kind in found)


def nearest_nics(topology: Topology, device: Part) -> tuple[DevicePath | None, tuple[Part, ...]]:
    """The nearest NICs of a device, and the path to them."""
    ways = [(path(topology, device.id, nic.id), nic) for nic in topology.of(PartKind.NIC)]
    if not ways:
        return None, ()
    best = max(way.closeness for way, _ in ways)
    return next(way for way, _ in ways if way.closeness == best), tuple(nic for way, nic in ways if way.closeness == best)


def link_lines(topology: Topology) -> tuple[str, ...]:
    """How many pairs of devices are linked, by how many links and how fast: ``28 pairs: NV6, 150 GB/s each way``."""
    shown = [path(topology, a.id, b.id) for a, b in combinations(topology.devices, 2) if topology.link(a.id, b.id)]
    return tuple(
        f"{count} {'pair' if count == 1 else 'pairs'}: {way.label}"
        + (f", {speed(way.bytes_per_s)} each way" if way.bytes_per_s else "")
        for way, count in Counter(shown).most_common()
    )


def span(parts: tuple[Part, ...]) -> str:
    """Labels in few words: ``NIC0``, ``NIC0 to NIC3``, ``NIC0, NIC2``."""
    labels = [part.label for part in parts]
    digits = [int("".join(filter(str.isdigit, label)) or -1) for label in labels]
    if len(labels) > 2 and digits == list(range(digits[0], digits[0] + len(digits))):
        return f"{labels[0]} to {labels[-1]}"
    return ", ".join(labels)
