"""A device that only OpenCL lists goes through the whole system: found, asked for by its vendor, and held to its slice."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from acceptance_stack import Stack, new_home

from mica.native import sim_opencl

MIB = 1 << 20
ARC = """
platform Intel(R) OpenCL Graphics
vendor Intel(R) Corporation
device Intel(R) Arc(TM) A770
vendor_id 0x8086
memory 17179869184
units 512
uuid 868680a0560800000300000000000000
"""
LOOK = """
import json, pyopencl as cl
devices = [device for platform in cl.get_platforms() for device in platform.get_devices()]
context = cl.Context(devices)
def attempt(size):
    try:
        return bool(cl.Buffer(context, cl.mem_flags.READ_WRITE, size))
    except cl.Error as error:
        return cl.status_code.to_string(error.code)
print(json.dumps([[(device.name, device.global_mem_size) for device in devices], attempt(64 << 20), attempt(65 << 20)]))
"""


def test_a_slice_of_an_intel_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is simulated and says so; a program of its slice sees it as large as the slice, and no other device."""
    (tmp_path / "platforms").write_text(ARC)
    (tmp_path / "arc.icd").write_text(str(sim_opencl()))
    monkeypatch.setenv("MICA_SIM_OPENCL", str(tmp_path / "platforms"))
    monkeypatch.setenv("OCL_ICD_VENDORS", str(tmp_path))
    home = new_home()
    stack = Stack(home)
    try:
        stack.start("--opencl", "--port", "0")
        (arc,) = (device for device in stack.json("devices") if device["vendor"] == "intel")
        assert (arc["id"], arc["simulated"]) == ("GPU-868680a0-5608-0000-0300-000000000000", True)
        granted = stack.request("arc", "64MiB", "--vendor", "intel", "--runtime", "opencl")
        assert granted["type"] == "slice.ready", granted
        command = [sys.executable, "-m", "mica.cli", "run", "arc", "--", sys.executable, "-c", LOOK]
        done = subprocess.run(command, env=stack.environment, capture_output=True, text=True, timeout=60, check=True)
        assert json.loads(done.stdout) == [[["Intel(R) Arc(TM) A770", 64 * MIB]], True, "INVALID_BUFFER_SIZE"]
        assert done.stderr.count("\n") == 1
        stack.audit()
    finally:
        stack.close()
        shutil.rmtree(home, ignore_errors=True)
