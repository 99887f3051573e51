"""On every ready-made node: whatever is asked for, done by hand, refused, killed or rebooted, I1 to I8 hold and nothing leaks."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from mica.hardware import ready_made_nodes

LIFE = Path(__file__).with_name("random_life.py")
STEPS = int(os.environ.get("MICA_LIFE_STEPS", "60"))
SEED = int(os.environ.get("MICA_LIFE_SEED", "1"))
NODES = ready_made_nodes()


def live(node: Path, directory: Path, steps: int = STEPS, **environment: str) -> subprocess.CompletedProcess[str]:
    """Let it live in a process of its own."""
    program = [sys.executable, str(LIFE), str(node), str(directory), str(steps), str(SEED)]
    try:
        return subprocess.run(program, capture_output=True, text=True, check=False, timeout=3600, env=os.environ | environment)
    finally:
        end_what_holds_partitions(directory)


def end_what_holds_partitions(directory: Path) -> None:
    """Qualcomm's partitions last as long as a process of its tool, which is meant to outlive whoever made them."""
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if str(directory).encode() in cmdline.read_bytes():
                os.kill(int(cmdline.parent.name), signal.SIGKILL)


@pytest.mark.timeout(3700)
@pytest.mark.parametrize("node", NODES.values(), ids=NODES.keys())
def test_a_node_keeps_its_invariants_through_a_random_life(node: Path, tmp_path: Path) -> None:
    """`mica audit` is clean after every hundred steps; no partition is lost, and none is left over."""
    done = live(node, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["request"] + counts["release"] > STEPS // 2
    assert counts["checks"] > 0


@pytest.mark.timeout(600)
def test_an_enforcer_that_never_looks_is_caught(tmp_path: Path) -> None:
    """The control: what was done by hand is found by the audit when nobody repairs it."""
    done = live(NODES["demo"], tmp_path, 200, BLIND="1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "I3" in done.stdout
