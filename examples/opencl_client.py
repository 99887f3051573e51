"""An ordinary OpenCL program: real kernels on the first device there is, and results that are checked against NumPy.

    mica run SLICE -- python examples/opencl_client.py [matrix|sum|blur] [SECONDS]

It knows nothing of mica. It says in one line of JSON what it saw and did.
"""

import json
import sys
import time

import numpy as np
import pyopencl as cl
import pyopencl.array

SIDE = 256
SOURCE = """
kernel void multiply(global const float *a, global const float *b, global float *c, int side)
{
    int column = get_global_id(0), row = get_global_id(1);
    float sum = 0;
    for (int i = 0; i < side; i++)
        sum += a[row * side + i] * b[i * side + column];
    c[row * side + column] = sum;
}

kernel void blur(read_only image2d_t from, global float *to, int side)
{
    const sampler_t clamped = CLK_NORMALIZED_COORDS_FALSE | CLK_ADDRESS_CLAMP_TO_EDGE | CLK_FILTER_NEAREST;
    int x = get_global_id(0), y = get_global_id(1);
    float sum = 0;
    for (int dy = -1; dy <= 1; dy++)
        for (int dx = -1; dx <= 1; dx++)
            sum += read_imagef(from, clamped, (int2)(x + dx, y + dy)).x;
    to[y * side + x] = sum / 9;
}
"""


def matrix(queue: cl.CommandQueue, program: cl.Program, values: np.ndarray) -> bool:
    """A matrix times its transpose."""
    a, b = cl.array.to_device(queue, values), cl.array.to_device(queue, values.T.copy())
    c = cl.array.empty_like(a)
    cl.Kernel(program, "multiply")(queue, values.shape, None, a.data, b.data, c.data, np.int32(SIDE))
    return bool(np.allclose(c.get(), values @ values.T, rtol=1e-4))


def total(queue: cl.CommandQueue, _program: cl.Program, values: np.ndarray) -> bool:
    """A sum of all elements, by PyOpenCL's own reduction."""
    return bool(np.isclose(cl.array.sum(cl.array.to_device(queue, values)).get(), values.sum(dtype=np.float64), rtol=1e-4))


def blur(queue: cl.CommandQueue, program: cl.Program, values: np.ndarray) -> bool:
    """A box filter of nine pixels, edges repeated."""
    image = cl.image_from_array(queue.context, values, 1)
    out = cl.array.empty(queue, values.shape, np.float32)
    cl.Kernel(program, "blur")(queue, values.shape[::-1], None, image, out.data, np.int32(SIDE))
    padded = np.pad(values, 1, mode="edge")
    expected = sum(padded[y : y + SIDE, x : x + SIDE] for y in range(3) for x in range(3)) / 9
    return bool(np.allclose(out.get(), expected, rtol=1e-4))


WORKS = {"matrix": matrix, "sum": total, "blur": blur}


def main() -> int:
    """Work for so many seconds, at least once."""
    work = sys.argv[1] if len(sys.argv) > 1 else "matrix"
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    if work not in WORKS:
        print(f"opencl_client: {work!r} is none of {', '.join(WORKS)}", file=sys.stderr)
        return 2
    context = cl.Context(cl.get_platforms()[0].get_devices())
    device, queue = context.devices[0], cl.CommandQueue(context)
    program = cl.Program(context, SOURCE).build()
    values = np.random.default_rng(7).random((SIDE, SIDE), dtype=np.float32)
    correct, rounds, end = True, 0, time.monotonic() + seconds
    while rounds == 0 or time.monotonic() < end:
        correct &= WORKS[work](queue, program, values)
        rounds += 1
    said = {"work": work, "correct": correct, "rounds": rounds, "device": device.name, "memory_bytes": device.global_mem_size}
    print(json.dumps(said), flush=True)
    return 0 if correct else 1


if __name__ == "__main__":
    sys.exit(main())
