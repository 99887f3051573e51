"""Programs that none of us wrote: PyOpenCL's own tests and examples give the same results inside a slice as outside.

They come from its source distribution (scripts/fetch_pyopencl.sh). Some run with every `make test`, more with `make proofs`.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from opencl_node import OpenClNode

from mica.region import Spatial

SOURCES = Path(__file__).resolve().parents[3] / "build" / "sources" / "pyopencl"
GIB = 1 << 30
SUITES = ["test_wrapper", "test_enqueue_copy", "test_arrays_in_structs"]
LONG_SUITES = ["test_clmath", "test_clrandom"]
"""Not test_array, in whose course PoCL 3.0 crashes outside a slice, too; nor test_algorithm, which compiles for five minutes."""
EXAMPLES = ["demo", "demo_array", "demo_elementwise", "demo-struct-reduce", "demo_meta_template", "narray", "svm"]
"""Those that need no screen and say the same at every run."""

KNOWN: dict[str, dict[str, str]] = {}

if os.environ.get("MICA_LONG_TESTS"):
    SUITES += LONG_SUITES


@pytest.fixture
def roomy(node: OpenClNode) -> OpenClNode:
    """A slice of 6 GiB with all of the compute, in turns."""
    if not SOURCES.is_dir():
        pytest.fail(f"{SOURCES} is not there; run `make sources`")
    node.place("own", vram_limit_bytes=6 * GIB)
    return node


def run(node: OpenClNode, slice_id: str | None, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run it in its own folder, so that it finds the installed PyOpenCL; outside a slice without the layer."""
    environment = node.environment(slice_id) if slice_id else node.environment(None, OPENCL_LAYERS="")
    return subprocess.run(
        [sys.executable, *command], env=environment, cwd=SOURCES, capture_output=True, text=True, timeout=600, check=False
    )


def outcomes(node: OpenClNode, slice_id: str | None, suite: str) -> dict[str, str]:
    """What became of each of a suite's tests."""
    options = ["-p", "no:cacheprovider", "-p", "no:asyncio", "-q", "-rA", "--rootdir", str(SOURCES), "-c", os.devnull]
    done = run(node, slice_id, ["-m", "pytest", *options, f"test/{suite}.py"])
    found = re.findall(r"^(PASSED|FAILED|ERROR|XFAIL|XPASS) \S*?::(.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr
    return {name: outcome for outcome, name in found}


def outcomes_outside(node: OpenClNode, suite: str) -> dict[str, str]:
    """The same outside of every slice, where they end alike at every run."""
    if suite not in KNOWN:
        KNOWN[suite] = outcomes(node, None, suite)
    return KNOWN[suite]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("suite", SUITES)
def test_its_own_tests_end_as_they_do_outside(roomy: OpenClNode, suite: str) -> None:
    """Test by test."""
    outside = outcomes_outside(roomy, suite)
    inside = outcomes(roomy, "own", suite)
    assert "PASSED" in inside.values()
    assert inside == outside
    assert roomy.usage("own").launches > 0


@pytest.mark.timeout(300)
def test_its_own_tests_end_in_a_part_as_they_do_outside(roomy: OpenClNode) -> None:
    """But for those that need images, which PoCL has not there."""
    half = {"spatial_kind": Spatial.SUBDEVICE, "spatial_ppm": 500_000, "spatial_offset_ppm": 500_000, "quantum_ns": 0}
    roomy.place("half", vram_limit_bytes=6 * GIB, share_ppm=500_000, ceiling_ppm=500_000, **half)
    outside, inside = outcomes_outside(roomy, SUITES[0]), outcomes(roomy, "half", SUITES[0])
    assert inside.items() <= outside.items()
    assert {name for name in outside.keys() - inside.keys() if "image" not in name and "enqueue_copy_array" not in name} == set()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("example", EXAMPLES)
def test_its_examples_say_what_they_say_outside(roomy: OpenClNode, example: str) -> None:
    """Status and output."""
    outside = run(roomy, None, [f"examples/{example}.py"])
    inside = run(roomy, "own", [f"examples/{example}.py"])
    assert outside.returncode == 0, outside.stderr
    assert (inside.returncode, inside.stdout) == (0, outside.stdout), inside.stderr
    assert roomy.usage("own").launches > 0
