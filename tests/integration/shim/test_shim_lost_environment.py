"""Programs of a slice's container that have lost its environment: shells of an SSH server, children with one of their own.

The container is a mount namespace: the shims in /etc/ld.so.preload, and the slice's attach file where the enforcer's list of
mounts puts it. Nothing in the programs' environment speaks of the slice.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from shim_node import CLIENT, GIB, MIB, UUIDS, Node

from mica.enforcer.tenancy import ATTACH_FILE, NO_DEVICE
from mica.native import shims

NO_SUCH_DEVICE = 100
ENTER = ["unshare", "--user", "--map-root-user", "--mount"]
CONTAINER = """
set -e
mount --bind "$1/etc" /etc
mount -t tmpfs tmpfs /run
mkdir -p "$(dirname "$2")"
if [ -e "$1/attach.json" ]; then cp "$1/attach.json" "$2"; fi
shift 2
exec env -i "$@"
"""


@pytest.fixture(autouse=True)
def _namespaces() -> None:
    if subprocess.run([*ENTER, "mount", "-t", "tmpfs", "tmpfs", "/run"], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let us make a mount namespace")


def container(node: Node, root: Path, attach: str | None) -> list[str]:
    """The words before a command that run it in a container of slice a, with an attach file or without."""
    shutil.copytree("/etc", root / "etc", symlinks=True, ignore_dangling_symlinks=True)
    (root / "etc" / "ld.so.preload").write_text(" ".join(map(str, shims())) + "\n")
    if attach is not None:
        (root / "attach.json").write_text(attach)
    machine = {name: value for name, value in node.environment(None).items() if name.startswith(("MICA_", "LD_LIBRARY"))}
    words = [f"{name}={value}" for name, value in machine.items()]
    return [*ENTER, "sh", "-c", CONTAINER, "sh", str(root), ATTACH_FILE, *words]


def attach_file(node: Node) -> str:
    """As the enforcer writes it."""
    env = {
        "MICA_SLICE": "a",
        "MICA_RUNTIME_DIR": str(node.runtime.root),
        "CUDA_VISIBLE_DEVICES": NO_DEVICE,
        "MICA_VISIBLE_DEVICES": UUIDS[0],
        "LD_PRELOAD": "/nowhere",
    }
    return json.dumps({"id": "a", "env": env, "mounts": []}, separators=(",", ":"))


def ask(command: list[str], *calls: tuple[object, ...]) -> tuple[list[object], str]:
    """What the program answers to these calls, and what it has on stderr."""
    lines = "".join(json.dumps(call) + "\n" for call in calls)
    words = [*command, sys.executable, str(CLIENT)]
    done = subprocess.run(words, input=lines, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


CALLS = (("init",), ("total",), ("primary",), ("alloc", "p", GIB + 1), ("alloc", "p", MIB))


def test_a_shell_without_its_environment_is_in_the_slice(node: Node, tmp_path: Path) -> None:
    """C17: it sees the slice's memory, gets no more, and is counted."""
    node.place("a")
    answers, errors = ask(container(node, tmp_path, attach_file(node)), *CALLS)
    assert answers == [[0], [0, GIB], [0], [2], [0]]
    assert errors == ""
    assert node.usage("a").refusals == 1


def test_without_the_attach_file_the_same_shell_has_the_whole_device(node: Node, tmp_path: Path) -> None:
    """The control: this is what the file is for."""
    node.place("a")
    answers, _ = ask(container(node, tmp_path, None), *CALLS)
    assert answers[1][1] > 20 * GIB  # type: ignore[index]
    assert answers[3:] == [[0], [0]]


def test_what_the_shell_sets_itself_stays(node: Node, tmp_path: Path) -> None:
    """A variable that the program has is not replaced."""
    node.place("a")
    command = [*container(node, tmp_path, attach_file(node)), "CUDA_VISIBLE_DEVICES=1"]
    answers, _ = ask(command, *CALLS)
    assert answers[1] == [800, None], "the device that it asked for is not the slice's"


@pytest.mark.parametrize(
    "attach", ["", "{}", '{"env":{"MICA_SLICE":"a', '{"env":{"MICA_SLICE":1}}', '{"env":{"A":"\\\\"}}', "\x7fELF"]
)
def test_an_attach_file_that_cannot_be_understood_is_one_line_and_no_device(node: Node, tmp_path: Path, attach: str) -> None:
    """Every program of the container is in a slice; which one is not known."""
    node.place("a")
    answers, errors = ask(container(node, tmp_path, attach), ("init",))
    assert answers == [[NO_SUCH_DEVICE]]
    assert errors.splitlines()[-1] == f"mica: {ATTACH_FILE}: not an attach file, or a damaged one"
