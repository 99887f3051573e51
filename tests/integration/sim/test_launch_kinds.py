"""Launches on several devices by one call, and those of CUDA 1 to 3: the same work as any other."""

from sim_node import Client, Node

LAUNCH_NS = 1_000
BLOCK_NS = 100_000

PARTS = """
def part(ordinal, blocks=1):
    start(ordinal)
    made = driver.CUDA_LAUNCH_PARAMS()
    made.function, made.hStream = kernel(), ok(driver.cuStreamCreate(1))
    made.gridDimX, made.blockDimX = blocks, 128
    made.gridDimY = made.gridDimZ = made.blockDimY = made.blockDimZ = 1
    return made
def together(*parts, flags=0):
    return code(driver.cuLaunchCooperativeKernelMultiDevice(list(parts), len(parts), flags))
a, b, other_shape = part(0), part(1), part(1, blocks=2)
no_stream = part(1)
no_stream.hStream = 0
"""


def gang(node: Node) -> Client:
    """A program that sees the node's first and third device."""
    client = node.client(CUDA_VISIBLE_DEVICES="0,2")
    client.run(PARTS)
    return client


def test_a_launch_on_several_devices_runs_on_each(node: Node) -> None:
    """Each device runs its part, in the part's own stream, whatever context is current."""
    client = gang(node)
    assert client("together(a, b)") == "CUDA_SUCCESS"
    client.run("ok(driver.cuStreamSynchronize(a.hStream)); ok(driver.cuStreamSynchronize(b.hStream))")
    assert [node.books().devices[i].launches for i in (0, 2)] == [1, 1]
    assert node.books().devices[0].kernel_ns == LAUNCH_NS + BLOCK_NS


def test_a_bad_part_starts_none(node: Node) -> None:
    """Two parts on one device, of different shapes or without a stream of their own are refused, and nothing runs."""
    client = gang(node)
    for bad in ("a, a", "a, other_shape", "a, no_stream", "", "a, flags=4"):
        assert client(f"together({bad})") == "CUDA_ERROR_INVALID_VALUE", bad
    assert [device.launches for device in node.books().devices] == [0, 0, 0]


def test_the_oldest_launches_still_work(node: Node, client: Client) -> None:
    """A block that was set before is launched once, over a grid, and in a stream; without one the launch is refused."""
    client.run("f = kernel(); s = ok(driver.cuStreamCreate(1))")
    assert client("code(driver.cuLaunch(f))") == "CUDA_ERROR_INVALID_VALUE"
    client.run("ok(driver.cuFuncSetBlockShape(f, 128, 1, 1)); ok(driver.cuFuncSetSharedSize(f, 1024))")
    client.run("go = driver.cuLaunchGridAsync")
    assert client("[code(driver.cuLaunch(f)), code(driver.cuLaunchGrid(f, 2, 1)), code(go(f, 2, 2, s))]") == ["CUDA_SUCCESS"] * 3
    client.run("ok(driver.cuCtxSynchronize())")
    assert node.books().devices[0].kernel_ns == 3 * (LAUNCH_NS + BLOCK_NS)
    assert client("code(driver.cuFuncSetBlockShape(f, 0, 1, 1))") == "CUDA_ERROR_INVALID_VALUE"
