"""This machine's own OpenCL device, regions as an enforcer would make them, and unmodified PyOpenCL programs under the layer."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from slice_regions import SliceRegions

from mica.native import opencl_layer
from mica.vendors.opencl import device_id

MIB: Final = 1 << 20
NODE: Final = "opencltest"

LIST: Final = """
import json, pyopencl as cl
print(json.dumps([(p.name, d.name) for p in cl.get_platforms() for d in p.get_devices()]))
"""
BEGIN: Final = """
import gc, json, sys
import numpy as np
import pyopencl as cl

READ_WRITE = cl.mem_flags.READ_WRITE
context = cl.Context(cl.get_platforms()[0].get_devices())
device = context.devices[0]
queue = cl.CommandQueue(context)
SOURCE = '''
kernel void twice(global float *values) { values[get_global_id(0)] *= 2; }
kernel void spin(global float *values, int rounds)
{
    float value = values[get_global_id(0)];
    for (int i = 0; i < rounds; i++)
        value = value * 0.999f + 0.5f;
    values[get_global_id(0)] = value;
}
'''
program = cl.Program(context, SOURCE).build()

def refused(make):
    try:
        make()
    except cl.Error as error:
        return cl.status_code.to_string(error.code)
    return ""

def answer(**values):
    print(json.dumps(values), flush=True)

def told():
    return sys.stdin.readline().strip()

"""


class Program:
    """A running program, which answers in lines of JSON and goes on when it is told to."""

    def __init__(self, code: str, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", BEGIN + code],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def answer(self) -> Any:
        """Its next answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the program died: {self.process.wait()}, {self.process.stderr.read() if self.process.stderr else ''}"
        return json.loads(line)

    def tell(self, word: str = "") -> None:
        """Let it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def close(self) -> str:
        """Let it end; what it wrote on stderr."""
        _, errors = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, errors
        return errors


class OpenClNode(SliceRegions):
    """This machine's first OpenCL device, and slices on it: 64 MiB, all of its compute, in turns of 2 ms."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        listed = subprocess.run([sys.executable, "-c", LIST], capture_output=True, text=True, check=True)
        (self.platform, self.name), *_ = json.loads(listed.stdout)
        device = device_id(NODE, self.platform, self.name, 0)
        super().__init__(
            root / "run", stack, device, {"vram_limit_bytes": 64 * MIB, "ceiling_ppm": 1_000_000, "quantum_ns": 2_000_000}
        )
        self.programs: list[Program] = []

    def held_bytes(self, slice_id: str) -> int:
        """Device memory that the slice's processes hold."""
        return sum(process.vram_bytes for process in self.usage(slice_id).processes)

    def environment(self, slice_id: str | None, **more: str) -> dict[str, str]:
        """What a program of a slice is started with; None: one of no slice, with the layer all the same."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("MICA_", "OPENCL_"))}
        plain["OPENCL_LAYERS"] = str(opencl_layer())
        if slice_id is not None:
            plain |= {"MICA_SLICE": slice_id, "MICA_RUNTIME_DIR": str(self.runtime.root), "MICA_NODE": NODE}
        return plain | more

    def start(self, slice_id: str | None, code: str, **more: str) -> Program:
        """Start a program in a slice."""
        program = Program(code, self.environment(slice_id, **more))
        self.programs.append(program)
        return program

    def run(self, slice_id: str | None, code: str, **more: str) -> tuple[Any, str]:
        """Run a program that answers once; its answer, and what it wrote on stderr."""
        program = self.start(slice_id, code, **more)
        answer = program.answer()
        return answer, program.close()

    def look(self, slice_id: str | None, code: str, **more: str) -> tuple[Any, str]:
        """Run a program that takes no device for granted; its answer, and what it wrote on stderr."""
        environment = self.environment(slice_id, **more)
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        return json.loads(done.stdout), done.stderr
