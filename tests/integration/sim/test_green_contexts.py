"""Green contexts: how multiprocessors are split, and that kernels keep to theirs."""

import pytest
from sim_node import Client, Node

LAUNCH_NS = 1_000
BLOCK_NS = 100_000
BLOCKS = 12  # of 128 threads, on each multiprocessor of an L4

HELPERS = """
SM = driver.CUdevResourceType.CU_DEV_RESOURCE_TYPE_SM
DEFAULT = driver.CUgreenCtxCreate_flags.CU_GREEN_CTX_DEFAULT_STREAM
whole = ok(driver.cuDeviceGetDevResource(0, SM))
def split(count, least, flags=0, of=None):
    groups, made, rest = ok(driver.cuDevSmResourceSplitByCount(count, of or whole, flags, least))
    return groups[:made], rest
def green(*resources):
    return ok(driver.cuGreenCtxCreate(ok(driver.cuDevResourceGenerateDesc(list(resources), len(resources))), 0, DEFAULT))
def stream_of(g):
    return ok(driver.cuGreenCtxStreamCreate(g, 1, 0))
f = kernel()
"""


@pytest.fixture
def splitting(client: Client) -> Client:
    """A client on an L4, which has 58 multiprocessors and capability 8.9."""
    client.run(HELPERS)
    return client


@pytest.mark.parametrize(
    ("least", "groups", "size", "rest"), [(1, 14, 4, 2), (4, 14, 4, 2), (5, 9, 6, 4), (29, 1, 30, 28), (58, 1, 58, 0)]
)
def test_multiprocessors_are_split_into_groups(splitting: Client, least: int, groups: int, size: int, rest: int) -> None:
    """Groups are as large as asked, as the device allows at least, rounded up to its step; the rest is told."""
    assert splitting("whole.sm.smCount") == 58
    splitting.run(f"made, rest = split(64, {least})")
    assert splitting("len(made), made[0].sm.smCount, rest.sm.smCount") == [groups, size, rest]


def test_a_kernel_runs_on_its_contexts_multiprocessors_only(node: Node, splitting: Client) -> None:
    """What fits the whole device at once takes two waves on half of it, and as many as it needs on a tenth."""
    splitting.run("(half,), rest = split(1, 29); (few, *_), _ = split(9, 6); a = green(half); s = stream_of(a)")
    splitting.run(f"launch(f, {30 * BLOCKS}, s); launch(f, {30 * BLOCKS + 1}, s)")
    splitting.run(f"s = stream_of(green(few)); launch(f, {58 * BLOCKS}, s); ok(driver.cuStreamSynchronize(s))")
    splitting.run("ok(driver.cuCtxSetCurrent(ok(driver.cuCtxFromGreenCtx(a)))); ok(driver.cuCtxSynchronize())")
    assert node.books().devices[0].kernel_ns == 3 * LAUNCH_NS + (1 + 2 + 10) * BLOCK_NS


def test_parts_of_a_device_work_side_by_side(node: Node, splitting: Client) -> None:
    """Two green contexts with half of the device each keep it busy for as long as one of them works, not for both."""
    splitting.run("(half,), rest = split(1, 29); s, t = stream_of(green(half)), stream_of(green(rest))")
    splitting.run("g = kernel('long_kernel'); launch(g, 1, s); launch(g, 1, t)")
    splitting.run("ok(driver.cuStreamSynchronize(s)); ok(driver.cuStreamSynchronize(t))")
    device = node.books().devices[0]
    assert device.kernel_ns > 2_000_000_000
    assert device.busy_ns < 1_500_000_000


def test_a_green_context_has_the_primary_contexts_memory(splitting: Client) -> None:
    """What is allocated in it is there for the primary one, outlives it, and goes when the primary one is reset."""
    splitting.run("(part, *_), _ = split(1, 4); g = green(part); c = ok(driver.cuCtxFromGreenCtx(g))")
    splitting.run("p = ok(driver.cuCtxGetCurrent()); ok(driver.cuCtxSetCurrent(c)); d = allocate(1 << 20)")
    splitting.run("ok(driver.cuMemcpyHtoD(d, b'abcd', 4))")
    splitting.run("ok(driver.cuCtxSetCurrent(p)); ok(driver.cuGreenCtxDestroy(g))")
    assert splitting("read(d, 4).decode()") == "abcd"
    assert splitting("code(driver.cuCtxSetCurrent(c)), code(driver.cuGreenCtxDestroy(g))") == [
        "CUDA_ERROR_INVALID_CONTEXT",
        "CUDA_ERROR_INVALID_VALUE",
    ]
    splitting.run("g = green(part); ok(driver.cuDevicePrimaryCtxReset(0))")
    assert splitting("code(driver.cuGreenCtxDestroy(g))") == "CUDA_ERROR_INVALID_VALUE"


def test_streams_tell_whose_they_are(splitting: Client) -> None:
    """A stream of a green context names it, and another none; contexts tell what they have."""
    splitting.run("(part, *_), _ = split(1, 10); g = green(part); s, t = stream_of(g), ok(driver.cuStreamCreate(1))")
    assert splitting("int(ok(driver.cuStreamGetGreenCtx(s))) == int(g), int(ok(driver.cuStreamGetGreenCtx(t)) or 0)") == [True, 0]
    assert splitting("ok(driver.cuGreenCtxGetDevResource(g, SM)).sm.smCount") == 10
    assert splitting("ok(driver.cuCtxGetDevResource(ok(driver.cuCtxGetCurrent()), SM)).sm.smCount") == 58
    splitting.run("e = ok(driver.cuEventCreate(0)); launch(f, 1, s); ok(driver.cuGreenCtxRecordEvent(g, e))")
    splitting.run("ok(driver.cuEventSynchronize(e))")
    assert splitting("code(driver.cuStreamQuery(s))") == "CUDA_SUCCESS"


def test_bad_splits_are_refused(splitting: Client) -> None:
    """More than there is, another kind of resource, the same multiprocessors twice: the driver's own errors."""
    splitting.run("(part, *_), rest = split(1, 4)")
    assert splitting("code(driver.cuDevSmResourceSplitByCount(1, whole, 0, 59))") == "CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION"
    assert splitting("code(driver.cuDevResourceGenerateDesc([part, part], 2))") == "CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION"
    assert splitting("code(driver.cuDevResourceGenerateDesc([driver.CUdevResource()], 1))") == "CUDA_ERROR_INVALID_RESOURCE_TYPE"
    assert splitting("code(driver.cuGreenCtxStreamCreate(green(part), 0, 0))") == "CUDA_ERROR_INVALID_VALUE"
