"""``mica run --bind-cpus``: a program runs on the processors near its slice's devices."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mica.cli._errors import CliError
from mica.cli.launch.attach import Attach, near_cpus, parse_cpus
from mica.region import RuntimeDir


@pytest.mark.parametrize(("listed", "cpus"), [("", set()), ("0", {0}), ("0-2,8,10-11", {0, 1, 2, 8, 10, 11})])
def test_a_list_of_processors_is_read_as_the_kernel_writes_it(listed: str, cpus: set[int]) -> None:
    """Single ones and ranges."""
    assert parse_cpus(listed) == cpus


def test_only_processors_that_we_may_run_on_are_taken() -> None:
    """A container's own limits stand; where nothing is left, or nothing is known, that is one clear error."""
    attach = Attach("s1", "fcsp", {}, cpus="0-3")
    assert near_cpus(attach, {2, 3, 4}) == {2, 3}
    with pytest.raises(CliError, match="--bind-cpus to 0-3, allowed here: 6, 7"):
        near_cpus(attach, {6, 7})
    with pytest.raises(CliError, match="not known on this node"):
        near_cpus(Attach("s1", "fcsp", {}), {0})


def test_the_program_runs_where_its_devices_are(tmp_path: Path) -> None:
    """It inherits the affinity, as its children do."""
    runtime = RuntimeDir(tmp_path)
    runtime.ensure_slice("s1")
    cpu = min(os.sched_getaffinity(0))
    document = {"id": "s1", "node": "n", "mode": "fcsp", "devices": [], "env": {}, "mounts": [], "cpus": str(cpu)}
    (runtime.slice_dir("s1") / "attach.json").write_text(json.dumps(document))
    program = [sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"]
    command = [sys.executable, "-m", "mica.cli", "run", "--runtime-dir", str(tmp_path), "--bind-cpus", "s1", "--", *program]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"[{cpu}]\n"
