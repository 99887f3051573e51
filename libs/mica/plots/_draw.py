"""The drawing itself. Invariant: what a line means is told by its colour and by its name, never by its colour alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's: they differ for the colour-blind, too."""
STYLES: Final = ("-", "--", "-.", ":")
WIDTH_IN: Final = 8.0
PANEL_IN: Final = 2.7
STYLE: Final[Any] = {
    "svg.hashsalt": "mica", "svg.fonttype": "path", "font.size": 10, "axes.grid": True, "grid.alpha": 0.3, "grid.linewidth": 0.6,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "path.simplify": True,
    "path.simplify_threshold": 0.5,
}  # fmt: skip
"""Any: matplotlib names each of its settings in a type of its own."""


class PlotError(Exception):
    """A plot that can not be drawn or stored; the message says why. Permanent."""


class Line(Struct, frozen=True):
    """Points in the order in which they are joined. ``faint``: a thin grey line to compare with."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    faint: bool = False


class Mark(Struct, frozen=True):
    """Something that happened at ``x``: a thin upright line with its name beside it."""

    x: float
    name: str


class Panel(Struct, frozen=True):
    """Some lines over one axis. ``bounds``: of the y axis, where the data shall not decide. ``marks``: what happened when."""

    title: str
    y_label: str
    lines: Sequence[Line]
    bounds: tuple[float | None, float | None] = (None, None)
    marks: Sequence[Mark] = ()


class Plot(Struct, frozen=True):
    """Panels over one x axis. Lines of one name have one colour in all of them. ``log_x``: each tenfold is as far as the next."""

    title: str
    x_label: str
    panels: Sequence[Panel]
    log_x: bool = False


def draw(plot: Plot, path: Path) -> None:
    """Write the plot as SVG; folders that are missing are made.

    Raises:
        PlotError: matplotlib is not installed, or the file can not be written.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotError(f"plots: got no matplotlib ({error}), allowed: `pip install 'mica[plots]'`") from error
    names = list(dict.fromkeys(line.name for panel in plot.panels for line in panel.lines if not line.faint))
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, PANEL_IN * len(plot.panels) + 0.8), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots(len(plot.panels), 1, sharex=True, squeeze=False)[:, 0]
        for panel, each in zip(plot.panels, axes, strict=True):
            _panel(panel, each, names)
        if plot.log_x:
            axes[-1].set_xscale("log")
        axes[-1].set_xlabel(plot.x_label)
        axes[-1].margins(x=0.01)
        figure.suptitle(plot.title, fontsize=11)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
        except OSError as error:
            raise PlotError(f"{path}: got {error.strerror}, allowed: a file that can be written") from error


def _panel(panel: Panel, axes: "Axes", names: Sequence[str]) -> None:
    for line in panel.lines:
        if line.faint:
            axes.plot(line.x, line.y, label=line.name, color="#888888", linewidth=0.9, zorder=1)
            continue
        number = names.index(line.name)
        style = STYLES[number % len(STYLES)]
        axes.plot(line.x, line.y, label=line.name, color=COLOURS[number % len(COLOURS)], linewidth=1.4, linestyle=style)
    for mark in panel.marks:
        axes.axvline(mark.x, color="#444444", linewidth=0.9, linestyle=":")
        axes.annotate(
            mark.name, (mark.x, 1.0), xycoords=("data", "axes fraction"), xytext=(2, -2), textcoords="offset points",
            rotation=90, va="top", fontsize=8, color="#444444",
        )  # fmt: skip
    axes.set_title(panel.title, fontsize=10, loc="left")
    axes.set_ylabel(panel.y_label)
    axes.set_ylim(*panel.bounds)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
