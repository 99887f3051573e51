"""What can be seen of nodes without any service: the node files that come with mica, and what a node file gives."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mica.cli.commands.health import find
from mica.cli.commands.nodes import device_row, ready_made_rows
from mica.events import Device, Health, Inventory, Ledger, Observed, Severity, Trouble, Vendor
from mica.hardware import ready_made_nodes
from mica.native import LIB_DIR

built = pytest.mark.skipif(not (LIB_DIR / "sim" / "libnvidia-ml.so.1").exists(), reason="run `make native` first")


def mica(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, where nobody listens for NATS."""
    environment = {"MICA_NATS_URL": "nats://127.0.0.1:1", "MICA_OPENCL": "off"}
    command = [sys.executable, "-m", "mica.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_without_a_bus_the_node_files_are_listed_all_the_same() -> None:
    """Every file with its models; that nobody answered is said beside it."""
    done = mica("nodes")
    assert done.returncode == 0
    assert "no NATS server answers" in done.stderr
    names = [line.split()[0] for line in done.stdout.splitlines()[1:]]
    assert names == list(ready_made_nodes())


def test_the_node_files_in_json() -> None:
    """By name, with how many of each model, and the vendors."""
    done = mica("nodes", "--ready-made", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    demo = next(row for row in json.loads(done.stdout) if row["node"] == "demo")
    assert demo["models"] == {"H100-SXM-80GB": 1, "L4": 1, "P40": 1}
    assert (demo["ready_made"], demo["devices"], demo["vendors"]) == (True, 3, ["nvidia"])
    assert len(ready_made_rows()) == len(ready_made_nodes())


@built
@pytest.mark.parametrize("by_name", [True, False])
def test_discover_shows_what_a_node_file_gives(tmp_path: Path, *, by_name: bool) -> None:
    """Devices with the modes that each offers, by the name of a ready-made node or a path, and nothing is left behind."""
    file = tmp_path / "own.toml"
    file.write_bytes(ready_made_nodes()["demo"].read_bytes())
    done = mica("discover", "--node", "demo" if by_name else str(file), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["node"], found["links"], found["warnings"]) == ("demo", [], [])
    h100, l4, p40 = found["devices"]
    assert (h100["vendor"], h100["model"], h100["simulated"]) == ("nvidia", "NVIDIA H100 80GB HBM3", True)
    assert "hardware" in h100["modes"]
    assert (l4["modes"], p40["modes"]) == (["fcsp", "timeslice"], ["timeslice"])
    table = mica("discover", "--node", str(file))
    assert "fcsp,timeslice" in table.stdout


BAD = {
    "no such node": ("nowhere", "allowed: a path, or one of"),
    "no such file": ("./nowhere.toml", "No such file"),
    "no node file": ("bad.toml", "bad.toml"),
    "an unknown model": ("odd.toml", "unknown model 'Z9000'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_node_file_is_one_line_and_status_1(case: str, tmp_path: Path, monkeypatch: Any) -> None:
    """What was given, and what is allowed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text("name = 3\n")
    (tmp_path / "odd.toml").write_text('name = "n"\n[[device]]\nmodel = "Z9000"\n')
    given, said = BAD[case]
    done = mica("discover", "--node", given)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert said in done.stderr


def test_a_file_in_the_working_directory_wins_over_a_ready_made_node(tmp_path: Path, monkeypatch: Any) -> None:
    """Whoever has a file called demo means that."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").write_text("name = 3\n")
    assert "demo: " in mica("discover", "--node", "demo").stderr


def test_a_device_says_what_is_wrong_with_it() -> None:
    """Its message, its troubles and what is odd about it are in its row."""
    xid = Trouble(kind="xid", code=79, severity=Severity.FATAL, message="XID 79", at=5)
    device = Device(
        id="g", index=0, vendor=Vendor.NVIDIA, model="L4", vram_bytes=1 << 30, health=Health.FAILED, message="XID 79",
        troubles=(xid,), warnings=("memory: 1 GiB, the catalogue says 24 GiB",),
    )  # fmt: skip
    inventory = Inventory(node="n", pool="p", boot_id="b", devices=(device,))
    row = device_row(inventory, device, Ledger(node="n"), Observed(node="n", boot_id="b"))
    assert (row["health"], row["message"], row["warnings"]) == ("failed", "XID 79", list(device.warnings))
    assert [(trouble["kind"], trouble["code"]) for trouble in row["troubles"]] == [("xid", 79)]
    assert find([inventory], "g") == (inventory, device)
