"""Work under the OpenCL layer: it computes what it always did, it is counted and timed, and it waits for its slice's turn."""

from collections.abc import Callable

from opencl_node import OpenClNode

from mica.events import Control

Eventually = Callable[[Callable[[], bool]], None]

NEIGHBOUR = """
values = cl.Buffer(context, READ_WRITE, 4096)
for _ in range(50):
    program.twice(queue, (1024,), None, values)
queue.finish()
answer(done=True)
"""


def test_every_kind_of_command_computes_what_it_does_without_a_slice(node: OpenClNode) -> None:
    """Kernels, copies, fills, maps, images: the same bytes."""
    node.place("a")
    code = """
import hashlib
from array import array
rng = np.random.default_rng(1)
source = rng.random(4096, dtype=np.float32)
values = cl.Buffer(context, READ_WRITE, source.nbytes)
copy = cl.Buffer(context, READ_WRITE, source.nbytes)
cl.enqueue_copy(queue, values, source)
program.twice(queue, source.shape, None, values)
program.spin(queue, source.shape, (64,), values, np.int32(100))
cl.enqueue_copy(queue, copy, values)
cl.enqueue_fill_buffer(queue, values, np.float32(3), 0, 4096)
cl.enqueue_copy(queue, copy, values, byte_count=1024, src_offset=0, dst_offset=2048)
mapped, _ = cl.enqueue_map_buffer(queue, copy, cl.map_flags.READ | cl.map_flags.WRITE, 0, source.shape, source.dtype)
mapped[7] = 5
mapped.base.release(queue)
result = np.empty_like(source)
cl.enqueue_copy(queue, result, copy)
picture = rng.integers(0, 255, (32, 48, 4), dtype=np.uint8)
image = cl.image_from_array(context, picture, 4)
back = np.empty_like(picture)
cl.enqueue_copy(queue, back, image, origin=(0, 0), region=(48, 32))
rectangle = np.zeros((16, 16), dtype=np.float32)
cl.enqueue_copy(queue, rectangle, copy, buffer_origin=(0, 0), host_origin=(0, 0), region=(64, 16),
                buffer_pitches=(256,), host_pitches=(64,))
queue.finish()
answer(digest=hashlib.sha256(result.tobytes() + back.tobytes() + rectangle.tobytes()).hexdigest())
"""
    plain, _ = node.run(None, code, OPENCL_LAYERS="")
    governed, errors = node.run("a", code)
    assert governed == plain
    assert errors == ""
    assert node.usage("a").launches >= 9


def test_work_is_charged_the_devices_own_time(node: OpenClNode) -> None:
    """What is charged is what the device's profiling says that the commands took, and no wall time around them."""
    node.place("a")
    code = """
timed = cl.CommandQueue(context, properties=cl.command_queue_properties.PROFILING_ENABLE)
values = cl.Buffer(context, READ_WRITE, 4096 * 4)
kernel = cl.Kernel(program, "spin")
kernel.set_args(values, np.int32(2000))
events = [cl.enqueue_nd_range_kernel(timed, kernel, (4096,), (64,)) for _ in range(20)]
timed.finish()
answer(ns=sum(event.profile.end - event.profile.start for event in events)); told()
"""
    program = node.start("a", code)
    took = program.answer()["ns"]
    usage = node.usage("a")
    assert usage.launches == 20
    assert 0.3 * took < usage.gpu_ns < 3 * took
    program.tell()
    program.close()


def test_a_paused_slice_waits_and_goes_on(node: OpenClNode, eventually: Eventually) -> None:
    """The control word holds for the next command."""
    node.place("a")
    code = """
values = cl.Buffer(context, READ_WRITE, 4096)
answer(); told()
program.twice(queue, (1024,), None, values).wait()
answer(done=True)
"""
    program = node.start("a", code)
    program.answer()
    node.change("a", generation=2, control=Control.PAUSE)
    program.tell()
    eventually(lambda: node.usage("a").throttled_ns > 50_000_000)
    assert node.usage("a").launches == 0
    node.change("a", generation=3)
    assert program.answer() == {"done": True}
    program.close()


def test_a_killed_slice_can_enqueue_nothing(node: OpenClNode) -> None:
    """OpenCL's own error, not a crash."""
    node.place("a")
    code = """
values = cl.Buffer(context, READ_WRITE, 4096)
answer(); told()
answer(refused=refused(lambda: program.twice(queue, (1024,), None, values)))
"""
    program = node.start("a", code)
    program.answer()
    node.change("a", generation=2, control=Control.KILL)
    program.tell()
    assert program.answer() == {"refused": "OUT_OF_RESOURCES"}
    program.close()


def _in_flight(node: OpenClNode, slice_id: str) -> int:
    """What counts as submitted and not ended, of all the slice's processes."""
    return sum(process.inflight for process in node.usage(slice_id).processes)


def test_work_behind_an_event_of_the_program_holds_nobody_up(node: OpenClNode, eventually: Eventually) -> None:
    """A command that waits for the host is on no device: it is soon not counted there, and a neighbour's work goes on."""
    node.place("a", share_ppm=500_000)
    node.place("b", share_ppm=500_000)
    code = """
values = cl.Buffer(context, READ_WRITE, 4096)
gate = cl.UserEvent(context)
kernel = cl.Kernel(program, "twice")
kernel.set_args(values)
behind = cl.enqueue_nd_range_kernel(queue, kernel, (1024,), None, wait_for=[gate])
queue.flush()
answer(); told()
gate.set_status(cl.command_execution_status.COMPLETE)
behind.wait()
answer(done=True)
"""
    gated = node.start("a", code)
    gated.answer()
    eventually(lambda: _in_flight(node, "a") == 0)
    neighbour, _ = node.run("b", NEIGHBOUR)
    assert neighbour == {"done": True}
    gated.tell()
    assert gated.answer() == {"done": True}
    assert _in_flight(node, "a") == 0
    gated.close()


def test_a_callback_that_enqueues_does_not_wait_on_the_devices_thread(node: OpenClNode, eventually: Eventually) -> None:
    """It runs where the device's work runs: even while its slice is paused it is not held up, and it is charged afterwards."""
    node.place("a")
    code = """
import ctypes, threading
values = cl.Buffer(context, READ_WRITE, 4096)
kernel = cl.Kernel(program, "twice")
kernel.set_args(values)
gate = cl.UserEvent(context)
done = threading.Event()
with open("/proc/self/maps") as maps:
    loader = ctypes.CDLL(next(line.split()[-1] for line in maps if "libOpenCL" in line))
handle, size = ctypes.c_void_p, ctypes.c_size_t(1024)
results = []
def again(event, status, user):
    arguments = handle(queue.int_ptr), handle(kernel.int_ptr), 1, None, ctypes.byref(size), None, 0, None, None
    results.append(loader.clEnqueueNDRangeKernel(*arguments))
    loader.clFlush(handle(queue.int_ptr))
    done.set()
notify = ctypes.CFUNCTYPE(None, handle, ctypes.c_int, handle)(again)  # PyOpenCL's own callbacks run on a thread of the program's
first = cl.enqueue_nd_range_kernel(queue, kernel, (1024,), None, wait_for=[gate])
assert loader.clSetEventCallback(handle(first.int_ptr), 0, notify, None) == 0
queue.flush()
answer(); told()
threading.Thread(target=gate.set_status, args=(cl.command_execution_status.COMPLETE,), daemon=True).start()
answer(called=done.wait(10), results=results); told()
"""
    program = node.start("a", code)
    program.answer()
    node.change("a", generation=2, control=Control.PAUSE)
    program.tell()
    assert program.answer() == {"called": True, "results": [0]}
    eventually(lambda: node.usage("a").launches == 2)
    node.change("a", generation=3)
    program.tell()
    program.close()


def test_a_program_killed_in_the_middle_of_its_work_leaves_the_device_to_others(node: OpenClNode) -> None:
    """Nobody holds the device: what the dead one had put on it runs out by itself."""
    node.place("a", share_ppm=500_000)
    node.place("b", share_ppm=500_000)
    code = """
values = cl.Buffer(context, READ_WRITE, 4096 * 4)
kernel = cl.Kernel(program, "spin")
kernel.set_args(values, np.int32(200000))
for _ in range(4): cl.enqueue_nd_range_kernel(queue, kernel, (4096,), (64,))
queue.flush()
answer(); told()
"""
    victim = node.start("a", code)
    victim.answer()
    victim.process.kill()
    neighbour, _ = node.run("b", NEIGHBOUR)
    assert neighbour == {"done": True}
