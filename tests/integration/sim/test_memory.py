"""Device memory: what is asked, what it costs, and who gets it back."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from sim_node import Client, ClientError, Node

MIB = 1 << 20
GRANULE = 2 * MIB


def mem_info(client: Client) -> tuple[int, int]:
    free, total = client("ok(driver.cuMemGetInfo())")
    return free, total


@pytest.mark.parametrize("size", [1, 511, 512, MIB, GRANULE - 1, GRANULE, GRANULE + 1, 100 * MIB + 7])
def test_an_allocation_is_counted_to_the_byte_and_paid_in_granules(node: Node, client: Client, size: int) -> None:
    """The books count what was asked; the device loses whole granules; a free gives back both."""
    before, total = mem_info(client)
    client.run(f"p = allocate({size})")
    account = node.books().accounts(node.books().devices[0].uuid)[0]
    spent = -(-size // GRANULE) * GRANULE
    assert (account.requested_bytes, account.granule_bytes) == (size, spent)
    assert mem_info(client) == (before - spent, total)
    assert client("code(driver.cuMemFree(p))") == "CUDA_SUCCESS"
    after = node.books().accounts(node.books().devices[0].uuid)[0]
    assert (after.requested_bytes, after.granule_bytes, after.requested_peak_bytes) == (0, 0, size)
    assert mem_info(client) == (before, total)


def test_small_allocations_share_granules(node: Node, client: Client) -> None:
    """Four thousand and ninety-six units of 512 bytes fill one granule; one more opens the next."""
    client.run("ps = [allocate(300) for _ in range(4096)]")
    account = node.books().accounts(node.books().devices[0].uuid)[0]
    assert (account.requested_bytes, account.granule_bytes) == (300 * 4096, GRANULE)
    client.run("last = allocate(300)")
    assert node.books().devices[0].spent_bytes == 2 * GRANULE
    assert client("len(set(ps)) == len(ps) and all(p % 512 == 0 for p in ps)")
    client.run("for p in ps: ok(driver.cuMemFree(p))")
    assert node.books().devices[0].spent_bytes == GRANULE


def test_holes_are_used_again(node: Node, client: Client) -> None:
    """Freeing every other allocation and asking for as many again costs the device nothing more."""
    client.run("ps = [allocate(64 * 1024) for _ in range(320)]")
    spent = node.books().devices[0].spent_bytes
    client.run("for p in ps[::2]: ok(driver.cuMemFree(p))")
    client.run("qs = [allocate(64 * 1024) for _ in range(160)]")
    assert node.books().devices[0].spent_bytes == spent
    assert client("len(set(qs) | set(ps[1::2]))") == 320


def test_the_device_ends_where_it_says(node: Node, client: Client) -> None:
    """All that is free can be had, and not one byte more; the refusal is in the books and harms nothing."""
    free, _ = mem_info(client)
    client.run(f"p = allocate({free - free % GRANULE})")
    assert client("code(driver.cuMemAlloc(1))") == "CUDA_ERROR_OUT_OF_MEMORY"
    assert client("code(driver.cuMemAlloc(1 << 60))") == "CUDA_ERROR_OUT_OF_MEMORY"
    assert node.books().devices[0].refusals == 2
    client.run("ok(driver.cuMemFree(p))")
    client.run("q = allocate(1)")


def test_two_processes_share_one_device(node: Node, client: Client) -> None:
    """What one takes the other no longer finds; each has its own account."""
    other = node.client(CUDA_VISIBLE_DEVICES="0")
    other("start()")
    free, _ = mem_info(client)
    client.run(f"p = allocate({10 * GRANULE})")
    assert mem_info(other)[0] == free - 10 * GRANULE
    assert other(f"code(driver.cuMemAlloc({free - 9 * GRANULE}))") == "CUDA_ERROR_OUT_OF_MEMORY"
    books = node.books()
    mine, theirs = books.process(client.pid), books.process(other.pid)
    assert mine is not None
    assert theirs is not None
    assert (mine.accounts[0].requested_bytes, mine.accounts[0].refusals) == (10 * GRANULE, 0)
    assert (theirs.accounts[0].requested_bytes, theirs.accounts[0].refusals) == (0, 1)


def test_a_killed_process_gives_its_memory_back(node: Node, client: Client) -> None:
    """After SIGKILL the whole device can be had by the next process, and the books keep what the dead one did."""
    free, _ = mem_info(client)
    whole = free - free % GRANULE
    client.run(f"p = allocate({whole})")
    client.kill()
    heir = node.client(CUDA_VISIBLE_DEVICES="0")
    heir("start()")
    heir.run(f"p = allocate({whole})")
    books = node.books()
    assert books.process(client.pid) is None
    dead = next(p for p in books.processes if p.own_pid == client.pid)
    assert (dead.live, dead.accounts[0].requested_bytes, dead.accounts[0].requested_peak_bytes) == (False, 0, whole)


def test_a_context_takes_its_memory_with_it(node: Node, client: Client) -> None:
    """Releasing the primary context frees what was allocated in it."""
    client.run("ps = [allocate(s) for s in (100, 5000, 3 << 20)]")
    client.run("ok(driver.cuDevicePrimaryCtxRelease(0))")
    assert node.books().devices[0].spent_bytes == 0
    assert node.books().devices[0].requested_bytes == 0


def test_copies_are_exact(client: Client) -> None:
    """Bytes survive host to device, device to device and back, at any offset, and fills write what they say."""
    client.run("import os; data = os.urandom(3 << 20); a, b = allocate(3 << 20), allocate(3 << 20)")
    client.run("ok(driver.cuMemcpyHtoD(a, data, len(data))); ok(driver.cuMemcpyDtoD(b + 11, a + 7, 1000))")
    assert client("read(a, 3 << 20) == data and read(b + 11, 1000) == data[7:1007]")
    client.run("ok(driver.cuMemsetD32(a + 4, 0x01020304, 2)); ok(driver.cuMemsetD8(b, 0xEE, 5))")
    assert client("read(a, 12) == data[:4] + bytes([4, 3, 2, 1] * 2) and read(b, 5) == bytes([0xEE] * 5)")


def test_a_device_pointer_is_no_host_pointer(client: Client) -> None:
    """Copies past an allocation's end, from freed memory and to foreign addresses are refused."""
    client.run("a = allocate(1000); buffer = bytearray(4096)")
    assert client("code(driver.cuMemcpyDtoH(buffer, a, 1001))") == "CUDA_ERROR_INVALID_VALUE"
    assert client("code(driver.cuMemcpyHtoD(id(buffer), buffer, 8))") == "CUDA_ERROR_INVALID_VALUE"
    client.run("ok(driver.cuMemFree(a))")
    assert client("code(driver.cuMemcpyDtoH(buffer, a, 8))") == "CUDA_ERROR_INVALID_VALUE"
    assert client("code(driver.cuMemFree(a))") == "CUDA_ERROR_INVALID_VALUE"
    assert client("code(driver.cuMemAlloc(0))") == "CUDA_ERROR_INVALID_VALUE"


def test_an_address_inside_an_allocation_is_known(client: Client) -> None:
    """The range around any inner address is the allocation, for small and for large ones."""
    client.run("small, large = allocate(1300), allocate(5 << 20)")
    assert client("[int(v) for v in ok(driver.cuMemGetAddressRange(small + 1299))] == [small, 1300]")
    assert client("[int(v) for v in ok(driver.cuMemGetAddressRange(large + (4 << 20)))] == [large, 5 << 20]")


def test_a_child_of_fork_cannot_use_its_parents_driver(client: Client) -> None:
    """As with the real driver, and it must not be able to touch the parent's account."""
    child = "os.write(w, code(driver.cuMemAlloc(1)).encode()), os._exit(0)"
    client.run(
        f"import os; r, w = os.pipe(); pid = os.fork(); pid or ({child}); os.waitpid(pid, 0); seen = os.read(r, 99).decode()"
    )
    assert client("seen") == "CUDA_ERROR_NOT_INITIALIZED"
    with pytest.raises(ClientError, match="OUT_OF_MEMORY"):
        client("allocate(1 << 50)")


def test_a_process_in_another_pid_namespace_is_known_and_reclaimed(node: Node) -> None:
    """From outside it is listed under the pid that the outside knows, and its memory comes back when it is killed."""
    if subprocess.run(["unshare", "--pid", "--fork", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let us make a pid namespace")
    inside = node.client(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"], CUDA_VISIBLE_DEVICES="0")
    inside("start()")
    inside.run(f"import os; p = allocate({4 * GRANULE})")
    (process,) = [p for p in node.books().processes if p.live]
    assert process.own_pid == inside("os.getpid()") == 1
    children = Path(f"/proc/{inside.pid}/task/{inside.pid}/children").read_text().split()
    assert [str(process.pid)] == children
    os.kill(process.pid, signal.SIGKILL)
    inside.wait()
    assert node.books().devices[0].spent_bytes == 0
