"""What is drawn, and that it is drawn the same again."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from mica.plots import Line, Mark, Panel, Plot, PlotError, draw

PLOT = Plot(
    "Two policies",
    "hours",
    [
        Panel("Allocated", "%", [Line("fgd", [0, 1, 2], [1, 5, 3]), Line("asked for", [0, 2], [2, 6], faint=True)], (0, None)),
        Panel("Stranded", "%", [Line("mica", [0, 1, 2], [0, 1, 0]), Line("fgd", [0, 1, 2], [1, 1, 1])]),
    ],
)


def test_equal_plots_are_equal_bytes_without_a_date(tmp_path: Path) -> None:
    """So that a plot in the documents changes only when its figures do. Missing folders are made."""
    for name in ("one/a.svg", "b.svg"):
        draw(PLOT, tmp_path / name)
    text = (tmp_path / "b.svg").read_text()
    assert text == (tmp_path / "one/a.svg").read_text()
    assert "dc:date" not in text
    assert ET.fromstring(text).tag.endswith("svg")


def test_a_line_has_one_colour_in_all_panels_and_a_faint_one_is_grey(tmp_path: Path) -> None:
    """``fgd`` comes first, so it has the first colour; in the second panel, where it stands second, too."""
    draw(PLOT, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert text.count("stroke: #0072b2") == 4  # a line and its legend, twice
    assert text.count("stroke: #d55e00") == 2
    assert "stroke: #888888" in text


def test_what_happened_is_marked_when_it_did(tmp_path: Path) -> None:
    """An upright line for each mark, and its name, which is drawn and so not the same plot."""
    panel = Panel("Latency", "ms", [Line("p99", [0, 10], [5, 9])], marks=[Mark(4, "throttle")])
    draw(Plot("A breach", "s", [panel]), tmp_path / "marked.svg")
    draw(Plot("A breach", "s", [Panel("Latency", "ms", panel.lines)]), tmp_path / "plain.svg")
    marked, plain = ((tmp_path / name).read_text() for name in ("marked.svg", "plain.svg"))
    assert marked.count("#444444") > plain.count("#444444")


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, when something is drawn, and not before."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PlotError, match=r"allowed: `pip install 'mica\[plots\]'`"):
        draw(PLOT, tmp_path / "a.svg")


def test_a_place_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    """Which, and why."""
    (tmp_path / "file").write_text("")
    with pytest.raises(PlotError, match=r"file/a\.svg: got "):
        draw(PLOT, tmp_path / "file" / "a.svg")


def test_loading_the_library_loads_no_matplotlib() -> None:
    """Nor does the simulation: services stay small."""
    code = (
        "import sys, mica.plots, mica.simulation, mica.bench._plots\n"
        "print(sorted({'matplotlib', 'highspy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
