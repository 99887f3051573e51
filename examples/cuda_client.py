"""A program that uses a CUDA device, and knows nothing of mica. It needs the cuda-bindings package.

    mica run SLICE -- python examples/cuda_client.py

It takes one command a line and answers each with one line of JSON:

    look            what the driver says of device 0: name, total and free memory
    allocate BYTES  take device memory
    free            give all of it back
    flood SECONDS   launch kernels without a pause
    quit
"""

import ctypes
import json
import os
import sys
import time
from typing import Any

from cuda.bindings import driver as cuda

# Every thread counts up for a while. Any kernel would do: what matters is that the device is busy.
PTX = b"""
.version 7.0
.target sm_50
.address_size 64
.visible .entry spin(.param .u32 rounds)
{
    .reg .u32 %r<3>;
    .reg .pred %p;
    ld.param.u32 %r1, [rounds];
    mov.u32 %r2, 0;
loop:
    add.u32 %r2, %r2, 1;
    setp.lt.u32 %p, %r2, %r1;
    @%p bra loop;
    ret;
}
"""
BLOCKS, THREADS = 4096, 256
QUEUE = 8


def check(result: tuple[Any, ...]) -> Any:
    """The values of a driver call; an error ends the program."""
    error, *values = result
    if error != cuda.CUresult.CUDA_SUCCESS:
        raise SystemExit(f"{error.name}")
    return values[0] if len(values) == 1 else values


class Client:
    """One process on device 0."""

    def __init__(self) -> None:
        check(cuda.cuInit(0))
        self.device = check(cuda.cuDeviceGet(0))
        self.context = check(cuda.cuDevicePrimaryCtxRetain(self.device))
        check(cuda.cuCtxSetCurrent(self.context))
        self.allocations: list[Any] = []

    def look(self) -> dict[str, Any]:
        """What the driver says of the device."""
        free, total = check(cuda.cuMemGetInfo())
        name = check(cuda.cuDeviceGetName(96, self.device)).split(b"\0")[0].decode()
        whole = check(cuda.cuDeviceTotalMem(self.device))
        return {"device": name, "total_bytes": total, "device_bytes": whole, "free_bytes": free, "pid": os.getpid()}

    def allocate(self, size: str) -> dict[str, Any]:
        """Take memory, if the driver gives it."""
        error, pointer = cuda.cuMemAlloc(int(size))
        if error == cuda.CUresult.CUDA_SUCCESS:
            self.allocations.append(pointer)
        return {"result": error.name, "free_bytes": check(cuda.cuMemGetInfo())[0]}

    def free(self) -> dict[str, Any]:
        """Give all memory back."""
        for pointer in self.allocations:
            check(cuda.cuMemFree(pointer))
        self.allocations.clear()
        return {"free_bytes": check(cuda.cuMemGetInfo())[0]}

    def flood(self, seconds: str) -> dict[str, Any]:
        """Keep the device busy, with a few launches always queued."""
        module = check(cuda.cuModuleLoadData(PTX))
        kernel = check(cuda.cuModuleGetFunction(module, b"spin"))
        stream = check(cuda.cuStreamCreate(0))
        arguments = ((1000,), (ctypes.c_uint32,))
        events = [check(cuda.cuEventCreate(0)) for _ in range(QUEUE)]
        launches, end = 0, time.monotonic() + float(seconds)
        while time.monotonic() < end:
            event = events[launches % QUEUE]
            check(cuda.cuEventSynchronize(event))
            check(cuda.cuLaunchKernel(kernel, BLOCKS, 1, 1, THREADS, 1, 1, 0, stream, arguments, 0))
            check(cuda.cuEventRecord(event, stream))
            launches += 1
        check(cuda.cuStreamSynchronize(stream))
        check(cuda.cuModuleUnload(module))
        return {"launches": launches}


def main() -> None:
    client = Client()
    print(json.dumps(client.look()), flush=True)
    for line in sys.stdin:
        command, *arguments = line.split() or ["look"]
        if command == "quit":
            return
        if command not in ("look", "allocate", "free", "flood"):
            print(json.dumps({"error": f"no such command: {command}"}), flush=True)
            continue
        print(json.dumps(getattr(client, command)(*arguments)), flush=True)


if __name__ == "__main__":
    main()
