"""A tenant's program that captures and launches graphs; the same protocol as shim_client.py, and the same real bindings."""

from typing import Any

import shim_client
from cuda.bindings import driver
from shim_client import plain


class GraphTenant(shim_client.Tenant):
    """Graphs by name, captured in one stream, or described node by node."""

    def __init__(self) -> None:
        super().__init__()
        self.named: dict[str, Any] = {}
        self.execs: dict[str, Any] = {}

    def begin(self, mode: int = 0) -> list[Any]:
        """Start to capture, in a stream that does not wait for others."""
        if self.stream is None:
            self.stream = driver.cuStreamCreate(1)[1]
        return plain(driver.cuStreamBeginCapture(self.stream, driver.CUstreamCaptureMode(mode)))

    def end(self, name: str) -> list[Any]:
        result, self.named[name] = driver.cuStreamEndCapture(self.stream)
        return [int(result)]

    def capturing(self) -> list[Any]:
        return plain(driver.cuStreamIsCapturing(self.stream))

    def launch_there(self, count: int = 1) -> list[Any]:
        """Launch the kernel in that stream; the last result."""
        return self.launch_in(self.stream, count)

    def alloc_there(self, name: str, size: int) -> list[Any]:
        result, self.pointers[name] = driver.cuMemAllocAsync(size, self.stream)
        return [int(result)]

    def free_there(self, name: str) -> list[Any]:
        return plain(driver.cuMemFreeAsync(self.pointers[name], self.stream))

    def fill_there(self, name: str, size: int) -> list[Any]:
        return plain(driver.cuMemsetD8Async(self.pointers[name], 1, size, self.stream))

    def create_graph(self, name: str) -> list[Any]:
        result, self.named[name] = driver.cuGraphCreate(0)
        return [int(result)]

    def add_kernel(self, name: str, blocks: int = 1) -> list[Any]:
        params = driver.CUDA_KERNEL_NODE_PARAMS()
        params.func = self.function
        params.gridDimX, params.gridDimY, params.gridDimZ = blocks, 1, 1
        params.blockDimX, params.blockDimY, params.blockDimZ = 32, 1, 1
        result, self.node = driver.cuGraphAddKernelNode(self.named[name], [], 0, params)
        return [int(result)]

    def add_child(self, name: str, child: str) -> list[Any]:
        result, self.node = driver.cuGraphAddChildGraphNode(self.named[name], [], 0, self.named[child])
        return [int(result)]

    def add_alloc(self, name: str, pointer: str, size: int) -> list[Any]:
        params = driver.CUDA_MEM_ALLOC_NODE_PARAMS()
        params.poolProps.allocType = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        params.poolProps.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        params.bytesize = size
        result, self.node = driver.cuGraphAddMemAllocNode(self.named[name], [], 0, params)
        self.pointers[pointer] = params.dptr
        return [int(result)]

    def add_free(self, name: str, pointer: str) -> list[Any]:
        return [int(driver.cuGraphAddMemFreeNode(self.named[name], [self.node], 1, self.pointers[pointer])[0])]

    def instantiate(self, name: str, flags: int = 0) -> list[Any]:
        result, self.execs[name] = driver.cuGraphInstantiate(self.named[name], flags)
        return [int(result)]

    def enable(self, name: str, on: bool) -> list[Any]:
        """Switch the node that was added last on or off."""
        return plain(driver.cuGraphNodeSetEnabled(self.execs[name], self.node, int(on)))

    def update(self, name: str, source: str) -> list[Any]:
        return [int(driver.cuGraphExecUpdate(self.execs[name], self.named[source])[0])]

    def upload(self, name: str) -> list[Any]:
        return plain(driver.cuGraphUpload(self.execs[name], 0))

    def go(self, name: str, count: int = 1) -> list[Any]:
        """Launch the graph in the default stream; the last result."""
        result: Any = (0,)
        for _ in range(count):
            result = driver.cuGraphLaunch(self.execs[name], 0)
            if int(result[0]):
                break
        return plain(result)

    def destroy_exec(self, name: str) -> list[Any]:
        return plain(driver.cuGraphExecDestroy(self.execs[name]))

    def trim_graphs(self) -> list[Any]:
        return plain(driver.cuDeviceGraphMemTrim(0))

    def graph_reserve(self) -> int:
        """What the driver keeps for graphs."""
        attribute = driver.CUgraphMem_attribute.CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT
        return int(driver.cuDeviceGetGraphMemAttribute(0, attribute)[1])


if __name__ == "__main__":
    shim_client.serve(GraphTenant())
