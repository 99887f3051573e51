"""A tenant for ``mica bench footprint``: allocates, and says how much memory its process has.

Plain ctypes over ``libcuda.so.1``, so that the process holds as little else as possible.
"""

import ctypes
import json
import sys
from pathlib import Path

ALLOCATION_BYTES = 4096


def resident_bytes() -> int:
    """Resident memory of this process: its own, and what it maps of files.

    Pages of a tmpfs are left out: they are the simulated node's state, which a real driver does not have, and the regions, which
    all processes share.
    """
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return sum(int(words[1]) * 1024 for words in lines if words and words[0] in ("RssAnon:", "RssFile:"))


def main(allocations: int) -> None:
    """Init, measure, allocate, measure, free."""
    cuda = ctypes.CDLL("libcuda.so.1")
    device, context = ctypes.c_int(), ctypes.c_void_p()
    pointers = (ctypes.c_uint64 * allocations)()
    size = ctypes.c_size_t(ALLOCATION_BYTES)
    for index in range(allocations):
        pointers[index] = 1
    for code in (
        cuda.cuInit(0),
        cuda.cuDeviceGet(ctypes.byref(device), 0),
        cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device),
        cuda.cuCtxSetCurrent(context),
    ):
        assert code == 0, f"CUDA error {code}"
    after_init = resident_bytes()
    for index in range(allocations):
        code = cuda.cuMemAlloc_v2(ctypes.byref(pointers, index * 8), size)
        assert code == 0, f"CUDA error {code} at allocation {index}"
    grown = resident_bytes() - after_init
    for pointer in pointers:
        cuda.cuMemFree_v2(ctypes.c_uint64(pointer))
    print(json.dumps({"after_init_bytes": after_init, "grown_bytes": grown}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
