"""A tenant's program for what peers' users complain of: every kind of launch, frees in any order, handles that are passed on.

The same protocol as shim_client.py, and the same real bindings. With CUDA_PYTHON_CUDA_PER_THREAD_DEFAULT_STREAM=1 the binding
asks for the `_ptsz` and `_ptds` variants of all it calls.
"""

import json
import random
import socket
import subprocess
import sys
from typing import Any

import shim_client
from cuda.bindings import driver
from shim_client import plain


class PeerTenant(shim_client.Tenant):
    """More calls of one program."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: dict[int, Any] = {}

    def launch_as(self, kind: str, count: int = 1) -> list[Any]:
        """Launch the kernel by one of the driver's calls; the last result."""
        result: tuple[Any, ...] = (0,)
        for _ in range(count):
            result = getattr(self, f"launch_{kind}")()
            if int(result[0]):
                break
        return [int(result[0])]

    def launch_kernel(self) -> tuple[Any, ...]:
        return driver.cuLaunchKernel(self.function, 1, 1, 1, 32, 1, 1, 0, 0, 0, 0)

    def launch_cooperative(self) -> tuple[Any, ...]:
        return driver.cuLaunchCooperativeKernel(self.function, 1, 1, 1, 32, 1, 1, 0, 0, 0)

    def config(self) -> Any:
        config = driver.CUlaunchConfig()
        config.gridDimX = config.gridDimY = config.gridDimZ = config.blockDimY = config.blockDimZ = 1
        config.blockDimX = 32
        return config

    def launch_ex(self) -> tuple[Any, ...]:
        return driver.cuLaunchKernelEx(self.config(), self.function, 0, 0)

    def launch_ex_cooperative(self) -> tuple[Any, ...]:
        config, attribute = self.config(), driver.CUlaunchAttribute()
        attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_COOPERATIVE
        attribute.value.cooperative = 1
        config.attrs, config.numAttrs = [attribute], 1
        return driver.cuLaunchKernelEx(config, self.function, 0, 0)

    def launch_stream(self) -> tuple[Any, ...]:
        """In a stream of the program's own, as a kernel handle of a library."""
        if self.stream is None:
            self.stream = driver.cuStreamCreate(1)[1]
        return driver.cuLaunchKernel(self.function, 1, 1, 1, 32, 1, 1, 0, self.stream, 0, 0)

    def launch_legacy(self) -> tuple[Any, ...]:
        driver.cuFuncSetBlockShape(self.function, 32, 1, 1)
        return driver.cuLaunch(self.function)

    def launch_grid(self) -> tuple[Any, ...]:
        driver.cuFuncSetBlockShape(self.function, 32, 1, 1)
        return driver.cuLaunchGrid(self.function, 1, 1)

    def launch_grid_async(self) -> tuple[Any, ...]:
        driver.cuFuncSetBlockShape(self.function, 32, 1, 1)
        return driver.cuLaunchGridAsync(self.function, 1, 1, 0)

    def stream_on(self, ordinal: int) -> list[Any]:
        """A stream and a kernel on a device; then no context is current."""
        self.primary(ordinal)
        self.kernel()
        self.stream = driver.cuStreamCreate(1)[1]
        return plain(driver.cuCtxSetCurrent(0))

    def alloc_in_stream(self, name: str, size: int) -> list[Any]:
        result, self.pointers[name] = driver.cuMemAllocAsync(size, self.stream)
        return [int(result)]

    def free_in_stream(self, name: str) -> list[Any]:
        return plain(driver.cuMemFreeAsync(self.pointers[name], self.stream))

    def part_on(self, ordinal: int) -> list[Any]:
        """Make ready for launches on several devices at once: a stream and the kernel on one more device."""
        result = self.primary(ordinal)
        self.kernel()
        part = driver.CUDA_LAUNCH_PARAMS()
        part.function, part.hStream = self.function, driver.cuStreamCreate(1)[1]
        part.gridDimX = part.gridDimY = part.gridDimZ = part.blockDimY = part.blockDimZ = 1
        part.blockDimX = 32
        self.parts[ordinal] = part
        return result

    def gang(self, ordinals: list[int], count: int = 1) -> list[Any]:
        """One cooperative kernel on these devices at once, in this order; the last result."""
        parts = [self.parts[ordinal] for ordinal in ordinals]
        result: tuple[Any, ...] = (0,)
        for _ in range(count):
            result = driver.cuLaunchCooperativeKernelMultiDevice(parts, len(parts), 0)
            if int(result[0]):
                break
        return [int(result[0])]

    def graph(self, kernels: int) -> list[Any]:
        """Record so many launches of the kernel into a graph, as frameworks do, and make it executable."""
        stream = driver.cuStreamCreate(1)[1]
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL
        results: list[tuple[Any, ...]] = [driver.cuStreamBeginCapture(stream, mode)]
        results += [driver.cuLaunchKernel(self.function, 1, 1, 1, 32, 1, 1, 0, stream, 0, 0) for _ in range(kernels)]
        results.append(driver.cuStreamEndCapture(stream))
        results.append(driver.cuGraphInstantiate(results[-1][1], 0))
        self.executable = results[-1][1]
        return [max(int(result[0]) for result in results)]

    def launch_graph(self) -> tuple[Any, ...]:
        return driver.cuGraphLaunch(self.executable, 0)

    def child(self, words: list[str], calls: list[list[Any]]) -> list[Any]:
        """What a program started by this one, by these words and the client's, answers to the calls."""
        lines = "".join(json.dumps(call) + "\n" for call in calls)
        command = [*words, sys.executable, shim_client.__file__]
        done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def churn_async(self, rounds: int, seed: int) -> int:
        """Allocate and free in stream order, in random sizes and order, half of it by the free of the other kind; failures."""
        choose, held, failed = random.Random(seed), [], 0
        for _ in range(rounds):
            result, pointer = driver.cuMemAllocAsync(choose.choice([512, 10_000, 3 << 20]), 0)
            failed += int(result) != 0
            held.append(pointer)
            if len(held) > choose.randrange(8):
                freed = held.pop(choose.randrange(len(held)))
                failed += int((driver.cuMemFree(freed) if choose.randrange(2) else driver.cuMemFreeAsync(freed, 0))[0]) != 0
        failed += sum(int(driver.cuMemFreeAsync(pointer, 0)[0]) != 0 for pointer in held)
        return failed

    def pool_figures(self, pool: str) -> dict[str, int]:
        """What the driver says is reserved and used in a pool, now and at most, by the attributes' names."""
        kinds = driver.CUmemPool_attribute
        named = {kind.name.removeprefix("CU_MEMPOOL_ATTR_"): kind for kind in kinds}
        figures = ("RESERVED_MEM_CURRENT", "RESERVED_MEM_HIGH", "USED_MEM_CURRENT", "USED_MEM_HIGH")
        return {name: int(driver.cuMemPoolGetAttribute(self.pointers[pool], named[name])[1]) for name in figures}

    def listen(self, path: str) -> list[Any]:
        self.inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.inbox.bind(path)
        return [0]

    def give_handle(self, name: str, path: str) -> list[Any]:
        """Export memory as a file descriptor and send it to another process, as NCCL does."""
        posix = driver.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
        result, fd = driver.cuMemExportToShareableHandle(self.pointers[name], posix, 0)
        if not int(result):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.connect(path)
                socket.send_fds(out, [b"x"], [int(fd)])
        return [int(result)]

    def take_handle(self, name: str) -> list[Any]:
        posix = driver.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
        _, (fd,), _, _ = socket.recv_fds(self.inbox, 1, 1)
        result, self.pointers[name] = driver.cuMemImportFromShareableHandle(fd, posix)
        return [int(result)]

    def device_count(self) -> list[Any]:
        return plain(driver.cuDeviceGetCount())

    def device_uuid(self, ordinal: int) -> str:
        raw = bytes(driver.cuDeviceGetUuid(ordinal)[1].bytes).hex()
        return f"GPU-{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}"


if __name__ == "__main__":
    shim_client.serve(PeerTenant())
