"""Real compute through the whole system: unmodified PyOpenCL programs in slices of this machine's own processor."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from acceptance_stack import EXAMPLES, Stack, new_home

MIB = 1 << 20
WORKS = ("matrix", "sum", "blur")


@pytest.fixture(scope="module")
def computing() -> Iterator[Stack]:
    """A simulated node that also has this machine's processor as a device."""
    import shutil

    home = new_home()
    stack = Stack(home)
    try:
        stack.start("--opencl", "--port", "0")
        yield stack
    finally:
        stack.close()
        shutil.rmtree(home, ignore_errors=True)


def client(stack: Stack, slice_id: str, *words: str) -> subprocess.Popen[str]:
    """examples/opencl_client.py inside a slice."""
    command = [
        sys.executable,
        "-m",
        "mica.cli",
        "run",
        slice_id,
        "--",
        sys.executable,
        str(EXAMPLES / "opencl_client.py"),
        *words,
    ]
    return subprocess.Popen(command, env=stack.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answer(process: subprocess.Popen[str]) -> Any:
    """What it says when it is done."""
    out, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    assert errors == ""
    return json.loads(out)


def test_the_processor_is_a_device_beside_the_simulated_ones(computing: Stack) -> None:
    """It says that it is a processor and no simulation, and it has OpenCL's own numbers."""
    made_of = {device["vendor"]: device["simulated"] for device in computing.json("devices")}
    assert made_of == {"cpu": False, "nvidia": True}


def test_programs_compute_right_results_in_slices_side_by_side(computing: Stack) -> None:
    """Three tenants with 60, 30 and 10 % at once: each sees its own memory, and NumPy agrees with what they computed."""
    shares = dict(zip(WORKS, (60, 30, 10), strict=True))
    for work, share in shares.items():
        granted = computing.request(f"{work}-slice", "64MiB", "--share", f"{share}%", "--runtime", "opencl", "--mode", "fcsp")
        assert granted["type"] == "slice.ready", granted
    programs = {work: client(computing, f"{work}-slice", work, "1") for work in WORKS}
    for work, program in programs.items():
        said = answer(program)
        assert said["correct"], work
        assert said["memory_bytes"] == 64 * MIB
    used = {row["id"]: row for row in computing.json("ls")}
    assert {used[f"{work}-slice"]["state"] for work in WORKS} == {"ready"}
    computing.audit()
    for work in WORKS:
        computing.mica("release", f"{work}-slice")


def test_a_cuda_request_is_not_placed_on_a_processor(computing: Stack) -> None:
    """It has no CUDA, and the answer says so."""
    said = computing.json("request", "--tenant", "tester", "--vram", "64MiB", "--vendor", "cpu", status=None)
    assert said["type"] == "slice.rejected", said
    assert said["field"] == "runtime", said
