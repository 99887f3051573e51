"""What is wrong with OpenCL, or with what a program asks of it: OpenCL's own error, one line of ours, and no harm to others."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from opencl_node import MIB, OpenClNode
from simulated_platforms import ARC, discovered, drivers_folder, platforms

COMPUTE = """
import threading
stopped = threading.Event()
threading.Thread(target=lambda: (told(), stopped.set()), daemon=True).start()
rng = np.random.default_rng(1)
rounds = wrong = 0
twice = cl.Kernel(program, "twice")
answer()
while not stopped.is_set():
    source = rng.random(4096, dtype=np.float32)
    result = np.empty_like(source)
    values = cl.Buffer(context, READ_WRITE | cl.mem_flags.COPY_HOST_PTR, hostbuf=source)
    twice(queue, source.shape, None, values)
    cl.enqueue_copy(queue, result, values)
    wrong += not np.array_equal(result, source * 2)
    rounds += 1
answer(rounds=rounds > 0, wrong=wrong)
"""
LIST = """
import json, pyopencl as cl
answer = {}
try:
    for platform in cl.get_platforms():
        try:
            answer[platform.name.removeprefix("mica simulated ")] = len(platform.get_devices())
        except cl.Error as error:
            answer[platform.name.removeprefix("mica simulated ")] = cl.status_code.to_string(error.code)
except cl.Error as error:
    answer = cl.status_code.to_string(error.code)
print(json.dumps(answer))
"""


@contextmanager
def beside_a_neighbour(node: OpenClNode) -> Iterator[None]:
    """Somebody computes in a slice of their own for the length of the block, and NumPy agrees with every result."""
    node.place("b", share_ppm=500_000)
    neighbour = node.start("b", COMPUTE)
    neighbour.answer()
    yield
    neighbour.tell()
    assert neighbour.answer() == {"rounds": True, "wrong": 0}
    assert neighbour.close() == ""


@pytest.mark.parametrize(
    ("call", "seen"), [("clGetDeviceIDs", "OUT_OF_HOST_MEMORY"), ("clGetDeviceInfo", 0)], ids=["no list", "no answers"]
)
def test_a_platform_that_fails_hides_its_own_devices_only(node: OpenClNode, tmp_path: Path, call: str, seen: int | str) -> None:
    """The program gets the driver's error and the slice's device on the other platform, and one line says which it is."""
    node.place("a", share_ppm=500_000)
    with beside_a_neighbour(node):
        answer, errors = node.look("a", LIST, **platforms(tmp_path, ARC, fail=call))
    assert answer == {"Intel(R) OpenCL Graphics": seen, node.platform: 1}
    name = "mica simulated Intel(R) OpenCL Graphics"
    assert errors == f"mica: slice a: devices left out: platform {name}: {call}: error -6, allowed: none\n"


def test_a_program_without_any_platform_gets_the_loaders_error(node: OpenClNode, tmp_path: Path) -> None:
    """The loader asks no layer then, so there is nothing of ours to be seen."""
    node.place("a", share_ppm=500_000)
    with beside_a_neighbour(node):
        assert node.look("a", LIST, OCL_ICD_VENDORS=str(tmp_path / "nothing")) == ("PLATFORM_NOT_FOUND_KHR", "")


def test_a_driver_that_does_not_load_leaves_the_others(node: OpenClNode, tmp_path: Path) -> None:
    """A library that is not there, and a file that is none."""
    (tmp_path / "text.so").write_text("no library")
    folder = drivers_folder(tmp_path, "/nothing/lib.so", tmp_path / "text.so")
    node.place("a")
    assert node.look("a", LIST, OCL_ICD_VENDORS=str(folder)) == ({node.platform: 1}, "")


def test_one_buffer_too_large_is_refused_while_a_neighbour_computes(node: OpenClNode) -> None:
    """OpenCL's word for it, one line that says what was asked and what there is, and the program goes on computing."""
    node.place("a", vram_limit_bytes=MIB, share_ppm=500_000)
    code = """
over = refused(lambda: cl.Buffer(context, READ_WRITE, 2 << 20))
source = np.arange(1024, dtype=np.float32)
values = cl.Buffer(context, READ_WRITE | cl.mem_flags.COPY_HOST_PTR, hostbuf=source)
result = np.empty_like(source)
program.twice(queue, source.shape, None, values)
cl.enqueue_copy(queue, result, values)
answer(over=over, correct=bool((result == source * 2).all()))
"""
    with beside_a_neighbour(node):
        answer, errors = node.run("a", code)
    assert answer == {"over": "INVALID_BUFFER_SIZE", "correct": True}
    assert (
        errors
        == f"mica: slice a: memory refused: device {node.device}: 2097152 bytes asked for in one object, the slice has 1048576\n"
    )


def test_a_layer_named_twice_computes_what_it_did_beside_a_neighbour(node: OpenClNode) -> None:
    """It says so in one line, and answers once."""
    node.place("a", share_ppm=500_000)
    layer = node.environment("a")["OPENCL_LAYERS"]
    with beside_a_neighbour(node):
        answer, errors = node.look("a", LIST, OPENCL_LAYERS=f"{layer}:{layer}")
    assert answer == {node.platform: 1}
    assert errors == "mica: OPENCL_LAYERS: the layer is named 2 times, allowed: once; it answers once\n"


@pytest.mark.parametrize(
    ("fail", "line"),
    [
        ("clGetDeviceIDs", "platform mica simulated Intel(R) OpenCL Graphics: clGetDeviceIDs: -6; it is left out\n"),
        ("clGetDeviceInfo", "device without a name: clGetDeviceInfo(0x1000): -6; it is left out\n"),
    ],
)
def test_discovery_leaves_out_what_fails_and_lists_the_rest(tmp_path: Path, fail: str, line: str) -> None:
    """One line with the call and its error; the processor is there."""
    found, errors = discovered(MICA_OPENCL="cpu", **platforms(tmp_path, ARC, fail=fail))
    assert [device.vendor for device in found] == ["cpu"]
    assert errors.endswith(line)
    assert errors.count("\n") == 1


def test_discovery_outlives_a_driver_that_crashes(tmp_path: Path) -> None:
    """It is asked in a process of its own."""
    found, errors = discovered(**platforms(tmp_path, ARC, fail="crash"))
    assert found == ()
    assert errors == "opencl is left out: OpenCL's drivers (0.icd): asking them ended by signal 6\n"


def test_discovery_says_which_driver_does_not_load(tmp_path: Path) -> None:
    """Beside others it is left out; alone it is why there is no platform."""
    folder = str(drivers_folder(tmp_path, "/nothing/lib.so"))
    found, errors = discovered(MICA_OPENCL="cpu", OCL_ICD_VENDORS=folder)
    assert [device.vendor for device in found] == ["cpu"]
    assert errors.startswith("driver 0.icd: /nothing/lib.so: cannot open shared object file")
    assert errors.count("\n") == 1
    found, errors = discovered(OCL_ICD_VENDORS=folder)
    assert found == ()
    assert errors.startswith("opencl is left out: no OpenCL platform, though drivers are installed: driver 0.icd: /nothing")
    assert errors.count("\n") == 1


def test_discovery_without_any_driver_is_silent_unless_it_was_asked_for_processors(tmp_path: Path) -> None:
    """A machine without OpenCL is no fault; a switch that can't be followed is one."""
    nothing = str(tmp_path / "nothing")
    assert discovered(OCL_ICD_VENDORS=nothing) == ((), "")
    found, errors = discovered(MICA_OPENCL="cpu", OCL_ICD_VENDORS=nothing)
    assert found == ()
    assert errors.startswith(f"opencl is left out: MICA_OPENCL=cpu: no OpenCL driver in {nothing}")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "environment", "line"),
    [
        (["--opencl"], {"OCL_ICD_VENDORS": "/nothing"}, "--opencl: no OpenCL driver is installed; pip install 'mica[opencl]'"),
        (["--real"], {"MICA_OPENCL": "gpu"}, "MICA_OPENCL: got 'gpu', allowed: cpu, off, or nothing"),
    ],
    ids=["no driver", "no such switch"],
)
def test_mica_up_says_at_once_what_is_wrong(tmp_path: Path, options: list[str], environment: dict[str, str], line: str) -> None:
    """Nothing is started, and one line says why."""
    command = [sys.executable, "-m", "mica.cli", "up", *options, "--port", "0"]
    command += ["--runtime-dir", str(tmp_path / "run"), "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.strip().endswith(line)
    assert done.stderr.count("\n") == 1
