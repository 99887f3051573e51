"""A slice with a part of the device to itself: a sub-device, which its programs take for the device.

PoCL runs what is on a sub-device on those of its threads that are the sub-device's units, so that a program can say on which
units its work ran. It is told here to have four of them, however many processors the machine has.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opencl_node import MIB, OpenClNode, Program

from mica.region import Spatial

Eventually = Callable[[Callable[[], bool]], None]

UNITS = {"POCL_MAX_PTHREAD_COUNT": "4"}

WORK = """
import os
from pathlib import Path

threads = sorted(int(name) for name in os.listdir("/proc/self/task"))[-4:]  # PoCL's, in the order of its units

def ran_ns():
    return [int(Path(f"/proc/self/task/{thread}/schedstat").read_text().split()[0]) for thread in threads]

def units_used(on, rounds=300000):
    values = cl.Buffer(context, READ_WRITE, 4096 * 4)
    cl.enqueue_fill_buffer(on, values, np.float32(1), 0, 4096 * 4)
    on.finish()
    before = ran_ns()
    kernel = cl.Kernel(program, "spin")
    kernel.set_args(values, np.int32(rounds))
    for _ in range(3):
        cl.enqueue_nd_range_kernel(on, kernel, (512,), (1,))
        on.finish()
    ran = [after - since for after, since in zip(ran_ns(), before)]
    return [unit for unit, ns in enumerate(ran) if ns > 0.05 * sum(ran)]

"""

REFUSING = """
#include <stdint.h>
#include <string.h>
#define ENTRY(name) void *name;
struct table {
#include "dispatch.def"
};
static struct table answers;
static int32_t refuse(void *device, const intptr_t *wanted, uint32_t room, void **devices, uint32_t *count)
{
    return -57; /* no driver's answer to this */
}
int32_t clGetLayerInfo(uint32_t what, size_t room, void *value, size_t *bytes)
{
    uint32_t version = 100;
    if (value != NULL) memcpy(value, what == 0x4241 ? (const void *)"no" : (const void *)&version, what == 0x4241 ? 3 : 4);
    if (bytes != NULL) *bytes = what == 0x4241 ? 3 : 4;
    return 0;
}
int32_t clInitLayer(uint32_t entries, const void *target, uint32_t *answered, const void **table)
{
    answers.clCreateSubDevices = refuse;
    *answered = sizeof answers / sizeof(void *);
    *table = &answers;
    return 0;
}
"""
SHIM = Path(__file__).resolve().parents[3] / "native" / "shim"


def part(units: int, first: int = 0) -> dict[str, Any]:
    """A record's words for that many of four units, and no turns."""
    share = {"share_ppm": units * 250_000, "ceiling_ppm": units * 250_000, "burst_ns": 10**12, "quantum_ns": 0}
    return share | {
        "spatial_kind": Spatial.SUBDEVICE,
        "spatial_ppm": units * 250_000,
        "spatial_offset_ppm": first * 250_000,
    }


@pytest.fixture
def refusing(tmp_path: Path) -> Path:
    """A layer below ours that refuses every partition."""
    source, library = tmp_path / "refusing.c", tmp_path / "refusing.so"
    source.write_text(REFUSING)
    subprocess.run(["cc", "-shared", "-fPIC", "-I", str(SHIM / "opencl"), "-o", library, source], check=True)
    return library


def test_a_part_shows_as_a_whole_device_wherever_a_program_looks(node: OpenClNode) -> None:
    """Its own units, no parent, and the same device in contexts, queues and programs; to release it ends nothing."""
    node.place("a", **part(1, 2))
    code = """
import ctypes
with open("/proc/self/maps") as maps:
    loader = ctypes.CDLL(next(line.split()[-1] for line in maps if "libOpenCL" in line))
for call in (loader.clRetainDevice, *[loader.clReleaseDevice] * 5):
    assert call(ctypes.c_void_p(device.int_ptr)) == 0
made = cl.Context(dev_type=cl.device_type.ALL)
listed = cl.get_platforms()[0].get_devices()
answer(units=device.max_compute_units, parent=device.parent_device,
       kind=device.partition_type, references=device.reference_count,
       same=[[one == device for one in many]
             for many in (listed, context.devices, made.devices, program.devices, [queue.device])])
"""
    answer, errors = node.run("a", code, **UNITS)
    whole, _ = node.run(None, "answer(kind=device.partition_type, references=device.reference_count)", **UNITS)
    assert answer == {"units": 1, "parent": None, "same": [[True]] * 5} | whole
    assert errors == ""


def test_two_parts_at_once_compute_on_their_own_units_what_they_should(node: OpenClNode) -> None:
    """Whatever the order in which they start, and beside each other; the bytes are those of a program in no slice."""
    code = (
        WORK
        + """
import hashlib
source = np.random.default_rng(1).random(4096, dtype=np.float32)
values = cl.Buffer(context, READ_WRITE, source.nbytes)
cl.enqueue_copy(queue, values, source)
program.spin(queue, source.shape, (64,), values, np.int32(1000))
cl.enqueue_copy(queue, source, values)
answer(digest=hashlib.sha256(source.tobytes()).hexdigest()); told()
answer(units=units_used(queue))
"""
    )
    node.place("a", **part(1, 0))
    node.place("b", **part(2, 2))
    programs = [node.start(slice_id, code, **UNITS) for slice_id in (None, "b", "a")]
    plain, *digests = [program.answer()["digest"] for program in programs]
    assert digests == [plain, plain]
    for program in programs[1:]:
        program.tell()
    assert [program.answer()["units"] for program in programs[1:]] == [[2, 3], [0]]
    programs[0].tell()
    assert programs[0].answer()["units"] == [0, 1, 2, 3]


def test_what_a_program_makes_of_its_part_stays_inside(node: OpenClNode) -> None:
    """A part can be divided as a device can, by whoever has it."""
    node.place("a", **part(2, 2))
    code = (
        WORK
        + """
halves = device.create_sub_devices([cl.device_partition_property.BY_COUNTS, 1, 1])
context = cl.Context(halves)
program = cl.Program(context, SOURCE).build()
answer(units=[units_used(cl.CommandQueue(context, half)) for half in halves],
       parents=[half.parent_device == device for half in halves])
"""
    )
    answer, errors = node.run("a", code, **UNITS)
    assert answer == {"units": [[2], [3]], "parents": [True, True]}
    assert errors == ""


def test_memory_in_a_part_is_the_slices_to_the_byte(node: OpenClNode) -> None:
    """A part divides the units of a device and not its memory."""
    node.place("a", vram_limit_bytes=MIB + 1, **part(1))
    code = """
held = [cl.Buffer(context, READ_WRITE, 1 << 20), cl.Buffer(context, READ_WRITE, 1)]
answer(size=device.global_mem_size, refused=refused(lambda: cl.Buffer(context, READ_WRITE, 1))); told()
"""
    program = node.start("a", code, **UNITS)
    assert program.answer() == {"size": MIB + 1, "refused": "MEM_OBJECT_ALLOCATION_FAILURE"}
    assert node.held_bytes("a") == MIB + 1
    program.tell()
    program.close()


def test_a_part_has_no_images_where_the_driver_can_not_find_it_in_its_context(node: OpenClNode) -> None:
    """Any command on one would end the program in PoCL: the program is told so before it has made one."""
    node.place("a", **part(2))
    code = """
form = cl.ImageFormat(cl.channel_order.RGBA, cl.channel_type.FLOAT)
answer(support=bool(device.image_support),
       formats=len(cl.get_supported_image_formats(context, READ_WRITE, cl.mem_object_type.IMAGE2D)),
       refused=refused(lambda: cl.Image(context, READ_WRITE, form, shape=(8, 8))))
"""
    answer, _ = node.run("a", code, **UNITS)
    assert answer == {"support": False, "formats": 0, "refused": "INVALID_OPERATION"}
    assert node.held_bytes("a") == 0
    node.place("b", **part(4))
    answer, _ = node.run("b", code, **UNITS)
    assert answer == {"support": True, "formats": answer["formats"], "refused": ""}
    assert answer["formats"] > 0


TIMED = """
timed = cl.CommandQueue(context, properties=cl.command_queue_properties.PROFILING_ENABLE)
values = cl.Buffer(context, READ_WRITE, 4096 * 4)
kernel = cl.Kernel(program, "spin")
kernel.set_args(values, np.int32(5000))
answer(units=device.max_compute_units)
while told() != "end":
    events = [cl.enqueue_nd_range_kernel(timed, kernel, (4096,), (64,)) for _ in range(20)]
    timed.finish()
    answer(ns=sum(event.profile.end - event.profile.start for event in events))
"""


HALF = 0.5
"""A part of a quarter is told from the whole device on a busy machine, too, where kernels of one round take unequally long."""


def cost_of_a_round(node: OpenClNode, program: Program) -> float:
    """What slice ``a`` is charged for twenty kernels, by what the device says that they took.

    The first rounds tell what a kernel takes, and a machine that does not run the program meanwhile makes one wrong.
    """
    before = node.usage("a").gpu_ns
    program.tell("go")
    took: int = program.answer()["ns"]
    return (node.usage("a").gpu_ns - before) / took


def test_work_in_a_part_costs_that_part_of_its_time(node: OpenClNode, eventually: Eventually) -> None:
    """A quarter of the device for as long as it runs."""
    node.place("a", **part(1, 1))
    program = node.start("a", TIMED, **UNITS)
    assert program.answer() == {"units": 1}
    eventually(lambda: cost_of_a_round(node, program) == pytest.approx(0.25, rel=HALF))
    program.tell("end")
    assert program.close() == ""


def test_a_part_that_the_driver_refuses_is_said_once_and_the_rate_holds_the_share(
    node: OpenClNode, refusing: Path, eventually: Eventually
) -> None:
    """The program has the whole device, and pays for all of it."""
    node.place("a", **part(1))
    layers = f"{refusing}:{node.environment('a')['OPENCL_LAYERS']}"
    program = node.start("a", TIMED, OPENCL_LAYERS=layers, **UNITS)
    assert program.answer() == {"units": 4}
    eventually(lambda: cost_of_a_round(node, program) == pytest.approx(1, rel=HALF))
    program.tell("end")
    why = "clCreateSubDevices answered -57; the rate limit holds its share"
    assert program.close() == f"mica: device {node.device}: no part of its own for this slice: {why}\n"


def test_a_program_keeps_what_it_started_with(node: OpenClNode) -> None:
    """A device can not become smaller under a program: one from before the part has all of it, and pays for all of it."""
    node.place("a", share_ppm=250_000, burst_ns=10**12, quantum_ns=0)
    program = node.start("a", "answer(); told(); answer(units=cl.get_platforms()[0].get_devices()[0].max_compute_units)", **UNITS)
    program.answer()
    node.change("a", generation=2, **part(1))
    program.tell()
    assert program.answer() == {"units": 4}
    program.close()
    answer, _ = node.run("a", "answer(units=device.max_compute_units)", **UNITS)
    assert answer == {"units": 1}


FORK = """
import json, os, sys
import pyopencl as cl
early = os.fork()
devices = cl.get_platforms()[0].get_devices()
late = os.fork() if early else None
if late == 0:
    devices = cl.get_platforms()[0].get_devices()
seen = {"units": [device.max_compute_units for device in devices], "parents": [device.parent_device for device in devices]}
if early and late:
    for child in (early, late):
        assert os.waitpid(child, 0)[1] == 0
    print(json.dumps(seen))
else:
    os._exit(seen != {"units": [1], "parents": [None]})
"""


def test_a_forked_child_has_its_slices_part_like_its_parent(node: OpenClNode) -> None:
    """Before the parent has looked at its devices, and after it."""
    node.place("a", **part(1, 3))
    assert node.look("a", FORK, **UNITS) == ({"units": [1], "parents": [None]}, "")
