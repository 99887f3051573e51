"""A program written for numba-cuda, as its users write them; prints what it saw as JSON. Its argument: bytes that do not fit."""

import json
import sys
import warnings
from typing import Any

import numpy as np
from numba import cuda

warnings.simplefilter("ignore")  # that a grid of eight blocks uses the device badly is meant so
LAUNCHES = 5


@cuda.jit
def add(x: Any, y: Any, out: Any) -> None:
    """Add two arrays; the simulated driver takes the time for it and computes nothing."""
    i = cuda.grid(1)
    if i < x.size:
        out[i] = x[i] + y[i]


def too_large(size_bytes: int) -> str:
    """The error for an array that does not fit."""
    try:
        cuda.device_array(size_bytes, dtype=np.uint8)
    except Exception as error:  # noqa: BLE001 - the test judges it
        return f"{type(error).__name__}: {error}"
    return "it was allocated"


def main() -> None:
    """Arrays, kernels, streams, events, and other kinds of memory."""
    total = cuda.current_context().get_memory_info().total
    x = np.arange(1000, dtype=np.float32)
    on_device = cuda.to_device(x)
    out = cuda.device_array_like(on_device)
    stream, before, after = cuda.stream(), cuda.event(), cuda.event()
    before.record(stream)
    for _ in range(LAUNCHES):
        add[8, 128, stream](on_device, on_device, out)
    after.record(stream)
    stream.synchronize()
    managed, pinned = cuda.managed_array(16), cuda.pinned_array(16)
    managed[:] = 3
    pinned[:] = 4
    seen = {
        "device": str(cuda.get_current_device().name),
        "total": total,
        "round_trip": bool(np.array_equal(on_device.copy_to_host(), x)),
        "elapsed_ms": cuda.event_elapsed_time(before, after),
        "launches": LAUNCHES,
        "managed": float(managed[15]),
        "pinned": float(pinned[15]),
        "too_large": too_large(int(sys.argv[1])),
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
