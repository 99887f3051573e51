"""Kernels: what they cost, in which order they run, and that nobody waits for the dead."""

from sim_node import Client, Node

LAUNCH_NS = 1_000
BLOCK_NS = 100_000
LONG_BLOCK_NS = 1_000_000_000
WAVE = 58 * 12  # an L4 holds 12 blocks of 128 threads on each of its 58 multiprocessors


def test_a_kernel_costs_its_waves(node: Node, client: Client) -> None:
    """Full waves and a started one are paid, each with one block's time, and every launch its overhead."""
    client.run("f = kernel()")
    client.run(f"launch(f, 1); launch(f, {WAVE}); launch(f, {WAVE + 1}); launch(f, {10 * WAVE}); ok(driver.cuCtxSynchronize())")
    device = node.books().devices[0]
    expected = 4 * LAUNCH_NS + (1 + 1 + 2 + 10) * BLOCK_NS
    assert (device.kernel_ns, device.busy_ns, device.launches) == (expected, expected, 4)


def test_a_launch_returns_before_its_kernel_ends(client: Client) -> None:
    """A stream with a second of work is not ready right after the launch, and ready once it was waited for."""
    client.run("s = ok(driver.cuStreamCreate(0)); launch(kernel('long_kernel'), 1, s); e = ok(driver.cuEventCreate(0))")
    client.run("ok(driver.cuEventRecord(e, s))")
    assert client("(code(driver.cuStreamQuery(s)), code(driver.cuEventQuery(e)))") == ["CUDA_ERROR_NOT_READY"] * 2
    client.run("ok(driver.cuStreamSynchronize(s))")
    assert client("(code(driver.cuStreamQuery(s)), code(driver.cuEventQuery(e)))") == ["CUDA_SUCCESS"] * 2


def test_events_measure_modelled_time(client: Client) -> None:
    """Between the ends of two kernels queued back to back lies exactly the second one's cost."""
    client.run("s = ok(driver.cuStreamCreate(0)); f, g = kernel('long_kernel'), kernel()")
    client.run("e = [ok(driver.cuEventCreate(0)) for _ in '12']; launch(f, 1, s); ok(driver.cuEventRecord(e[0], s))")
    client.run("[launch(g, 1, s) for _ in range(30)]; ok(driver.cuEventRecord(e[1], s))")
    client.run("ok(driver.cuEventSynchronize(e[1]))")
    milliseconds = client("ok(driver.cuEventElapsedTime(e[0], e[1]))")
    assert abs(milliseconds - 30 * (LAUNCH_NS + BLOCK_NS) / 1e6) < 1e-4


def test_old_events_keep_their_time(client: Client) -> None:
    """An event nobody asked about is still exact after thousands of later launches."""
    client.run("f, g = kernel('long_kernel'), kernel(); e = [ok(driver.cuEventCreate(0)) for _ in '12']")
    client.run("launch(f, 1); ok(driver.cuEventRecord(e[0], 0)); launch(g, 1); ok(driver.cuEventRecord(e[1], 0))")
    client.run("[launch(g, 1) for _ in range(6000)]; ok(driver.cuCtxSynchronize())")
    milliseconds = client("ok(driver.cuEventElapsedTime(e[0], e[1]))")
    assert abs(milliseconds - (LAUNCH_NS + BLOCK_NS) / 1e6) < 1e-4


def test_the_queue_is_bounded(node: Node, client: Client) -> None:
    """A launch beyond 1,024 in flight waits: when it returns, no more than that are left."""
    client.run("f = kernel(); [launch(f, 1) for _ in range(1600)]")
    account = node.books().accounts(node.books().devices[0].uuid)[0]
    assert account.launches == 1600
    assert account.completed >= 1600 - 1024


def test_processes_never_overlap_on_a_device(node: Node, client: Client) -> None:
    """The device was busy for exactly the sum of what two processes ran, and each has its own part in the books."""
    other = node.client(CUDA_VISIBLE_DEVICES="0")
    other("start()")
    for who, count in ((client, 300), (other, 100)):
        who.send(f"exec:f = kernel(); [launch(f, 1) for _ in range({count})]; ok(driver.cuCtxSynchronize())")
    client.answer()
    other.answer()
    books = node.books()
    mine, theirs = books.process(client.pid), books.process(other.pid)
    assert mine is not None
    assert theirs is not None
    cost = LAUNCH_NS + BLOCK_NS
    assert (mine.accounts[0].kernel_ns, theirs.accounts[0].kernel_ns) == (300 * cost, 100 * cost)
    assert books.devices[0].busy_ns == 400 * cost


def test_turns_are_fair_in_time_not_in_launches(node: Node, client: Client) -> None:
    """Of two processes with full queues, one with kernels ten times as long, neither gets far ahead of the other."""
    other = node.client(CUDA_VISIBLE_DEVICES="0")
    other("start()")
    client.run(f"f = kernel(); [launch(f, {10 * WAVE}) for _ in range(1000)]")
    other.run("f = kernel(); [launch(f, 1) for _ in range(1000)]")
    began = node.books()
    other.run("ok(driver.cuCtxSynchronize())")
    ended = node.books()
    gained = [ended.process(c.pid).accounts[0].kernel_ns - began.process(c.pid).accounts[0].kernel_ns for c in (client, other)]  # type: ignore[union-attr]
    total = sum(gained)
    assert total > 0
    assert 0.3 < gained[1] / total < 0.7


def test_the_work_of_the_dead_is_dropped(node: Node, client: Client) -> None:
    """A quarter of an hour of queued kernels dies with its process: a neighbour's kernel runs at once after."""
    client.run("f = kernel('long_kernel'); [launch(f, 1) for _ in range(900)]")
    client.kill()
    heir = node.client(CUDA_VISIBLE_DEVICES="0")
    heir("start()")
    heir.run("launch(kernel(), 1); ok(driver.cuCtxSynchronize())")
    books = node.books()
    assert books.devices[0].launches == 901
    assert books.devices[0].kernel_ns < 900 * LONG_BLOCK_NS


def test_bad_launches_are_refused(client: Client) -> None:
    """Too many threads, an empty grid, too much shared memory, no such kernel, an image that is none."""
    client.run("f = kernel(); go = lambda *a: code(driver.cuLaunchKernel(f, *a, 0, 0, 0))")
    assert client("go(1, 1, 1, 1025, 1, 1, 0)") == "CUDA_ERROR_INVALID_VALUE"
    assert client("go(0, 1, 1, 1, 1, 1, 0)") == "CUDA_ERROR_INVALID_VALUE"
    assert client("go(1, 1, 1, 1, 1, 1, 49153)") == "CUDA_ERROR_INVALID_VALUE"
    assert client("code(driver.cuModuleGetFunction(ok(driver.cuModuleLoadData(PTX)), b'absent'))") == "CUDA_ERROR_NOT_FOUND"
    assert client("code(driver.cuModuleLoadData(b'\\x01\\x02\\x03\\x04'))") == "CUDA_ERROR_INVALID_IMAGE"


def test_libraries_and_cooperative_launches_are_the_same_work(node: Node, client: Client) -> None:
    """A kernel taken from a library launches as a function does; a cooperative grid must fit the device at once."""
    client.run("k = ok(driver.cuLibraryGetKernel(ok(driver.cuLibraryLoadData(PTX, [], [], 0, [], [], 0)), b'short_kernel'))")
    client.run("launch(ok(driver.cuKernelGetFunction(k)), 1); ok(driver.cuCtxSynchronize())")
    client.run("f = kernel(); together = lambda n: code(driver.cuLaunchCooperativeKernel(f, n, 1, 1, 128, 1, 1, 0, 0, 0))")
    assert client(f"(together({WAVE}), together({WAVE + 1}))") == ["CUDA_SUCCESS", "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE"]
    client.run("ok(driver.cuCtxSynchronize())")
    assert node.books().devices[0].kernel_ns == 2 * (LAUNCH_NS + BLOCK_NS)
