"""From single connections, as documents state them, to links between devices.

Invariant: links come out in the devices' order, one for each pair and kind. All NVSwitches of a node are one fabric, as vendors
build and as NCCL and nvidia-smi count it: documents leave out how switches are joined.
"""

from itertools import combinations
from typing import Final

from msgspec import Struct

from mica.events import Link, LinkKind

ONE_FABRIC: Final = "some devices have no NVSwitch in common; all NVSwitches of the node are taken as one fabric"


class Connection(Struct, frozen=True):
    """What one end says: ``lanes`` links from ``device`` to ``target``, with ``bytes_per_s`` each way in all (0: not known).

    ``target`` is another device, or with ``NVSWITCH`` a switch.
    """

    device: str
    target: str
    kind: LinkKind
    lanes: int
    bytes_per_s: int = 0


def links(devices: tuple[str, ...], connections: list[Connection]) -> tuple[tuple[Link, ...], tuple[str, ...]]:
    """The links between devices, and notes on what the connections say oddly."""
    notes: list[str] = []
    direct: dict[tuple[LinkKind, frozenset[str]], dict[str, tuple[int, int]]] = {}
    switched: dict[str, tuple[int, int]] = {}
    reached: dict[str, set[str]] = {}
    for each in connections:
        if each.kind is LinkKind.NVSWITCH:
            switched[each.device] = _plus(switched.get(each.device), each)
            reached.setdefault(each.device, set()).add(each.target)
        elif each.device == each.target:
            notes.append(f"{each.device}: {each.lanes} links to itself are no link between devices; left out")
        else:
            ends = direct.setdefault((each.kind, frozenset((each.device, each.target))), {})
            ends[each.device] = _plus(ends.get(each.device), each)
    if any(not one & other for one, other in combinations(reached.values(), 2)):
        notes.append(ONE_FABRIC)
    found: list[Link] = []
    for (one, other), kind in ((pair, kind) for pair in combinations(devices, 2) for kind in LinkKind):
        ends = direct.get((kind, frozenset((one, other))), {})
        if ends:
            if len(set(ends.values())) > 1:
                notes.append(f"{one} and {other} do not say the same of their links; the smaller number is taken")
            found.append(_link(one, other, kind, list(ends.values())))
        elif kind is LinkKind.NVSWITCH and one in switched and other in switched:
            found.append(_link(one, other, kind, [switched[one], switched[other]]))
    return tuple(found), tuple(notes)


def _plus(before: tuple[int, int] | None, each: Connection) -> tuple[int, int]:
    lanes, speed = before or (0, 0)
    return lanes + each.lanes, speed + each.bytes_per_s


def _link(one: str, other: str, kind: LinkKind, ends: list[tuple[int, int]]) -> Link:
    return Link(a=one, b=other, kind=kind, lanes=min(lanes for lanes, _ in ends), bytes_per_s=min(speed for _, speed in ends))
