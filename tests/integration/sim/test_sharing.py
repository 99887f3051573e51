"""Memory between processes: handles, descriptors and pools; charged once, and exact after every death."""

import pytest
from sim_node import Client, Node

MIB = 1 << 20
GRANULE = 2 * MIB

SETUP = """
import ctypes, os, socket
prop = driver.CUmemAllocationProp()
prop.type = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
prop.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
FD = driver.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
prop.requestedHandleTypes = FD
access = driver.CUmemAccessDesc(); access.location = prop.location
access.flags = driver.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
G = 2 << 20
def mapped(handle, size=G):
    at = int(ok(driver.cuMemAddressReserve(size, 0, 0, 0)))
    ok(driver.cuMemMap(at, size, 0, handle, 0)); ok(driver.cuMemSetAccess(at, size, [access], 1))
    return at
def listen(path): globals()['inbox'] = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); inbox.bind(path)
def send(path, fd):
    out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); out.connect(path)
    socket.send_fds(out, [b'fd'], [fd]); os.close(fd); out.close()
def receive(): return socket.recv_fds(inbox, 8, 1)[1][0]
def text_of(struct): return ctypes.string_at(int(struct.getPtr()), 64).hex()
def filled(struct, text): ctypes.memmove(int(struct.getPtr()), bytes.fromhex(text), 64); return struct
def handle_of(address): return text_of(ok(driver.cuIpcGetMemHandle(address)))
def opened(text, flags=1): return driver.cuIpcOpenMemHandle(filled(driver.CUipcMemHandle(), text), flags)
"""


class Pair:
    """Two clients on one device, and the way to hand a descriptor from the first to the second."""

    def __init__(self, node: Node, mine: Client, theirs: Client) -> None:
        self.node, self.mine, self.theirs = node, mine, theirs
        self._inbox = str(node.directory / "inbox")
        theirs.run(f"listen({self._inbox!r})")

    def hand_over(self, expression: str, name: str) -> None:
        """Make the descriptor that ``expression`` gives in the first client the variable ``name`` of the second."""
        self.mine.run(f"send({self._inbox!r}, {expression})")
        self.theirs.run(f"{name} = receive()")

    def spent(self) -> tuple[int, int]:
        device = self.node.books().devices[0]
        return device.requested_bytes, device.spent_bytes

    def paid_by(self, client: Client) -> int:
        process = self.node.books().process(client.pid)
        assert process is not None
        return sum(account.granule_bytes for account in process.accounts)


@pytest.fixture
def pair(node: Node) -> Pair:
    """Two processes on the L4."""
    clients = []
    for _ in range(2):
        client = node.client(CUDA_VISIBLE_DEVICES="0")
        client.run(f"start(); exec({SETUP!r}, globals())")
        clients.append(client)
    return Pair(node, *clients)


def test_an_ipc_handle_opens_the_same_memory(pair: Pair) -> None:
    """Both processes see each other's writes, in small and large allocations; only the owner is charged."""
    for size in (5000, 3 * MIB):
        pair.mine.run(f"p = allocate({size}); ok(driver.cuMemcpyHtoD(p, b'mine' * 100, 400))")
        handle = pair.mine("handle_of(p)")
        before = pair.spent()
        pair.theirs.run(f"q = int(ok(opened({handle!r}))); ok(driver.cuMemcpyHtoD(q + 400, b'theirs', 6))")
        assert pair.theirs("read(q, 8) == b'minemine'")
        assert pair.mine("read(p + 400, 6) == b'theirs'")
        assert pair.theirs(f"[int(v) for v in ok(driver.cuMemGetAddressRange(q + 1))] == [q, {size}]")
        assert (pair.spent(), pair.paid_by(pair.theirs)) == (before, 0)
        assert pair.theirs(
            "[code(driver.cuMemFree(q)), code(driver.cuIpcCloseMemHandle(q)), code(driver.cuIpcCloseMemHandle(q))]"
        ) == [
            "CUDA_ERROR_INVALID_VALUE",
            "CUDA_SUCCESS",
            "CUDA_ERROR_INVALID_VALUE",
        ]


def test_an_ipc_handle_is_counted_per_context(pair: Pair) -> None:
    """Opening again gives the same address, which lives until it is closed as often."""
    handle = pair.mine("handle_of(allocate(100))")
    pair.theirs.run(f"a, b = (int(ok(opened({handle!r}))) for _ in '12'); ok(driver.cuIpcCloseMemHandle(a))")
    assert pair.theirs("a == b and len(read(b, 100))") == 100
    pair.theirs.run("ok(driver.cuIpcCloseMemHandle(b))")
    assert pair.theirs("code(driver.cuMemcpyDtoH(bytearray(1), b, 1))") != "CUDA_SUCCESS"


def test_an_ipc_handle_is_not_for_its_own_process(pair: Pair) -> None:
    """The owner cannot open its own handle, nor make one of memory that is not its own plain allocation."""
    handle = pair.mine("handle_of(allocate(100))")
    assert pair.mine(f"code(opened({handle!r}))") == "CUDA_ERROR_INVALID_CONTEXT"
    pair.mine.run("p = allocate(5000)")
    for what in (
        "p + 512",
        "ok(driver.cuMemAllocManaged(100, 1))",
        "ok(driver.cuMemAllocAsync(100, 0))",
        "0",
        "mapped(ok(driver.cuMemCreate(G, prop, 0)))",
    ):
        assert pair.mine(f"code(driver.cuIpcGetMemHandle({what}))") == "CUDA_ERROR_INVALID_VALUE", what
    assert pair.theirs("code(opened('00' * 64))") == "CUDA_ERROR_INVALID_VALUE"
    assert pair.theirs(f"code(opened({handle!r}, 2))") == "CUDA_ERROR_INVALID_VALUE"


@pytest.mark.parametrize("end", ["free", "kill"])
def test_an_ipc_handle_dies_with_its_memory(pair: Pair, end: str) -> None:
    """After the owner's free, or its death, the handle opens nothing, nothing is charged, and the importer lives on."""
    pair.mine.run("p = allocate(4 << 20); ok(driver.cuMemcpyHtoD(p, b'text', 4))")
    handle = pair.mine("handle_of(p)")
    pair.theirs.run(f"q = int(ok(opened({handle!r})))")
    if end == "kill":
        pair.mine.kill()
    else:
        pair.mine.run("ok(driver.cuMemFree(p))")
    assert pair.spent() == (0, 0)
    third = pair.node.client(CUDA_VISIBLE_DEVICES="0")
    third.run(f"start(); exec({SETUP!r}, globals())")
    assert third(f"code(opened({handle!r}))") == "CUDA_ERROR_INVALID_HANDLE"
    pair.theirs.run("read(q, 4); ok(driver.cuIpcCloseMemHandle(q)); r = allocate(100)")


def test_exported_contents_stay_where_they_were(pair: Pair) -> None:
    """Neighbours in the same granule, arrays among them, keep their contents when one allocation is exported."""
    pair.mine.run("p, n = allocate(1000), allocate(1000); ok(driver.cuMemcpyHtoD(n, bytes(range(250)) * 4, 1000))")
    pair.mine.run("d = driver.CUDA_ARRAY_DESCRIPTOR(); d.Width = 64; d.NumChannels = 1; d.Format = driver.CUarray_format(1)")
    pair.mine.run("a = ok(driver.cuArrayCreate(d)); ok(driver.cuMemcpyHtoA(a, 0, b'a' * 64, 64)); handle_of(p)")
    pair.mine.run("out = bytearray(64); ok(driver.cuMemcpyAtoH(out, a, 0, 64)); ok(driver.cuMemcpyHtoA(a, 0, b'b' * 64, 64))")
    assert pair.mine("out == b'a' * 64 and read(n, 1000) == bytes(range(250)) * 4")


def test_a_descriptor_stands_for_the_same_physical_memory(pair: Pair) -> None:
    """An exported handle is imported, mapped and written by another process, and charged once, to who made it."""
    pair.mine.run("h = ok(driver.cuMemCreate(2 * G, prop, 0)); a = mapped(h, 2 * G); ok(driver.cuMemcpyHtoD(a + G, b'mine', 4))")
    pair.hand_over("int(ok(driver.cuMemExportToShareableHandle(h, FD, 0)))", "fd")
    pair.theirs.run("k = ok(driver.cuMemImportFromShareableHandle(fd, FD)); os.close(fd); b = mapped(k, 2 * G)")
    pair.theirs.run("ok(driver.cuMemcpyHtoD(b, b'theirs', 6))")
    assert pair.theirs("read(b + G, 4) == b'mine'")
    assert pair.mine("read(a, 6) == b'theirs'")
    assert pair.spent() == (2 * GRANULE, 2 * GRANULE)
    assert (pair.paid_by(pair.mine), pair.paid_by(pair.theirs)) == (2 * GRANULE, 0)


@pytest.mark.parametrize("end", ["release", "kill"])
def test_shared_memory_lives_until_its_last_holder(pair: Pair, end: str) -> None:
    """When who made it lets go or dies, the importer pays and keeps the contents; when it lets go too, it is free."""
    pair.mine.run("h = ok(driver.cuMemCreate(G, prop, 0)); a = mapped(h); ok(driver.cuMemcpyHtoD(a, b'mine', 4))")
    pair.hand_over("int(ok(driver.cuMemExportToShareableHandle(h, FD, 0)))", "fd")
    pair.theirs.run("k = ok(driver.cuMemImportFromShareableHandle(fd, FD)); b = mapped(k)")
    if end == "kill":
        pair.mine.kill()
    else:
        pair.mine.run("ok(driver.cuMemUnmap(a, G)); ok(driver.cuMemRelease(h))")
        assert pair.paid_by(pair.mine) == 0
    assert pair.spent() == (GRANULE, GRANULE)
    assert pair.paid_by(pair.theirs) == GRANULE
    assert pair.theirs("read(b, 4) == b'mine'")
    pair.theirs.run("ok(driver.cuMemUnmap(b, G)); ok(driver.cuMemRelease(k))")
    assert pair.spent() == (0, 0)
    assert pair.theirs("code(driver.cuMemImportFromShareableHandle(fd, FD))") == "CUDA_ERROR_INVALID_VALUE"


def test_a_killed_importer_leaves_the_owners_memory_alone(pair: Pair) -> None:
    """The importer's death changes nothing for who made the memory."""
    pair.mine.run("h = ok(driver.cuMemCreate(G, prop, 0)); a = mapped(h); ok(driver.cuMemcpyHtoD(a, b'mine', 4))")
    pair.hand_over("int(ok(driver.cuMemExportToShareableHandle(h, FD, 0)))", "fd")
    pair.theirs.run("k = ok(driver.cuMemImportFromShareableHandle(fd, FD)); b = mapped(k)")
    pair.theirs.kill()
    assert pair.spent() == (GRANULE, GRANULE)
    assert pair.mine("read(a, 4) == b'mine'")
    pair.mine.run("ok(driver.cuMemUnmap(a, G)); ok(driver.cuMemRelease(h))")
    assert pair.spent() == (0, 0)


def test_only_what_may_be_exported_is(pair: Pair) -> None:
    """Memory made without a handle type is not exported; a descriptor of anything else is not imported."""
    pair.mine.run("prop.requestedHandleTypes = driver.CUmemAllocationHandleType(0); h = ok(driver.cuMemCreate(G, prop, 0))")
    assert pair.mine("code(driver.cuMemExportToShareableHandle(h, FD, 0))") == "CUDA_ERROR_INVALID_VALUE"
    pair.mine.run("fd = os.open('/dev/null', os.O_RDWR)")
    assert pair.mine("code(driver.cuMemImportFromShareableHandle(fd, FD))") == "CUDA_ERROR_INVALID_VALUE"
    assert pair.mine("code(driver.cuMemImportFromShareableHandle(9999, FD))") == "CUDA_ERROR_INVALID_VALUE"


def test_external_memory_maps_buffers_and_arrays(pair: Pair) -> None:
    """Memory imported as external is mapped in parts, charged to who made it, and lives until it is no longer mapped."""
    pair.mine.run("h = ok(driver.cuMemCreate(G, prop, 0)); a = mapped(h); ok(driver.cuMemcpyHtoD(a + 4096, b'mine', 4))")
    pair.hand_over("int(ok(driver.cuMemExportToShareableHandle(h, FD, 0)))", "fd")
    pair.theirs.run("d = driver.CUDA_EXTERNAL_MEMORY_HANDLE_DESC(); d.handle.fd = fd; d.size = G")
    pair.theirs.run("d.type = driver.CUexternalMemoryHandleType.CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD")
    pair.theirs.run(
        "e = ok(driver.cuImportExternalMemory(d)); w = driver.CUDA_EXTERNAL_MEMORY_BUFFER_DESC(); w.offset, w.size = 4096, 64"
    )
    pair.theirs.run("b = int(ok(driver.cuExternalMemoryGetMappedBuffer(e, w))); ok(driver.cuMemcpyHtoD(b + 4, b'theirs', 6))")
    assert pair.theirs("read(b, 4) == b'mine'")
    assert pair.mine("read(a + 4100, 6) == b'theirs'")
    pair.theirs.run("m = driver.CUDA_EXTERNAL_MEMORY_MIPMAPPED_ARRAY_DESC(); m.offset, m.numLevels = 4096, 1; x = m.arrayDesc")
    pair.theirs.run("x.Width, x.Height, x.NumChannels, x.Format = 16, 4, 1, driver.CUarray_format(1); m.arrayDesc = x")
    pair.theirs.run(
        "mip = ok(driver.cuExternalMemoryGetMappedMipmappedArray(e, m)); level = ok(driver.cuMipmappedArrayGetLevel(mip, 0))"
    )
    pair.theirs.run("out = bytearray(10); ok(driver.cuMemcpyAtoH(out, level, 0, 10))")
    assert pair.theirs("out == b'minetheirs'")
    assert (pair.spent()[1], pair.paid_by(pair.theirs)) == (GRANULE, 0)
    pair.theirs.run("w.size = G")
    assert pair.theirs("code(driver.cuExternalMemoryGetMappedBuffer(e, w))") == "CUDA_ERROR_INVALID_VALUE"
    pair.theirs.run("ok(driver.cuDestroyExternalMemory(e)); ok(driver.cuMipmappedArrayDestroy(mip))")
    pair.mine.run("ok(driver.cuMemUnmap(a, G)); ok(driver.cuMemRelease(h))")
    assert pair.paid_by(pair.theirs) == GRANULE
    pair.theirs.run("ok(driver.cuMemFree(b))")
    assert pair.spent() == (0, 0)
    assert pair.theirs("code(driver.cuDestroyExternalMemory(e))") == "CUDA_ERROR_INVALID_HANDLE"


def test_a_pool_is_shared_pointer_by_pointer(pair: Pair) -> None:
    """An imported pool gives its owner's allocations and makes none; the owner is charged; frees are each side's own."""
    pair.mine.run("pp = driver.CUmemPoolProps(); pp.allocType, pp.location, pp.handleTypes = prop.type, prop.location, FD")
    pair.mine.run("pool = ok(driver.cuMemPoolCreate(pp)); p = int(ok(driver.cuMemAllocFromPoolAsync(3 << 20, pool, 0)))")
    pair.mine.run("ok(driver.cuMemcpyHtoD(p, b'mine', 4)); data = text_of(ok(driver.cuMemPoolExportPointer(p)))")
    pair.hand_over("int(ok(driver.cuMemPoolExportToShareableHandle(pool, FD, 0)))", "fd")
    pair.theirs.run("pool = ok(driver.cuMemPoolImportFromShareableHandle(fd, FD, 0))")
    pair.theirs.run(f"x = filled(driver.CUmemPoolPtrExportData(), {pair.mine('data')!r})")
    pair.theirs.run("q = int(ok(driver.cuMemPoolImportPointer(pool, x))); ok(driver.cuMemcpyHtoD(q + 4, b'theirs', 6))")
    assert pair.mine("read(p, 10) == b'minetheirs'")
    assert pair.theirs("code(driver.cuMemAllocFromPoolAsync(100, pool, 0))") == "CUDA_ERROR_INVALID_VALUE"
    assert (pair.spent(), pair.paid_by(pair.theirs)) == ((3 * MIB, 4 * MIB), 0)
    pair.theirs.run("ok(driver.cuMemFreeAsync(q, 0)); ok(driver.cuMemPoolDestroy(pool))")
    assert pair.mine("read(p, 4) == b'mine'")
    pair.mine.run("ok(driver.cuMemFreeAsync(p, 0)); ok(driver.cuMemPoolDestroy(pool))")
    assert pair.spent() == (0, 0)
