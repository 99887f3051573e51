"""Graphs: described first, started later, and what their memory does meanwhile."""

from sim_node import Client, Node

LAUNCH_NS = 1_000
BLOCK_NS = 100_000
KERNEL_NS = LAUNCH_NS + BLOCK_NS
MIB = 1 << 20
GRANULE = 2 * MIB

HELPERS = """
s = ok(driver.cuStreamCreate(1))
f = kernel()
g = ok(driver.cuGraphCreate(0))
def node(after=(), blocks=1, graph=None, function=None):
    p = driver.CUDA_KERNEL_NODE_PARAMS()
    p.func, p.gridDimX, p.gridDimY, p.gridDimZ, p.blockDimX, p.blockDimY, p.blockDimZ = function or f, blocks, 1, 1, 128, 1, 1
    return ok(driver.cuGraphAddKernelNode(graph or g, list(after), len(after), p))
def fill_params(address, value, width=16):
    p = driver.CUDA_MEMSET_NODE_PARAMS()
    p.dst, p.value, p.elementSize, p.width, p.height = address, value, 1, width, 1
    return p
def fill(address, value, after=()):
    return ok(driver.cuGraphAddMemsetNode(g, list(after), len(after), fill_params(address, value), ok(driver.cuCtxGetCurrent())))
def alloc(size, after=(), graph=None):
    p = driver.CUDA_MEM_ALLOC_NODE_PARAMS()
    p.poolProps.allocType = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    p.poolProps.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    p.bytesize = size
    made = ok(driver.cuGraphAddMemAllocNode(graph or g, list(after), len(after), p))
    return made, int(p.dptr)
def free(address, after):
    return ok(driver.cuGraphAddMemFreeNode(g, list(after), len(after), address))
def make(graph=None, flags=0):
    return ok(driver.cuGraphInstantiate(graph or g, flags))
def go(x, n=1):
    for _ in range(n):
        ok(driver.cuGraphLaunch(x, s))
    ok(driver.cuStreamSynchronize(s))
def memory(which):
    return int(ok(driver.cuDeviceGetGraphMemAttribute(0, driver.CUgraphMem_attribute(which))))
def free_bytes():
    return ok(driver.cuMemGetInfo())[0]
"""


def ready(client: Client) -> Client:
    client.run(HELPERS)
    return client


def kernel_ns(node: Node) -> int:
    return node.books().devices[0].kernel_ns


def test_a_graph_costs_its_kernels_each_time_it_is_started(node: Node, client: Client) -> None:
    """Nothing runs while a graph is described or made executable; each launch pays for every kernel in it."""
    ready(client).run("a = node(); b = node([a]); node([b]); x = make()")
    assert kernel_ns(node) == 0
    client.run("go(x, 4)")
    assert kernel_ns(node) == 12 * KERNEL_NS
    assert node.books().devices[0].launches == 12


def test_nodes_run_behind_what_they_come_after(client: Client) -> None:
    """Of two fills of one place the later one in the graph wins, however they were added; so does a copy of it."""
    ready(client).run("d, e = allocate(64), allocate(64)")
    client.run("second = fill(d, 2); first = fill(d, 1)")
    client.run("ok(driver.cuGraphAddDependencies(g, [first], [second], None, 1)); go(make())")
    assert client("list(read(d, 2))") == [2, 2]
    client.run("g = ok(driver.cuGraphCreate(0)); one = fill(d, 7)")
    client.run("c = driver.CUDA_MEMCPY3D(); c.srcMemoryType = c.dstMemoryType = driver.CUmemorytype.CU_MEMORYTYPE_DEVICE")
    client.run("c.srcDevice, c.dstDevice, c.WidthInBytes, c.Height, c.Depth = d, e, 16, 1, 1")
    client.run("ok(driver.cuGraphAddMemcpyNode(g, [one], 1, c, ok(driver.cuCtxGetCurrent()))); go(make())")
    assert client("list(read(e, 2))") == [7, 7]


def test_a_stream_goes_on_behind_the_whole_graph(client: Client) -> None:
    """Branches of a graph are all over before the next work of the stream: an event behind them has its time."""
    ready(client).run("root = node(); [node([root]) for _ in range(3)]; x = make()")
    client.run("e = [ok(driver.cuEventCreate(0)) for _ in '12']; launch(kernel('long_kernel'), 1, s)")
    client.run("ok(driver.cuEventRecord(e[0], s))")
    client.run("ok(driver.cuGraphLaunch(x, s)); ok(driver.cuEventRecord(e[1], s)); ok(driver.cuEventSynchronize(e[1]))")
    milliseconds = client("ok(driver.cuEventElapsedTime(e[0], e[1]))")
    assert abs(milliseconds - 4 * KERNEL_NS / 1e6) < 1e-4


def test_a_graph_tells_what_it_is_made_of(client: Client) -> None:
    """Nodes, roots, edges, types and parameters are those that were given."""
    ready(client).run("a = node(); b = node([a], blocks=5); c = ok(driver.cuGraphAddEmptyNode(g, [a, b], 2))")
    assert client("len(ok(driver.cuGraphGetNodes(g, 8))[0][:3]), ok(driver.cuGraphGetNodes(g, 8))[1]") == [3, 3]
    assert client("ok(driver.cuGraphGetRootNodes(g))[1], ok(driver.cuGraphGetEdges(g))[3]") == [1, 3]
    assert client("[int(ok(driver.cuGraphNodeGetType(n))) for n in (a, b, c)]") == [0, 0, 5]
    assert client("ok(driver.cuGraphKernelNodeGetParams(b)).gridDimX") == 5
    assert client("ok(driver.cuGraphNodeGetDependencies(c))[2], ok(driver.cuGraphNodeGetDependentNodes(a))[2]") == [2, 2]
    assert client("code(driver.cuGraphAddDependencies(g, [c], [a], None, 1))") == "CUDA_ERROR_INVALID_VALUE"
    client.run("ok(driver.cuGraphDestroyNode(b))")
    assert client("ok(driver.cuGraphGetEdges(g))[3]") == 1


def test_an_executable_graph_is_changed_and_its_source_is_not(node: Node, client: Client) -> None:
    """Another kernel, a node that is off, and an update of the same shape are in force from the next launch on."""
    ready(client).run("a = node(); b = node([a]); x = make()")
    client.run("ok(driver.cuGraphNodeSetEnabled(x, b, 0)); go(x)")
    assert kernel_ns(node) == KERNEL_NS
    client.run("p = ok(driver.cuGraphKernelNodeGetParams(a)); p.gridDimX = 58 * 12 * 2")
    client.run("ok(driver.cuGraphExecKernelNodeSetParams(x, a, p)); go(x)")
    assert kernel_ns(node) == KERNEL_NS + LAUNCH_NS + 2 * BLOCK_NS
    assert client("ok(driver.cuGraphKernelNodeGetParams(a)).gridDimX") == 1
    client.run("ok(driver.cuGraphNodeSetEnabled(x, b, 1)); h = ok(driver.cuGraphCreate(0)); node([node(graph=h)], graph=h)")
    client.run("ok(driver.cuGraphExecUpdate(x, h)); go(x)")
    assert kernel_ns(node) == 3 * KERNEL_NS + LAUNCH_NS + 2 * BLOCK_NS
    client.run("node(graph=h)")
    assert client("code(driver.cuGraphExecUpdate(x, h))") == "CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE"


def test_a_graph_within_a_graph_runs_as_a_part_of_it(node: Node, client: Client) -> None:
    """A child is a copy: it runs at every launch, and destroying its source changes nothing; a clone is another graph."""
    ready(client).run("h = ok(driver.cuGraphCreate(0)); node([node(graph=h)], graph=h)")
    client.run("a = node(); c = ok(driver.cuGraphAddChildGraphNode(g, [a], 1, h)); node([c]); ok(driver.cuGraphDestroy(h))")
    client.run("twin = ok(driver.cuGraphClone(g)); go(make()); go(make(twin))")
    assert kernel_ns(node) == 8 * KERNEL_NS
    assert client("ok(driver.cuGraphGetNodes(ok(driver.cuGraphChildGraphNodeGetGraph(c))))[1]") == 2
    assert client("int(ok(driver.cuGraphNodeGetType(ok(driver.cuGraphNodeFindInClone(c, twin)))))") == 4


def test_the_host_does_its_part_in_its_turn(client: Client) -> None:
    """A function of the host runs once a launch, behind the fill before it and before the fill after it."""
    ready(client).run(
        "import ctypes; d = allocate(64); seen = []; pinned = ok(driver.cuMemAllocHost(16))\n"
        "@ctypes.CFUNCTYPE(None, ctypes.c_void_p)\n"
        "def called(_): seen.append(ctypes.string_at(pinned, 1)[0])\n"
        "p = driver.CUDA_HOST_NODE_PARAMS(); p.fn = ctypes.cast(called, ctypes.c_void_p).value; p.userData = 0"
    )
    client.run("a = fill(pinned, 5); b = ok(driver.cuGraphAddHostNode(g, [a], 1, p)); fill(pinned, 6, [b]); go(make(), 2)")
    assert client("seen, ctypes.string_at(pinned, 1)[0]") == [[5, 5], 6]


def test_events_are_recorded_and_waited_for_inside(client: Client) -> None:
    """An event that a graph records is over with the kernel before it, and a stream may wait for it."""
    ready(client).run("e = ok(driver.cuEventCreate(0)); a = node(); ok(driver.cuGraphAddEventRecordNode(g, [a], 1, e))")
    client.run("ok(driver.cuGraphLaunch(make(), s)); ok(driver.cuEventSynchronize(e)); h = ok(driver.cuGraphCreate(0))")
    client.run("w = ok(driver.cuGraphAddEventWaitNode(h, [], 0, e)); node([w], graph=h); go(make(h))")
    assert client("code(driver.cuEventQuery(e))") == "CUDA_SUCCESS"


def test_memory_of_a_graph_is_there_from_its_launch_to_its_free(client: Client) -> None:
    """An address is known before the first launch; contents are there in between; the device keeps it until it is trimmed."""
    ready(client).run("before = free_bytes(); m, d = alloc(3 * (1 << 20)); out = allocate(64); t = fill(d, 9, [m])")
    client.run("c = driver.CUDA_MEMCPY3D(); c.srcMemoryType = c.dstMemoryType = driver.CUmemorytype.CU_MEMORYTYPE_DEVICE")
    client.run("c.srcDevice, c.dstDevice, c.WidthInBytes, c.Height, c.Depth = d, out, 16, 1, 1")
    client.run("k = ok(driver.cuGraphAddMemcpyNode(g, [t], 1, c, ok(driver.cuCtxGetCurrent()))); free(d, [k]); x = make()")
    assert client("before - free_bytes()") == GRANULE
    client.run("go(x, 3)")
    assert client("list(read(out, 2)), memory(0), memory(2)") == [[9, 9], 0, 2 * GRANULE]
    assert client("before - free_bytes()") == 3 * GRANULE
    client.run("ok(driver.cuDeviceGraphMemTrim(0))")
    assert client("before - free_bytes(), memory(2), memory(3)") == [GRANULE, 0, 2 * GRANULE]


def test_memory_that_a_graph_leaves_is_the_programs_to_free(client: Client) -> None:
    """Without a free node it stays; a second launch needs it freed, or a graph that frees by itself."""
    ready(client).run("m, d = alloc(1 << 20); x = make(); go(x); ok(driver.cuMemcpyHtoD(d, b'abcd', 4))")
    assert client("read(d, 4).decode(), memory(0)") == ["abcd", MIB]
    assert client("code(driver.cuGraphLaunch(x, s))") == "CUDA_ERROR_INVALID_VALUE"
    client.run("ok(driver.cuMemFree(d)); go(x); ok(driver.cuMemFreeAsync(d, s)); ok(driver.cuGraphExecDestroy(x))")
    assert client("code(driver.cuMemFree(d)), memory(0)") == ["CUDA_ERROR_INVALID_VALUE", 0]
    client.run("x = make(flags=1); go(x, 3)")
    assert client("memory(0), memory(2)") == [MIB, GRANULE]
    assert client("code(driver.cuGraphInstantiate(g, 0)), code(driver.cuGraphClone(g))") == ["CUDA_ERROR_NOT_SUPPORTED"] * 2


def test_a_launch_that_finds_no_memory_starts_nothing(node: Node, client: Client) -> None:
    """Out of memory, and not one of its kernels has run or byte of it stayed in use."""
    ready(client).run("a = node(); m, d = alloc(10 << 30, [a]); n, e = alloc(20 << 30, [m]); x = make()")
    assert client("code(driver.cuGraphLaunch(x, s))") == "CUDA_ERROR_OUT_OF_MEMORY"
    client.run("ok(driver.cuStreamSynchronize(s))")
    assert kernel_ns(node) == 0
    assert client("memory(0)") == 0


def test_what_dies_with_its_process_is_given_back(node: Node, client: Client) -> None:
    """Memory of graphs goes with the process that had it."""
    ready(client).run("m, d = alloc(1 << 30); go(make())")
    client.kill()
    heir = node.client(CUDA_VISIBLE_DEVICES="0")
    heir("start()")
    assert ready(heir)("ok(driver.cuMemGetInfo())[1] - free_bytes()") < 1 << 30


def test_what_a_graph_was_lent_is_given_back_once_when_nobody_uses_it(client: Client) -> None:
    """A user object outlives the program's reference and the graph, and is destroyed with the last executable graph."""
    ready(client).run(
        "import ctypes; gone = []\n"
        "@ctypes.CFUNCTYPE(None, ctypes.c_void_p)\n"
        "def destroyed(data): gone.append(data)\n"
        "at = ctypes.cast(destroyed, ctypes.c_void_p).value\n"
        "flag = driver.CUuserObject_flags.CU_USER_OBJECT_NO_DESTRUCTOR_SYNC\n"
        "o = ok(driver.cuUserObjectCreate(7, driver.CUhostFn(at), 1, flag))"
    )
    client.run("ok(driver.cuGraphRetainUserObject(g, o, 1, 1)); x = make(); y = make(); ok(driver.cuGraphDestroy(g))")
    client.run("ok(driver.cuGraphExecDestroy(x))")
    assert client("gone") == []
    client.run("ok(driver.cuGraphExecDestroy(y))")
    assert client("gone, code(driver.cuUserObjectRelease(o, 1))") == [[7], "CUDA_ERROR_INVALID_VALUE"]


def test_bad_graphs_are_refused(client: Client) -> None:
    """Foreign and destroyed nodes and graphs, bad shapes, an address that is no graph's: one error each, nothing added."""
    ready(client).run("h = ok(driver.cuGraphCreate(0)); other = node(graph=h)")
    assert client("code(driver.cuGraphAddEmptyNode(g, [other], 1))") == "CUDA_ERROR_INVALID_VALUE"
    client.run("ok(driver.cuGraphDestroy(h))")
    assert client("code(driver.cuGraphInstantiate(h, 0))") == "CUDA_ERROR_INVALID_VALUE"
    assert client("code(driver.cuGraphDestroyNode(other))") == "CUDA_ERROR_INVALID_VALUE"
    client.run("p = driver.CUDA_KERNEL_NODE_PARAMS(); p.func = f")
    assert client("code(driver.cuGraphAddKernelNode(g, [], 0, p))") == "CUDA_ERROR_INVALID_VALUE"
    assert client("code(driver.cuGraphAddMemFreeNode(g, [], 0, allocate(64)))") == "CUDA_ERROR_INVALID_VALUE"
    assert client("ok(driver.cuGraphGetNodes(g))[1]") == 0
