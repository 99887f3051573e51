"""Memory under the OpenCL layer: charged to the byte before the device is asked, and given back when the object really dies."""

from collections.abc import Callable

from opencl_node import MIB, OpenClNode

from mica.events import Control

Eventually = Callable[[Callable[[], bool]], None]


def test_a_slice_gets_its_memory_to_the_byte(node: OpenClNode) -> None:
    """The last byte is granted, the one after it is not, and what was released is there again."""
    node.place("a", vram_limit_bytes=8 * MIB + 4097)
    code = """
first = cl.Buffer(context, READ_WRITE, 8 << 20)
over = refused(lambda: cl.Buffer(context, READ_WRITE, 4098))
last = cl.Buffer(context, READ_WRITE, 4097)
none = refused(lambda: cl.Buffer(context, READ_WRITE, 1))
answer(over=over, none=none)
told()
last.release()
answer(again=refused(lambda: cl.Buffer(context, READ_WRITE, 4097).release()))
told()
"""
    program = node.start("a", code)
    assert program.answer() == {"over": "MEM_OBJECT_ALLOCATION_FAILURE", "none": "MEM_OBJECT_ALLOCATION_FAILURE"}
    assert node.held_bytes("a") == 8 * MIB + 4097
    program.tell()
    assert program.answer() == {"again": ""}
    assert node.held_bytes("a") == 8 * MIB
    program.tell()
    assert program.close() == ""


def test_one_buffer_larger_than_the_slice_is_an_invalid_size_and_one_line(node: OpenClNode) -> None:
    """It could never be granted, and the program is told so in OpenCL's own words, and once in ours."""
    node.place("a", vram_limit_bytes=MIB)
    code = "errors = [refused(lambda: cl.Buffer(context, READ_WRITE, 2 << 20)) for _ in range(3)]; answer(errors=errors)"
    answer, errors = node.run("a", code)
    assert answer == {"errors": ["INVALID_BUFFER_SIZE"] * 3}
    assert (
        errors
        == f"mica: slice a: memory refused: device {node.device}: 2097152 bytes asked for in one object, the slice has 1048576\n"
    )
    assert node.held_bytes("a") == 0


def test_a_part_of_a_buffer_is_not_charged_and_keeps_its_whole(node: OpenClNode) -> None:
    """A sub-buffer is memory of the buffer, which lives as long as it does."""
    node.place("a")
    code = """
whole = cl.Buffer(context, READ_WRITE, 1 << 20)
part = whole.get_sub_region(0, 4096)
whole.release()
answer(); told()
part.release()
answer(); told()
"""
    program = node.start("a", code)
    program.answer()
    assert node.held_bytes("a") == MIB
    program.tell()
    program.answer()
    assert node.held_bytes("a") == 0
    program.tell()
    program.close()


def test_an_image_is_charged_what_the_device_says_it_takes(node: OpenClNode) -> None:
    """Of all the shapes that there are; an image of a buffer is that buffer's memory."""
    node.place("a")
    code = """
order, kind = cl.channel_order, cl.channel_type
formats = [cl.ImageFormat(*form) for form in ((order.RGBA, kind.FLOAT), (order.RGBA, kind.UNORM_INT8), (order.R, kind.FLOAT))]
supported = cl.get_supported_image_formats(context, READ_WRITE, cl.mem_object_type.IMAGE2D)
images = [cl.Image(context, READ_WRITE, form, shape=shape) for form in formats if form in supported
          for shape in ((100, 30), (64, 64), (16, 8, 4))]
answer(count=len(images), sizes=sum(image.size for image in images)); told()
for image in images: image.release()
answer(); told()
"""
    program = node.start("a", code)
    answer = program.answer()
    assert answer["count"] >= 3
    assert node.held_bytes("a") == answer["sizes"]
    program.tell()
    program.answer()
    assert node.held_bytes("a") == 0
    program.tell()
    program.close()


def test_shared_virtual_memory_is_charged_until_it_is_freed(node: OpenClNode) -> None:
    """At once, or in the order of a queue."""
    node.place("a", vram_limit_bytes=4 * MIB)
    code = """
from pyopencl import svm_mem_flags
allocations = [cl.SVMAllocation(context, 1 << 20, 0, svm_mem_flags.READ_WRITE) for _ in range(4)]
answer(over=refused(lambda: cl.SVMAllocation(context, 1, 0, svm_mem_flags.READ_WRITE))); told()
allocations.pop().release()
allocations.pop().enqueue_release(queue).wait()
queue.finish()
answer(); told()
"""
    program = node.start("a", code)
    assert program.answer()["over"] != ""
    assert node.held_bytes("a") == 4 * MIB
    program.tell()
    program.answer()
    assert node.held_bytes("a") == 2 * MIB
    program.tell()
    program.close()


def test_what_a_killed_program_held_is_in_its_slot_until_it_is_reclaimed(node: OpenClNode, eventually: Eventually) -> None:
    """Its neighbour in the slice goes on with what it has, and not with the dead one's."""
    node.place("a", vram_limit_bytes=4 * MIB)
    victim = node.start("a", "held = cl.Buffer(context, READ_WRITE, 3 << 20); answer(); told()")
    victim.answer()
    victim.process.kill()
    victim.process.wait()
    answer, _ = node.run("a", "answer(refused=refused(lambda: cl.Buffer(context, READ_WRITE, 2 << 20)))")
    assert answer == {"refused": "MEM_OBJECT_ALLOCATION_FAILURE"}
    eventually(lambda: node.held_bytes("a") == 3 * MIB)


def test_a_draining_slice_gets_nothing_more_and_keeps_what_it_has(node: OpenClNode) -> None:
    """The state of its record holds for the next call."""
    node.place("a")
    code = """
held = cl.Buffer(context, READ_WRITE, 1 << 20)
answer(); told()
answer(refused=refused(lambda: cl.Buffer(context, READ_WRITE, 1)))
"""
    program = node.start("a", code)
    program.answer()
    node.change("a", generation=2, control=Control.DRAIN)
    program.tell()
    assert program.answer() == {"refused": "MEM_OBJECT_ALLOCATION_FAILURE"}
    program.close()
