"""Programs for numba-cuda and cuda-core, unmodified, with kernels that they compile: on the driver alone, and in a slice."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from shim_node import GIB, Node

PROGRAMS = {name: Path(__file__).with_name(f"library_{name}.py") for name in ("numba", "cuda_core")}
OUT_OF_MEMORY = {
    "numba": "CudaAPIError: [<CUresult.CUDA_ERROR_OUT_OF_MEMORY: 2>] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY",
    "cuda_core": "CUDAError: CUDA_ERROR_OUT_OF_MEMORY",
}
KERNEL_NS = 22_000
"""What one launch costs on the simulated device: launch_ns + one wave of block_ns."""
DEVICE_BYTES = 25_769_803_776 - 536_870_912


def run(node: Node, name: str, slice_id: str | None, too_large_bytes: int) -> dict[str, Any]:
    """Run one of the programs; what it saw."""
    environment = node.environment(slice_id, shim=slice_id is not None)
    command = [sys.executable, str(PROGRAMS[name]), str(too_large_bytes)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_sees_in_a_slice_what_it_sees_on_a_device_of_that_size(node: Node, name: str) -> None:
    """Compiling, launching, copying, measuring and running out of memory are the same; only the size is the slice's."""
    node.describe(cuda_version=13_050)
    bare = run(node, name, None, DEVICE_BYTES)
    node.place("a", burst_ns=10**12)
    inside = run(node, name, "a", GIB)
    assert (bare.pop("total"), inside.pop("total")) == (DEVICE_BYTES, GIB)
    assert bare.pop("elapsed_ms") >= 3 * KERNEL_NS / 1e6
    assert inside.pop("elapsed_ms") >= 3 * KERNEL_NS / 1e6
    assert bare == inside
    assert inside["too_large"] == OUT_OF_MEMORY[name]
    assert node.usage("a").launches == inside["launches"]
    assert node.usage("a").refusals >= 1  # numba frees what it holds back, and tries again
