"""``mica bench slo`` runs whole, and tells what it promises; how well targets are held is no test's business."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

WAYS = {"alone", "shared_unguarded", "shared_guarded"}


@pytest.mark.timeout(180)
def test_a_short_run_has_every_figure_and_loses_nothing(tmp_path: Path) -> None:
    """Three ways to share, the incident with its plot, a healthy hour without an action, deaths after which nothing disagrees."""
    options = ("--device", "sim", "--runs", "1", "--seconds", "2", "--kills", "2", "--plots", str(tmp_path), "--json")
    command = [sys.executable, "-m", "mica.cli", "bench", "slo", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=170)
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    for figure in ("p99_ms", "slo_attainment_pct", "utilisation_pct"):
        assert report[figure].keys() == WAYS
        assert all(value > 0 for value in report[figure].values())
    assert {"detect_s", "recover_s", "actions", "false_actions"} <= report.keys()
    device = report["devices"]["sim"]
    assert device["batch_kept_pct"]["shared_guarded"] > 0
    assert (device["valid"], done.returncode == 0) in {(True, True), (True, False), (False, False)}
    assert (report["healthy"]["reports"], report["healthy"]["actions"]) == (7200, 0)
    chaos = report["chaos"]
    assert sum(chaos["kills"].values()) == 2
    assert {chaos[name] for name in ("disagreements", "unanswered", "answered_twice", "lost", "acted_twice")} == {0}
    assert ET.parse(tmp_path / "slo-timeline-sim.svg").getroot().tag.endswith("svg")
