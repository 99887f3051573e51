"""What a program of a slice sees through the OpenCL layer: its own devices, as large as its slice; and nothing of the layer."""

from opencl_node import MIB, OpenClNode

LOOK = """
import json, pyopencl as cl
devices = []
for platform in cl.get_platforms():
    devices += platform.get_devices()
try:
    made = cl.Context(dev_type=cl.device_type.ALL)
except cl.Error as error:
    made = cl.status_code.to_string(error.code)
print(json.dumps({"devices": len(devices), "context": str(made)}))
"""


def test_the_slice_shows_as_the_whole_device(node: OpenClNode) -> None:
    """Memory, and the largest object, are the slice's."""
    node.place("a", vram_limit_bytes=48 * MIB)
    answer, errors = node.run("a", "answer(size=device.global_mem_size, largest=device.max_mem_alloc_size, name=device.name)")
    assert answer == {"size": 48 * MIB, "largest": 48 * MIB, "name": node.name}
    assert errors == ""


def test_a_device_that_is_not_the_slices_is_not_there(node: OpenClNode) -> None:
    """A slice of another device has none of this machine's."""
    node.place("a", device="OCL-0000000000000000")
    assert node.look("a", LOOK) == ({"devices": 0, "context": "DEVICE_NOT_FOUND"}, "")


def test_a_context_from_a_type_has_the_slices_devices_only(node: OpenClNode) -> None:
    """``clCreateContextFromType`` asks for no device by name."""
    node.place("a")
    code = "made = cl.Context(dev_type=cl.device_type.ALL); answer(devices=[d.name for d in made.devices])"
    answer, _ = node.run("a", code)
    assert answer == {"devices": [node.name]}


def test_outside_a_slice_everything_is_as_without_the_layer(node: OpenClNode) -> None:
    """The layer is there, and the program in no slice."""
    plain, _ = node.run(None, "answer(size=device.global_mem_size, flags=queue.properties)", OPENCL_LAYERS="")
    layered, errors = node.run(None, "answer(size=device.global_mem_size, flags=queue.properties)")
    assert layered == plain
    assert errors == ""


def test_a_slice_without_a_record_has_no_device_and_says_why_in_one_line(node: OpenClNode) -> None:
    """Nothing is known of its limits: by default it is refused."""
    node.place("a")
    node.clear("a")
    answer, errors = node.look("a", LOOK)
    assert answer == {"devices": 0, "context": "DEVICE_NOT_FOUND"}
    assert errors.startswith("mica: slice a: attach refused: ")
    assert errors.endswith("no live record of this slice\n")
    assert errors.count("\n") == 1


def test_the_policy_may_let_a_slice_without_a_record_pass(node: OpenClNode) -> None:
    """Then the program has the device as it is, and the line says that it is not enforced."""
    node.place("a")
    node.clear("a")
    answer, errors = node.look("a", LOOK, MICA_ON_FAULT="pass")
    assert answer["devices"] == 1
    assert errors.startswith("mica: slice a: not enforced: ")


def test_a_layer_that_is_named_twice_charges_once_and_says_so_in_one_line(node: OpenClNode) -> None:
    """The second one hands on, whether the loader asks it or not."""
    node.place("a")
    layer = node.environment("a")["OPENCL_LAYERS"]
    code = "held = cl.Buffer(context, READ_WRITE, 1 << 20); answer(); told()"
    program = node.start("a", code, OPENCL_LAYERS=f"{layer}:{layer}")
    program.answer()
    assert node.held_bytes("a") == MIB
    program.tell()
    assert program.close() == "mica: OPENCL_LAYERS: the layer is named 2 times, allowed: once; it answers once\n"


def test_a_program_does_not_see_that_its_queues_are_timed(node: OpenClNode) -> None:
    """Profiling is the layer's: it shows to programs that asked for it, and to no others."""
    node.place("a")
    code = """
timed = cl.CommandQueue(context, properties=cl.command_queue_properties.PROFILING_ENABLE)
values = cl.Buffer(context, READ_WRITE, 4096)
kernel = cl.Kernel(program, "twice")
kernel.set_args(values)
plain_event = cl.enqueue_nd_range_kernel(queue, kernel, (1024,), None)
timed_event = cl.enqueue_nd_range_kernel(timed, kernel, (1024,), None)
plain_event.wait(); timed_event.wait()
answer(plain=queue.properties, timed=timed.properties, refused=refused(lambda: plain_event.profile.start),
       ordered=timed_event.profile.start < timed_event.profile.end)
"""
    answer, _ = node.run("a", code)
    assert answer == {"plain": 0, "timed": 2, "refused": "PROFILING_INFO_NOT_AVAILABLE", "ordered": True}
