"""A tenant's program: real cuda-bindings and pynvml calls, one per line of stdin, one JSON answer per line of stdout.

Knows nothing of mica; started with or without the shim preloaded. An answer is the list that the binding returned, its
CUresult as a number first.
"""

import ctypes
import json
import mmap
import os
import sys
from typing import Any

from cuda.bindings import driver

PTX = b".version 7.0\n.target sm_70\n.address_size 64\n.visible .entry %s() { ret; }\n\0"

IPC_BYTES = 64
"""Size of a CUipcMemHandle, whose bytes the binding does not show."""


class Tenant:
    """The state of one program: its context, pointers by name, and kernel."""

    def __init__(self) -> None:
        self.pointers: dict[str, Any] = {}
        self.addresses: dict[str, int] = {}
        self.stream: Any = None
        self.graphs: list[Any] = []

    def init(self) -> list[Any]:
        return plain(driver.cuInit(0))

    def context(self, ordinal: int = 0) -> list[Any]:
        result, self.ctx = driver.cuCtxCreate(None, 0, ordinal)
        return [int(result)]

    def destroy(self) -> list[Any]:
        return plain(driver.cuCtxDestroy(self.ctx))

    def primary(self, ordinal: int = 0) -> list[Any]:
        result, ctx = driver.cuDevicePrimaryCtxRetain(ordinal)
        return [int(result)] if int(result) else plain(driver.cuCtxSetCurrent(ctx))

    def reset(self, ordinal: int = 0) -> list[Any]:
        return plain(driver.cuDevicePrimaryCtxReset(ordinal))

    def limit(self, which: int, value: int) -> list[Any]:
        return plain(driver.cuCtxSetLimit(driver.CUlimit(which), value))

    def alloc(self, name: str, size: int) -> list[Any]:
        result, self.pointers[name] = driver.cuMemAlloc(size)
        return [int(result)]

    def managed(self, name: str, size: int) -> list[Any]:
        result, self.pointers[name] = driver.cuMemAllocManaged(size, 1)
        return [int(result)]

    def pitch(self, name: str, width: int, height: int) -> list[Any]:
        result, self.pointers[name], _ = driver.cuMemAllocPitch(width, height, 4)
        return [int(result)]

    def alloc_async(self, name: str, size: int) -> list[Any]:
        result, self.pointers[name] = driver.cuMemAllocAsync(size, 0)
        return [int(result)]

    def pool(self, name: str, ordinal: int = 0) -> list[Any]:
        prop = driver.CUmemPoolProps()
        prop.allocType = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        prop.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        prop.location.id = ordinal
        result, self.pointers[name] = driver.cuMemPoolCreate(prop)
        return [int(result)]

    def default_pool(self, name: str, ordinal: int = 0) -> list[Any]:
        result, self.pointers[name] = driver.cuDeviceGetDefaultMemPool(ordinal)
        return [int(result)]

    def set_pool(self, name: str, ordinal: int = 0) -> list[Any]:
        return plain(driver.cuDeviceSetMemPool(ordinal, self.pointers[name]))

    def alloc_from(self, name: str, size: int, pool: str) -> list[Any]:
        result, self.pointers[name] = driver.cuMemAllocFromPoolAsync(size, self.pointers[pool], 0)
        return [int(result)]

    def keep(self, pool: str, threshold: int) -> list[Any]:
        attribute = driver.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
        return plain(driver.cuMemPoolSetAttribute(self.pointers[pool], attribute, driver.cuuint64_t(threshold)))

    def reserved(self, pool: str) -> list[Any]:
        attribute = driver.CUmemPool_attribute.CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT
        return plain(driver.cuMemPoolGetAttribute(self.pointers[pool], attribute))

    def trim(self, pool: str, size: int) -> list[Any]:
        return plain(driver.cuMemPoolTrimTo(self.pointers[pool], size))

    def destroy_pool(self, pool: str) -> list[Any]:
        return plain(driver.cuMemPoolDestroy(self.pointers[pool]))

    def create(self, name: str, size: int, ordinal: int = 0) -> list[Any]:
        prop = driver.CUmemAllocationProp()
        prop.type = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        prop.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        prop.location.id = ordinal
        prop.requestedHandleTypes = driver.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
        result, self.pointers[name] = driver.cuMemCreate(size, prop, 0)
        return [int(result)]

    def map(self, name: str, handle: str, size: int) -> list[Any]:
        """Map all of a handle's memory at new addresses."""
        result, self.pointers[name] = driver.cuMemAddressReserve(size, 0, 0, 0)
        return [int(result)] if int(result) else plain(driver.cuMemMap(self.pointers[name], size, 0, self.pointers[handle], 0))

    def unmap(self, name: str, size: int) -> list[Any]:
        result = plain(driver.cuMemUnmap(self.pointers[name], size))
        return result if result[0] else plain(driver.cuMemAddressFree(self.pointers[name], size))

    def import_own(self, name: str, handle: str) -> list[Any]:
        """Export a handle and import it again, as another process would."""
        posix = driver.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
        result, fd = driver.cuMemExportToShareableHandle(self.pointers[handle], posix, 0)
        if int(result):
            return [int(result)]
        result, self.pointers[name] = driver.cuMemImportFromShareableHandle(int(fd), posix)
        os.close(int(fd))
        return [int(result)]

    def share(self, name: str) -> str:
        """The handle by which another process opens a pointer, in hexadecimal."""
        result, handle = driver.cuIpcGetMemHandle(self.pointers[name])
        return ctypes.string_at(int(handle.getPtr()), IPC_BYTES).hex() if not int(result) else repr(result)

    def open_shared(self, name: str, text: str) -> list[Any]:
        handle = driver.CUipcMemHandle()
        ctypes.memmove(int(handle.getPtr()), bytes.fromhex(text), IPC_BYTES)
        result, self.pointers[name] = driver.cuIpcOpenMemHandle(handle, 1)
        return [int(result)]

    def close_shared(self, name: str) -> list[Any]:
        return plain(driver.cuIpcCloseMemHandle(self.pointers[name]))

    def array(self, name: str, width: int, height: int) -> list[Any]:
        shape = driver.CUDA_ARRAY_DESCRIPTOR()
        shape.Width, shape.Height, shape.NumChannels = width, height, 4
        shape.Format = driver.CUarray_format.CU_AD_FORMAT_FLOAT
        result, self.pointers[name] = driver.cuArrayCreate(shape)
        return [int(result)]

    def free(self, name: str) -> list[Any]:
        return plain(driver.cuMemFree(self.pointers[name]))

    def free_async(self, name: str) -> list[Any]:
        return plain(driver.cuMemFreeAsync(self.pointers[name], 0))

    def release(self, name: str) -> list[Any]:
        return plain(driver.cuMemRelease(self.pointers[name]))

    def free_array(self, name: str) -> list[Any]:
        return plain(driver.cuArrayDestroy(self.pointers[name]))

    def host(self, name: str, size: int) -> list[Any]:
        result, self.pointers[name] = driver.cuMemHostAlloc(size, 0)
        return [int(result)]

    def free_host(self, name: str) -> list[Any]:
        return plain(driver.cuMemFreeHost(self.pointers[name]))

    def register(self, name: str, size: int) -> list[Any]:
        self.pointers[name] = mmap.mmap(-1, size)
        self.addresses[name] = ctypes.addressof(ctypes.c_char.from_buffer(self.pointers[name]))
        return plain(driver.cuMemHostRegister(self.addresses[name], size, 0))

    def unregister(self, name: str) -> list[Any]:
        return plain(driver.cuMemHostUnregister(self.addresses[name]))

    def fill(self, size: int) -> int:
        """Allocate until refused; return how many succeeded. Every refusal must be out of memory."""
        count = 0
        while True:
            result, pointer = driver.cuMemAlloc(size)
            if int(result):
                return count if int(result) == 2 else -int(result)
            self.pointers[f"fill{count}"] = pointer
            count += 1

    def churn(self, size: int, rounds: int) -> int:
        """Allocate and free; return how many allocations succeeded."""
        won = 0
        for _ in range(rounds):
            result, pointer = driver.cuMemAlloc(size)
            if not int(result):
                won += 1
                driver.cuMemFree(pointer)
        return won

    def info(self) -> list[Any]:
        return plain(driver.cuMemGetInfo())

    def total(self, ordinal: int = 0) -> list[Any]:
        return plain(driver.cuDeviceTotalMem(ordinal))

    def kernel(self, name: str = "spin") -> list[Any]:
        result, self.module = driver.cuModuleLoadData(PTX % name.encode())
        if int(result):
            return [int(result)]
        result, self.function = driver.cuModuleGetFunction(self.module, name.encode())
        return [int(result)]

    def unload(self) -> list[Any]:
        return plain(driver.cuModuleUnload(self.module))

    def launch(self, count: int = 1) -> list[Any]:
        """Launch; the last result."""
        return self.launch_in(0, count)

    def launch_in(self, stream: Any, count: int) -> list[Any]:
        result: Any = (0,)
        for _ in range(count):
            result = driver.cuLaunchKernel(self.function, 1, 1, 1, 32, 1, 1, 0, stream, 0, 0)
            if int(result[0]):
                break
        return plain(result)

    def bad_launch(self) -> list[Any]:
        return plain(driver.cuLaunchKernel(self.function, 0, 1, 1, 32, 1, 1, 0, 0, 0, 0))

    def multiprocessors(self) -> list[Any]:
        """How many the current context has."""
        context = driver.cuCtxGetCurrent()[1]
        result, resource = driver.cuCtxGetDevResource(context, driver.CUdevResourceType.CU_DEV_RESOURCE_TYPE_SM)
        return [int(result), resource.sm.smCount]

    def sync(self) -> list[Any]:
        return plain(driver.cuCtxSynchronize())

    def fork(self) -> list[Any]:
        """Attach in a forked child, which stays until `reap`; what the child saw."""
        reader, writer = os.pipe()
        gate, self.gate = os.pipe()
        if os.fork() == 0:
            os.close(self.gate)
            os.write(writer, json.dumps([int(driver.cuInit(0)[0]), os.getpid()]).encode())
            os.read(gate, 1)
            os._exit(0)
        os.close(writer)
        answer: list[Any] = json.loads(os.read(reader, 4096))
        return answer

    def reap(self) -> int:
        """Let the child end; its exit status."""
        os.close(self.gate)
        return os.wait()[1]

    def proc(self, name: str, version: int, flags: int) -> list[Any]:
        """Ask for a function by name; the file and the symbol that it lies in."""
        result, pointer, status = driver.cuGetProcAddress(name.encode(), version, flags)
        return [int(result), int(status), where(int(pointer)) if pointer else None]

    def opened(self, library: str | None, symbol: str) -> str:
        """The file that a symbol lies in, where the program opens the library, or looks in all that there is (None)."""
        found = ctypes.cast(getattr(ctypes.CDLL(library), symbol), ctypes.c_void_p).value
        return where(found or 0)[0]

    def nvml(self) -> dict[str, Any]:
        import pynvml

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        memory = [pynvml.nvmlDeviceGetMemoryInfo(handle) for handle in handles]
        second = [pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2) for handle in handles]
        return {
            "uuids": [pynvml.nvmlDeviceGetUUID(handle) for handle in handles],
            "indices": [pynvml.nvmlDeviceGetIndex(handle) for handle in handles],
            "memory": [[m.total, m.free, m.used] for m in memory],
            "memory_v2": [[m.version, m.total, m.free, m.used] for m in second],
            "pids": [[p.pid for p in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)] for handle in handles],
        }

    def nvml_activity(self) -> dict[str, Any]:
        import pynvml

        pynvml.nvmlInit()
        device = pynvml.nvmlDeviceGetHandleByIndex(0)
        bar1, rates = pynvml.nvmlDeviceGetBAR1MemoryInfo(device), pynvml.nvmlDeviceGetUtilizationRates(device)
        return {"bar1": [bar1.bar1Total, bar1.bar1Free, bar1.bar1Used], "gpu": rates.gpu}

    def nvml_answers(self, names: list[str]) -> dict[str, int]:
        """What calls answer that are given nothing."""
        import pynvml

        pynvml.nvmlInit()
        library = ctypes.CDLL("libnvidia-ml.so.1")
        return {name: library[name]() for name in names}

    def nvml_by_uuid(self, uuid: str) -> str:
        import pynvml

        pynvml.nvmlInit()
        try:
            pynvml.nvmlDeviceGetHandleByUUID(uuid)
        except pynvml.NVMLError as error:
            return str(error)
        return "found"


def plain(results: tuple[Any, ...]) -> list[Any]:
    return [None if value is None else int(value) for value in results]


def where(address: int) -> list[str]:
    """File name and symbol around an address."""

    class Info(ctypes.Structure):
        _fields_ = (("file", ctypes.c_char_p), ("base", ctypes.c_void_p), ("symbol", ctypes.c_char_p), ("at", ctypes.c_void_p))

    info = Info()
    ctypes.CDLL(None).dladdr(ctypes.c_void_p(address), ctypes.byref(info))
    return [(info.file or b"").decode(), (info.symbol or b"").decode()]


def serve(tenant: Tenant) -> None:
    """Answer until the input ends."""
    for line in iter(sys.stdin.readline, ""):
        name, *arguments = json.loads(line)
        try:
            answer = getattr(tenant, name)(*arguments)
        except Exception as error:  # noqa: BLE001 - the test judges it
            answer = repr(error)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(Tenant())
