"""A program written for cuda-core, as its users write them; prints what it saw as JSON. Its argument: bytes that do not fit."""

import json
import sys
from typing import Any

import numpy as np
from cuda.bindings import driver
from cuda.core import (
    Device,
    EventOptions,
    LaunchConfig,
    LegacyPinnedMemoryResource,
    Linker,
    LinkerOptions,
    Program,
    ProgramOptions,
    launch,
)

CODE = """
extern "C" __global__ void twice(float *x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] *= 2;
}
"""
LAUNCHES = 3
GRAPH_LAUNCHES = 2


def too_large(device: Any, stream: Any, size_bytes: int) -> str:
    """The error for a buffer that does not fit."""
    try:
        device.allocate(size_bytes, stream=stream)
    except Exception as error:  # noqa: BLE001 - the test judges it
        return f"{type(error).__name__}: {str(error).split(':')[0]}"
    return "it was allocated"


def compiled(arch: str, *, relocatable: bool = False) -> Any:
    """The kernel's code as PTX, or linked to a cubin."""
    code = Program(CODE, "c++", ProgramOptions(std="c++17", arch=arch, relocatable_device_code=relocatable)).compile("ptx")
    return Linker(code, options=LinkerOptions(arch=arch)).link("cubin") if relocatable else code


def captured(stream: Any, kernel: Any, buffer: Any) -> Any:
    """A graph of one launch."""
    builder = stream.device.create_graph_builder()
    builder.begin_building()
    launch(builder, LaunchConfig(grid=8, block=128), kernel, buffer, np.int32(1000))
    return builder.end_building().complete()


def main() -> None:
    """Compile, link, allocate, launch, capture, measure."""
    device = Device(0)
    device.set_current()
    stream = device.create_stream()
    arch = "sm_{}{}".format(*device.compute_capability)
    kernel = compiled(arch).get_kernel("twice")
    linked = compiled(arch, relocatable=True).get_kernel("twice")
    buffer = device.allocate(4096, stream=stream)
    timed = EventOptions(timing_enabled=True)
    before = stream.record(options=timed)
    for each in (kernel, linked, kernel):
        launch(stream, LaunchConfig(grid=8, block=128), each, buffer, np.int32(1000))
    after = stream.record(options=timed)
    graph = captured(stream, kernel, buffer)
    for _ in range(GRAPH_LAUNCHES):
        graph.launch(stream)
    host = LegacyPinnedMemoryResource().allocate(4096)
    buffer.copy_from(host, stream=stream)
    stream.sync()
    seen = {
        "device": device.name,
        "total": driver.cuMemGetInfo()[2],
        "elapsed_ms": after - before,
        "launches": LAUNCHES + GRAPH_LAUNCHES,
        "multiprocessors": device.properties.multiprocessor_count,
        "blocks": kernel.occupancy.max_active_blocks_per_multiprocessor(128, 0),
        "host": host.is_host_accessible,
        "too_large": too_large(device, stream, int(sys.argv[1])),
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
