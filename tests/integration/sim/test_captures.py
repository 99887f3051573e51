"""Stream capture: what becomes a node, what spoils a capture, and what its end says."""

import pytest
from sim_node import Client, Node

KERNEL_NS = 101_000
GLOBAL, THREAD_LOCAL, RELAXED = 0, 1, 2
NONE, ACTIVE, INVALIDATED = 0, 1, 2

HELPERS = """
from concurrent.futures import ThreadPoolExecutor
s, t = ok(driver.cuStreamCreate(1)), ok(driver.cuStreamCreate(1))
blocking = ok(driver.cuStreamCreate(0))
f = kernel()
e, e2 = ok(driver.cuEventCreate(0)), ok(driver.cuEventCreate(0))
other = ThreadPoolExecutor(1)
def begin(stream=None, mode=0):
    ok(driver.cuStreamBeginCapture(stream or s, driver.CUstreamCaptureMode(mode)))
def end(stream=None):
    return ok(driver.cuStreamEndCapture(stream or s))
def status(stream=None):
    return int(ok(driver.cuStreamIsCapturing(stream or s)))
def nodes(graph):
    count = ok(driver.cuGraphGetNodes(graph))[1]
    return [int(ok(driver.cuGraphNodeGetType(n))) for n in ok(driver.cuGraphGetNodes(graph, count))[0]]
def go(graph, n=1):
    x = ok(driver.cuGraphInstantiate(graph, 0))
    for _ in range(n):
        ok(driver.cuGraphLaunch(x, s))
    ok(driver.cuStreamSynchronize(s))
"""


@pytest.fixture
def capturing(client: Client) -> Client:
    """A client with two streams and the means to capture."""
    client.run(HELPERS)
    return client


def test_what_is_captured_does_not_run_until_it_is_launched(node: Node, capturing: Client) -> None:
    """Launches, fills, copies and functions of the host become nodes in their order, and each launch of the graph does them."""
    capturing.run("d = allocate(64); begin(); launch(f, 1, s); ok(driver.cuMemsetD8Async(d, 3, 16, s)); launch(f, 1, s)")
    assert capturing("status()") == ACTIVE
    capturing.run("g = end()")
    assert capturing("status(), nodes(g)") == [NONE, [0, 2, 0]]
    assert node.books().devices[0].kernel_ns == 0
    capturing.run("go(g, 2)")
    assert node.books().devices[0].kernel_ns == 4 * KERNEL_NS
    assert capturing("list(read(d, 2))") == [3, 3]


def test_another_stream_takes_part_once_it_waits_for_an_event(capturing: Client) -> None:
    """A fork and a join by events make the edges of the graph; neither event can be asked for its time."""
    capturing.run("begin(); launch(f, 1, s); ok(driver.cuEventRecord(e, s)); ok(driver.cuStreamWaitEvent(t, e, 0))")
    capturing.run("launch(f, 1, t); launch(f, 1, s); ok(driver.cuEventRecord(e2, t)); ok(driver.cuStreamWaitEvent(s, e2, 0))")
    assert capturing("status(t), code(driver.cuEventQuery(e2))") == [ACTIVE, "CUDA_ERROR_CAPTURED_EVENT"]
    capturing.run("launch(f, 1, s); g = end()")
    assert capturing("nodes(g), ok(driver.cuGraphGetEdges(g))[3], status(t)") == [[0] * 4, 4, NONE]


def test_a_capture_with_unjoined_work_is_lost(capturing: Client) -> None:
    """What another stream was given and nobody waited for is an error at the end, which ends the capture all the same."""
    fork = "begin(); launch(f, 1, s); ok(driver.cuEventRecord(e, s)); ok(driver.cuStreamWaitEvent(t, e, 0)); launch(f, 1, t)"
    capturing.run(fork)
    assert capturing("code(driver.cuStreamEndCapture(t))") == "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED"
    assert capturing("code(driver.cuStreamEndCapture(s))") == "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"
    capturing.run(fork)
    assert capturing("code(driver.cuStreamEndCapture(s))") == "CUDA_ERROR_STREAM_CAPTURE_UNJOINED"
    assert capturing("status(s), status(t)") == [NONE, NONE]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("driver.cuStreamSynchronize(s)", "UNSUPPORTED"),
        ("driver.cuStreamQuery(s)", "UNSUPPORTED"),
        ("driver.cuCtxSynchronize()", "UNSUPPORTED"),
        ("driver.cuMemAlloc(64)", "UNSUPPORTED"),
        ("driver.cuMemHostAlloc(64, 0)", "UNSUPPORTED"),
        ("driver.cuMemAllocManaged(64, 1)", "UNSUPPORTED"),
        ("driver.cuMemFree(d)", "UNSUPPORTED"),
        ("driver.cuEventQuery(e)", "UNSUPPORTED"),
        ("driver.cuMemcpyDtoH(bytearray(4), d, 4)", "UNSUPPORTED"),
        ("driver.cuStreamWaitEvent(s, e2, 0)", "ISOLATION"),
    ],
)
def test_what_cannot_be_captured_spoils_the_capture(capturing: Client, call: str, error: str) -> None:
    """The call says why; everything after it, and the end, say that the capture is lost; then the stream is as before."""
    capturing.run("d = allocate(64); ok(driver.cuEventRecord(e2, t)); begin(); launch(f, 1, s)")
    assert capturing(f"code({call})") == f"CUDA_ERROR_STREAM_CAPTURE_{error}"
    assert capturing("status()") == INVALIDATED
    assert capturing("code(driver.cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, s, 0, 0))") == "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"
    assert capturing("code(driver.cuStreamEndCapture(s))") == "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"
    capturing.run("launch(f, 1, s); ok(driver.cuStreamSynchronize(s))")


def test_the_legacy_stream_keeps_away_from_a_blocking_one(capturing: Client) -> None:
    """Work in the legacy stream would wait for a blocking stream that captures, which is an error; any other is no obstacle."""
    capturing.run("begin(mode=2); launch(f, 1, s); launch(f, 1, 0); g = end(); begin(blocking, 2)")
    assert capturing("code(driver.cuStreamIsCapturing(0))") == "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT"
    assert capturing("code(driver.cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0))") == "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT"
    assert capturing("code(driver.cuStreamEndCapture(blocking))") == "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"
    begun = capturing("code(driver.cuStreamBeginCapture(0, driver.CUstreamCaptureMode(0)))")
    assert begun == "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"


@pytest.mark.parametrize(
    ("mode", "own", "foreign"),
    [(GLOBAL, "UNSUPPORTED", "UNSUPPORTED"), (THREAD_LOCAL, "UNSUPPORTED", None), (RELAXED, None, None)],
)
def test_modes_say_whom_a_capture_binds(capturing: Client, mode: int, own: str | None, foreign: str | None) -> None:
    """A global one forbids every thread to allocate, a local one its own thread, a relaxed one nobody."""
    expected = {None: "CUDA_SUCCESS", "UNSUPPORTED": "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"}
    capturing.run("ctx = ok(driver.cuCtxGetCurrent()); other.submit(lambda: ok(driver.cuCtxSetCurrent(ctx))).result()")
    capturing.run(f"begin(mode={mode})")
    assert capturing("code(other.submit(driver.cuMemAlloc, 64).result())") == expected[foreign]
    capturing.run(f"driver.cuStreamEndCapture(s); begin(mode={mode})")
    assert capturing("code(driver.cuMemAlloc(64))") == expected[own]
    wrong = "CUDA_SUCCESS" if mode == RELAXED else "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD"
    assert capturing("code(other.submit(driver.cuStreamEndCapture, s).result())") == wrong


def test_a_relaxed_thread_may_do_what_others_may_not(capturing: Client) -> None:
    """A thread that exchanges its mode for the relaxed one allocates during its own global capture, and gets its mode back."""
    capturing.run("begin(); m = ok(driver.cuThreadExchangeStreamCaptureMode(driver.CUstreamCaptureMode(2)))")
    assert capturing("int(m), code(driver.cuMemAlloc(64))") == [GLOBAL, "CUDA_SUCCESS"]
    assert capturing("int(ok(driver.cuThreadExchangeStreamCaptureMode(m)))") == RELAXED
    capturing.run("end()")


def test_memory_in_stream_order_becomes_the_graphs(capturing: Client) -> None:
    """An allocation and a free in a capturing stream are nodes; what lies between them has the memory when the graph runs."""
    capturing.run("out = ok(driver.cuMemAllocHost(16)); import ctypes; begin()")
    capturing.run("d = int(ok(driver.cuMemAllocAsync(1 << 20, s))); ok(driver.cuMemsetD8Async(d, 8, 16, s))")
    capturing.run("ok(driver.cuMemcpyAsync(int(out), d, 16, s)); ok(driver.cuMemFreeAsync(d, s)); g = end()")
    assert capturing("nodes(g)") == [10, 2, 1, 11]
    capturing.run("go(g, 2)")
    assert capturing("ctypes.string_at(int(out), 2).hex()") == "0808"


def test_captures_do_not_merge(capturing: Client) -> None:
    """A stream of one capture cannot wait for an event of another: both are lost."""
    capturing.run("begin(s, 2); begin(t, 2); ok(driver.cuEventRecord(e, t))")
    assert capturing("code(driver.cuStreamWaitEvent(s, e, 0))") == "CUDA_ERROR_STREAM_CAPTURE_MERGE"
    assert capturing("status(s), status(t)") == [INVALIDATED, INVALIDATED]


def test_a_capture_tells_where_it_stands(capturing: Client) -> None:
    """Its graph, its id and what the next node comes after can be read, and the latter set; it may go into a given graph."""
    capturing.run("begin(); launch(f, 1, s); first = ok(driver.cuStreamGetCaptureInfo(s)); launch(f, 1, s)")
    capturing.run("second = ok(driver.cuStreamGetCaptureInfo(s))")
    assert capturing("int(first[0]), int(first[1]) == int(second[1])") == [ACTIVE, True]
    assert capturing("len(first[3]), int(first[3][0]) != int(second[3][0])") == [1, True]
    capturing.run("ok(driver.cuStreamUpdateCaptureDependencies(s, first[3], None, 1, 1)); launch(f, 1, s); g = end()")
    assert capturing("ok(driver.cuGraphGetEdges(g))[3]") == 2
    capturing.run("h = ok(driver.cuGraphCreate(0)); a = ok(driver.cuGraphAddEmptyNode(h, [], 0))")
    capturing.run("ok(driver.cuStreamBeginCaptureToGraph(s, h, [a], None, 1, driver.CUstreamCaptureMode(0))); launch(f, 1, s)")
    assert capturing("int(end()) == int(h), nodes(h), ok(driver.cuGraphGetEdges(h))[3]") == [True, [5, 0], 1]


def test_a_launched_graph_is_captured_as_a_part(node: Node, capturing: Client) -> None:
    """Launching a graph into a capturing stream makes it a child of the new graph."""
    capturing.run("begin(); launch(f, 1, s); x = ok(driver.cuGraphInstantiate(end(), 0))")
    capturing.run("begin(); ok(driver.cuGraphLaunch(x, s)); launch(f, 1, s); g = end()")
    assert capturing("nodes(g)") == [4, 0]
    capturing.run("go(g)")
    assert node.books().devices[0].kernel_ns == 2 * KERNEL_NS


def test_a_stream_that_goes_takes_its_capture_along(capturing: Client) -> None:
    """Destroying a capturing stream ends its capture; the others are free again."""
    capturing.run("begin(); launch(f, 1, s); ok(driver.cuEventRecord(e, s)); ok(driver.cuStreamWaitEvent(t, e, 0))")
    capturing.run("ok(driver.cuStreamDestroy(s))")
    assert capturing("status(t), code(driver.cuStreamEndCapture(t))") == [NONE, "CUDA_ERROR_ILLEGAL_STATE"]
