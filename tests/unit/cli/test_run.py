"""``mica run``: what a program inside a slice gets."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from mica.cli._errors import CliError
from mica.cli.commands.run import run
from mica.cli.launch.attach import Attach, device_ids, environment_of, read_attach
from mica.region import RuntimeDir, decode_attach

DEVICE = "GPU-1"


def describe(root: Path, mode: str, env: dict[str, str], slice_id: str = "s1") -> Path:
    """Write the attach file of a slice."""
    runtime = RuntimeDir(root)
    runtime.ensure_slice(slice_id)
    directory = runtime.slice_dir(slice_id)
    mounts = [{"source": str(runtime.quota_path(DEVICE)), "target": "", "read_only": True}]
    document = {"id": slice_id, "node": "n", "mode": mode, "devices": ["MIG-1"], "env": env, "mounts": mounts}
    (directory / "attach.json").write_text(json.dumps(document))
    return directory


def test_what_the_caller_preloads_stays_loaded_after_the_shim() -> None:
    """LD_PRELOAD and LD_LIBRARY_PATH add up, the shim's directory and the slice's part first; other variables are replaced."""
    attach = Attach("s1", "fcsp", {"LD_PRELOAD": "/m/shim.so", "LD_LIBRARY_PATH": "/sim", "CUDA_VISIBLE_DEVICES": "GPU-1"})
    inherited = {"LD_PRELOAD": "/mine.so", "LD_LIBRARY_PATH": "/lib", "CUDA_VISIBLE_DEVICES": "0", "HOME": "/h"}
    assert environment_of(attach, inherited) == {
        "LD_PRELOAD": "/m/shim.so /mine.so",
        "LD_LIBRARY_PATH": "/m:/sim:/lib",
        "CUDA_VISIBLE_DEVICES": "GPU-1",
        "HOME": "/h",
    }


def test_a_slice_without_a_preload_leaves_the_callers_alone() -> None:
    """Hardware mode has no shim."""
    assert environment_of(Attach("s1", "hardware", {}), {"LD_PRELOAD": "/mine.so"}) == {"LD_PRELOAD": "/mine.so"}


def test_no_program_starts_without_the_shim(tmp_path: Path) -> None:
    """A shim that is not where the slice says is one clear line, not a program that runs free."""
    describe(tmp_path, "fcsp", {"LD_PRELOAD": f"{tmp_path}/gone.so"})
    result = CliRunner().invoke(run, ["--runtime-dir", str(tmp_path), "s1", "--", "true"])
    assert result.exit_code == 1
    assert f"slice s1: its shim {tmp_path}/gone.so is not here" in result.output


@pytest.mark.parametrize(
    ("slice_id", "message"), [("s1", "not on this node"), ("../../etc", "no slice id"), ("x" * 65, "no slice id")]
)
def test_a_slice_that_is_not_here_is_one_clear_error(tmp_path: Path, slice_id: str, message: str) -> None:
    """No path is made of what can't be an id."""
    with pytest.raises(CliError, match=message):
        read_attach(tmp_path, slice_id)


def test_the_devices_under_a_partition_are_named_by_its_mounts(tmp_path: Path) -> None:
    """The attach file names the partition; the regions belong to the device."""
    describe(tmp_path, "hardware", {})
    assert device_ids(tmp_path, read_attach(tmp_path, "s1")) == [DEVICE]


@pytest.mark.parametrize("mode", ["hardware", "fcsp"])
def test_the_program_keeps_the_pid_that_the_enforcer_is_told(tmp_path: Path, mode: str) -> None:
    """In hardware mode one datagram names the process before it becomes the program; with a shim none does."""
    describe(tmp_path, mode, {"MICA_SLICE": "s1"})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as enforcer:
        door = RuntimeDir(tmp_path).attach_socket
        door.parent.mkdir()
        enforcer.bind(str(door))
        command = [
            sys.executable,
            "-m",
            "mica.cli",
            "run",
            "--runtime-dir",
            str(tmp_path),
            "s1",
            "--",
            "sh",
            "-c",
            "echo $$ $MICA_SLICE; exit 7",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 7
        pid, slice_id = done.stdout.split()
        assert slice_id == "s1"
        enforcer.setblocking(False)
        if mode == "fcsp":
            with pytest.raises(BlockingIOError):
                enforcer.recv(4096)
            return
        message = decode_attach(enforcer.recv(4096))
    assert (message.slice_id, message.device_id, message.slot, message.pid) == ("s1", DEVICE, None, int(pid))


def test_a_program_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    """Nothing is started, and the name that was typed is said."""
    describe(tmp_path, "fcsp", {})
    command = [sys.executable, "-m", "mica.cli", "run", "s1", "--", "no-such-program"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"MICA_RUNTIME_DIR": str(tmp_path)}, check=False
    )
    assert (done.returncode, done.stderr) == (1, "mica: run: no-such-program: No such file or directory\n")


@pytest.mark.parametrize(("arguments", "weight"), [(["--weight", "300"], "300"), ([], "none")])
def test_a_program_is_told_its_weight(tmp_path: Path, arguments: list[str], weight: str) -> None:
    """MICA_WEIGHT is what the shim weighs it by; who asks for none gets none."""
    describe(tmp_path, "fcsp", {})
    program = [sys.executable, "-c", "import os; print(os.environ.get('MICA_WEIGHT', 'none'))"]
    command = [sys.executable, "-m", "mica.cli", "run", "--runtime-dir", str(tmp_path), *arguments, "s1", "--", *program]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"{weight}\n"


def test_a_program_is_told_its_deadline(tmp_path: Path) -> None:
    """In the environment, from which its shim reads it; beside its weight."""
    describe(tmp_path, "fcsp", {})
    show = "import os; print(os.environ['MICA_DEADLINE_MS'], os.environ['MICA_WEIGHT'])"
    options = ["--deadline-ms", "25", "--weight", "7"]
    program = [sys.executable, "-c", show]
    command = [sys.executable, "-m", "mica.cli", "run", "--runtime-dir", str(tmp_path), *options, "s1", "--", *program]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "25 7\n"


@pytest.mark.parametrize(("mode", "weight", "message"), [("hardware", "300", "no shim"), ("fcsp", "0", "1<=x<=10000")])
def test_a_weight_that_nobody_would_enforce_is_one_clear_error(tmp_path: Path, mode: str, weight: str, message: str) -> None:
    """In hardware mode, or out of range."""
    describe(tmp_path, mode, {})
    command = [sys.executable, "-m", "mica.cli", "run", "--runtime-dir", str(tmp_path), "--weight", weight, "s1", "--", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert message in done.stderr
