"""A topology as SVG: the tree from left to right, direct links at its right, the matrix below.

Invariant: every leaf has a row of its own and every level a column as wide as its widest box, so nothing overlaps; all text is
escaped.
"""

from itertools import groupby
from typing import Final
from xml.sax.saxutils import escape

from msgspec import Struct

from mica.events import LinkKind
from mica.topology._model import Part, PartKind, Topology
from mica.topology._paths import MEANING, PathKind
from mica.topology._tree import Branch, by_numa, legend, link_lines, paths, printable, span, speed

ROW: Final = 30
BOX: Final = 22
GAP: Final = 26
CHAR: Final = 7.0
MARGIN: Final = 16
MODEL_CHARS: Final = 28
ARC_MAX: Final = 220
_GROUPED: Final = frozenset({PartKind.NIC, PartKind.NVSWITCH, PartKind.UNKNOWN})
_STYLE: Final = """
text{font:11.5px ui-monospace,'DejaVu Sans Mono',monospace;fill:#1c2330}.bg{fill:#ffffff}.title{font-size:14px;font-weight:bold}
.numa{fill:#f3f5f9;stroke:#c3cbd9}.box{fill:#ffffff;stroke:#7b8798}.device{fill:#dcefdc;stroke:#3c8a46}
.nic{fill:#dde9fa;stroke:#3f6fb5}
.nvswitch,.fabric{fill:#f9e6d0;stroke:#b9752a}.edge{fill:none;stroke:#7b8798}
.link{fill:none;stroke:#b9752a;stroke-width:1.6;stroke-opacity:.75}
.near{fill:#f9e6d0}.pix{fill:#d3ecd6}.pxb{fill:#e6f1d6}.phb{fill:#eef0f4}.node{fill:#e3e6ec}.sys{fill:#d5d9e1}.self{fill:none}
@media (prefers-color-scheme:dark){text{fill:#e4e8ef}.bg{fill:#14181f}.numa{fill:#1b212b;stroke:#3d4757}
.box{fill:#232b37;stroke:#8491a5}.device{fill:#1d3a24;stroke:#5fb56c}.nic{fill:#1c2f4c;stroke:#6f9fe0}.nvswitch,.fabric{fill:#45301a;stroke:#d9974d}.edge{stroke:#8491a5}
.link{stroke:#d9974d}.near{fill:#45301a}.pix{fill:#1d3a24}.pxb{fill:#2b3a1d}.phb{fill:#2a313c}.node{fill:#242a34}.sys{fill:#1d222a}}
"""
_CELL: Final = {
    PathKind.SELF: "self", PathKind.PIX: "pix", PathKind.PXB: "pxb",
    PathKind.PHB: "phb", PathKind.NODE: "node", PathKind.SYS: "sys",
}  # fmt: skip


class _Box(Struct):
    """One box of the drawing, at a level and at the height of its middle in rows."""

    text: str
    style: str
    level: int
    row: float
    below: list["_Box"]
    device: str = ""


def draw_svg(topology: Topology) -> str:
    """The drawing as an SVG document that is readable on light and on dark."""
    canvas = _Canvas()
    canvas.text(MARGIN, MARGIN + 10, f"node {topology.node} (from {topology.source})", "title")
    right, bottom = _Trees(canvas, topology).draw(MARGIN + 26)
    width, bottom = _draw_matrix(canvas, topology, bottom + 24)
    bottom = _draw_legend(canvas, topology, bottom + 24)
    return canvas.finish(max(right, width), bottom)


class _Canvas:
    """What is drawn so far, and how wide text got."""

    def __init__(self) -> None:
        self._drawn: list[str] = []
        self._right = 0.0

    def text(self, x: float, y: float, text: str, style: str = "", anchor: str = "start") -> None:
        self._right = max(self._right, x + (wide(text) * (1.3 if style == "title" else 1.02) if anchor == "start" else 0))
        named = f' class="{style}"' if style else ""
        self._drawn.append(f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{named}>{escape(printable(text))}</text>')

    def rect(self, left: float, top: float, size: tuple[float, float], style: str) -> None:
        self._drawn.append(f'<rect x="{left:g}" y="{top:g}" width="{size[0]:g}" height="{size[1]:g}" rx="4" class="{style}"/>')

    def path(self, d: str, style: str) -> None:
        self._drawn.append(f'<path d="{d}" class="{style}"/>')

    def finish(self, right: float, bottom: float) -> str:
        width, height = max(right, self._right) + MARGIN, bottom + MARGIN
        size = f'width="{width:g}" height="{height:g}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width:g} {height:g}" role="img">'
        return "\n".join([head, f"<style>{_STYLE}</style>", f'<rect class="bg" {size}/>', *self._drawn, "</svg>", ""])


def wide(text: str) -> float:
    """The width of text in a box, in pixels."""
    return len(text) * CHAR


class _Trees:
    """The trees of the NUMA nodes, one below the other, and the links at their right."""

    def __init__(self, canvas: _Canvas, topology: Topology) -> None:
        self._canvas, self._topology = canvas, topology
        self._rows = 0
        self._frames: list[tuple[str, int, int, list[_Box]]] = []
        self._widths: list[float] = []
        self._devices: dict[str, float] = {}

    def draw(self, top: float) -> tuple[float, float]:
        """Draw below ``top``; returns the right and the lower end."""
        for numa in by_numa(self._topology):
            first = self._rows
            boxes = self._boxes(numa.below, 0)
            self._frames.append((numa.label, first, self._rows, boxes))
        lefts: list[float] = [MARGIN + GAP / 2]
        for width in self._widths:
            lefts.append(lefts[-1] + width + GAP)
        right, y = lefts[-1] - GAP / 2, float(top)
        for label, first, last, boxes in self._frames:
            height = (last - first) * ROW + 28
            self._canvas.rect(MARGIN, y, (max(right, MARGIN + wide(label) + 20) - MARGIN, height), "numa")
            self._canvas.text(MARGIN + 8, y + 16, label)
            for box in boxes:
                self._place(box, lefts, y + 22 - first * ROW)
            y += height + 10
        return self._links(right, top), y

    def _boxes(self, branches: tuple[Branch, ...], level: int) -> list[_Box]:
        found = []
        for (_, kind), run in groupby(branches, key=lambda each: (bool(each.below), each.part.kind)):
            group = list(run)
            if kind in _GROUPED and not group[0].below:
                found.append(self._leaf(tuple(each.part for each in group), level))
            else:
                found += [self._box(each, level) for each in group]
        return found

    def _box(self, branch: Branch, level: int) -> _Box:
        if not branch.below:
            return self._leaf((branch.part,), level)
        self._wide(level, text := _short(branch.part))
        below = self._boxes(branch.below, level + 1)
        return _Box(text, "box", level, (below[0].row + below[-1].row) / 2, below)

    def _leaf(self, parts: tuple[Part, ...], level: int) -> _Box:
        text = _short(parts[0]) if len(parts) == 1 else span(parts)
        self._wide(level, text)
        self._rows += 1
        kind = parts[0].kind
        style = str(kind) if kind in (PartKind.DEVICE, PartKind.NIC, PartKind.NVSWITCH) else "box"
        return _Box(text, style, level, self._rows - 0.5, [], parts[0].id if kind is PartKind.DEVICE else "")

    def _wide(self, level: int, text: str) -> None:
        self._widths += [0.0] * (level + 1 - len(self._widths))
        self._widths[level] = max(self._widths[level], wide(text) + 16)

    def _place(self, box: _Box, lefts: list[float], top: float) -> None:
        left, y, width = lefts[box.level], top + box.row * ROW, self._widths[box.level]
        self._canvas.rect(left, y - BOX / 2, (width, BOX), box.style)
        self._canvas.text(left + 8, y + 4, box.text)
        if box.device:
            self._devices[box.device] = y
            if lefts[-1] - GAP > left + width and self._joined(box.device):
                self._canvas.path(f"M{left + width:g} {y:g}H{lefts[-1] - GAP:g}", "link")
        for child in box.below:
            self._place(child, lefts, top)
            middle, child_y = left + width + GAP / 2, top + child.row * ROW
            self._canvas.path(f"M{left + width:g} {y:g}H{middle:g}V{child_y:g}H{lefts[child.level]:g}", "edge")

    def _joined(self, device: str) -> bool:
        return any(device in (link.a, link.b) for link in self._topology.links)

    def _links(self, right: float, top: float) -> float:
        """Direct links as arcs, those through NVSwitch as lines to one bar; returns the right end."""
        start, far = right - GAP / 2, right
        rows = sorted(self._devices, key=lambda each: self._devices[each])
        for link in self._topology.links:
            if link.kind is not LinkKind.NVSWITCH:
                reach = 24 + min(ARC_MAX, 16 * abs(rows.index(link.a) - rows.index(link.b)))
                a, b = self._devices[link.a], self._devices[link.b]
                self._canvas.path(f"M{start:g} {a:g}C{start + reach:g} {a:g} {start + reach:g} {b:g} {start:g} {b:g}", "link")
                far = max(far, start + reach)
        switched = [link for link in self._topology.links if link.kind is LinkKind.NVSWITCH]
        if not switched:
            return far
        bar = far + 60
        heights = [self._devices[each] for each in {end for link in switched for end in (link.a, link.b)}]
        for device, y in self._devices.items():
            lanes = max((link.lanes for link in switched if device in (link.a, link.b)), default=0)
            if lanes:
                self._canvas.path(f"M{start:g} {y:g}H{bar:g}", "link")
                self._canvas.text(bar - 8, y - 4, f"NV{lanes}", anchor="end")
        count = len(self._topology.of(PartKind.NVSWITCH))
        label = f"{count} NVSwitches" if count else "NVSwitch"
        upper, lower = max(min(heights) - BOX / 2, top), max(heights) + BOX / 2
        self._canvas.rect(bar, upper, (wide(label) + 16, lower - upper), "fabric")
        self._canvas.text(bar + wide(label) / 2 + 8, (upper + lower) / 2 + 4, label, anchor="middle")
        return bar + wide(label) + 16


def _short(part: Part) -> str:
    label = "switch" if part.kind is PartKind.BRIDGE else part.label
    model = part.model if len(part.model) <= MODEL_CHARS else f"{part.model[: MODEL_CHARS - 1]}…"
    fast = speed(part.bytes_per_s) if part.kind in (PartKind.DEVICE, PartKind.NIC) else ""
    return "  ".join(filter(None, (label, part.pci if part.kind is not PartKind.ROOT else "", model, fast)))


def _draw_matrix(canvas: _Canvas, topology: Topology, top: float) -> tuple[float, float]:
    devices, ways = topology.devices, paths(topology)
    labels = [each.label for each in devices] + [way.label for way in ways.values()]
    cell = max((wide(label) for label in labels), default=0) + 14
    for row, device in enumerate(devices, 1):
        canvas.text(MARGIN + cell * row + cell / 2, top + 15, device.label, anchor="middle")
        canvas.text(MARGIN + cell / 2, top + BOX * row + 15, device.label, anchor="middle")
        for column, other in enumerate(devices, 1):
            way = ways[device.id, other.id]
            left, y = MARGIN + cell * column, top + BOX * row
            canvas.rect(left + 1, y + 1, (cell - 2, BOX - 2), _CELL.get(way.kind, "near"))
            canvas.text(left + cell / 2, y + 15, way.label, anchor="middle")
    return MARGIN + cell * (len(devices) + 1), top + BOX * (len(devices) + 1 if devices else 0)


def _draw_legend(canvas: _Canvas, topology: Topology, top: float) -> float:
    counted = (PathKind.NVLINK, PathKind.XGMI, PathKind.HCCS, PathKind.XE_LINK)
    lines = [
        f"{kind}{'#' * (kind in counted)}: {MEANING[kind]}" for kind in legend(topology, nics=False) if kind is not PathKind.SELF
    ]
    lines += [*link_lines(topology), *(f"note: {note}" for note in topology.notes)]
    for nth, line in enumerate(lines):
        canvas.text(MARGIN, top + 16 * nth, line)
    return top + 16 * len(lines)
