"""A topology for a terminal: the tree, the matrix of devices, what its words mean. Invariant: a word is never cut."""

from collections.abc import Iterator

from mica.topology._model import PartKind, Topology
from mica.topology._paths import MEANING, PathKind
from mica.topology._tree import Branch, by_numa, legend, link_lines, nearest_nics, paths, printable, span, words

_COUNTED = (PathKind.NVLINK, PathKind.XGMI, PathKind.HCCS, PathKind.XE_LINK)


def draw_text(topology: Topology) -> str:
    """The drawing, several lines without the last line's end."""
    blocks = [
        list(_tree(topology)),
        list(_matrix(topology)),
        list(_legend(topology)),
        [f"note: {note}" for note in topology.notes],
    ]
    return "\n\n".join("\n".join(map(printable, block)) for block in blocks if block)


def _tree(topology: Topology) -> Iterator[str]:
    yield f"node {topology.node} (from {topology.source})"
    for numa in by_numa(topology):
        yield numa.label
        yield from _limbs(numa.below, "")


def _limbs(branches: tuple[Branch, ...], indent: str) -> Iterator[str]:
    for branch in branches:
        last = branch is branches[-1]
        yield f"{indent}{'└─' if last else '├─'} {words(branch.part)}"
        yield from _limbs(branch.below, indent + ("   " if last else "│  "))


def _matrix(topology: Topology) -> Iterator[str]:
    devices, ways = topology.devices, paths(topology)
    if not devices:
        return
    nics = bool(topology.of(PartKind.NIC))
    rows = [["", *(device.label for device in devices), "NUMA", *(["NEAREST NICS"] if nics else [])]]
    for device in devices:
        numa = topology.numa(device)
        row = [device.label, *(ways[device.id, other.id].label for other in devices), str(numa) if numa >= 0 else "-"]
        if nics:
            near, found = nearest_nics(topology, device)
            row.append(f"{span(found)} ({near.label if near else '-'})")
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _legend(topology: Topology) -> Iterator[str]:
    for kind in legend(topology, nics=True):
        yield f"{kind + '#' * (kind in _COUNTED):<7} {MEANING[kind]}"
    yield from (f"links: {line}" for line in link_lines(topology))
