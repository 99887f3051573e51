"""Memory pools: what they reserve, what is used of it, and what they keep."""

import pytest
from sim_node import Client, Node

MIB = 1 << 20

SETUP = """
A = driver.CUmemPool_attribute
def ask(pool, *names): return [int(ok(driver.cuMemPoolGetAttribute(pool, getattr(A, 'CU_MEMPOOL_ATTR_' + n)))) for n in names]
def counts(pool): return ask(pool, 'RESERVED_MEM_CURRENT', 'USED_MEM_CURRENT', 'RESERVED_MEM_HIGH', 'USED_MEM_HIGH')
def tell(pool, name, value):
    return code(driver.cuMemPoolSetAttribute(pool, getattr(A, 'CU_MEMPOOL_ATTR_' + name), driver.cuuint64_t(value)))
def props(device=0, handles=0):
    p = driver.CUmemPoolProps(); p.allocType = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    p.handleTypes = driver.CUmemAllocationHandleType(handles)
    p.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE; p.location.id = device
    return p
pool = ok(driver.cuDeviceGetDefaultMemPool(0))
take = lambda size: int(ok(driver.cuMemAllocAsync(size, 0)))
give = lambda address: ok(driver.cuMemFreeAsync(address, 0))
"""


@pytest.fixture
def pools(client: Client) -> Client:
    """A client that knows how to ask pools."""
    client.run(f"exec({SETUP!r}, globals())")
    return client


def spent(node: Node) -> tuple[int, int]:
    device = node.books().devices[0]
    return device.requested_bytes, device.spent_bytes


def test_what_is_freed_is_kept_until_a_synchronisation(node: Node, pools: Client) -> None:
    """Reserved, used and their high marks are real; freed memory goes back to the device with the next synchronisation."""
    pools.run("p, q = take(3 << 20), take(1000)")
    assert pools("counts(pool)") == [6 * MIB, 3 * MIB + 1024, 6 * MIB, 3 * MIB + 1024]
    pools.run("give(p)")
    assert pools("counts(pool)") == [6 * MIB, 1024, 6 * MIB, 3 * MIB + 1024]
    assert spent(node) == (1000, 6 * MIB)
    pools.run("ok(driver.cuStreamSynchronize(0))")
    assert pools("counts(pool)") == [2 * MIB, 1024, 6 * MIB, 3 * MIB + 1024]
    assert spent(node) == (1000, 2 * MIB)
    pools.run("give(q); ok(driver.cuCtxSynchronize())")
    assert pools("counts(pool)")[:2] == [0, 0]
    assert spent(node) == (0, 0)


def test_kept_memory_is_used_again_before_more_is_asked_for(node: Node, pools: Client) -> None:
    """An allocation of any size takes what the pool kept; the device pays for the difference alone."""
    pools.run("give(take(10 << 20)); p = take(7 << 20)")
    assert spent(node) == (7 * MIB, 10 * MIB)
    pools.run("q = take(5 << 20)")
    assert spent(node) == (12 * MIB, 14 * MIB)


def test_a_pool_may_be_of_another_device_than_the_stream(node: Node) -> None:
    """The device that the pool is of pays."""
    client = node.client(CUDA_VISIBLE_DEVICES="0,2")
    client.run("start()")
    client.run(f"exec({SETUP!r}, globals())")
    client.run("other = ok(driver.cuMemPoolCreate(props(1))); p = ok(driver.cuMemAllocFromPoolAsync(1000, other, 0))")
    assert [device.requested_bytes for device in node.books().devices] == [0, 0, 1000]
    client.run("give(p)")
    assert [device.requested_bytes for device in node.books().devices] == [0, 0, 0]


def test_the_release_threshold_stays_reserved(node: Node, pools: Client) -> None:
    """A synchronisation leaves as much reserved as the threshold says; trimming goes below it."""
    assert pools("tell(pool, 'RELEASE_THRESHOLD', 6 << 20)") == "CUDA_SUCCESS"
    pools.run("ps = [take(2 << 20) for _ in range(5)]; [give(p) for p in ps]")
    pools.run("e = ok(driver.cuEventCreate(0)); ok(driver.cuEventRecord(e, 0)); ok(driver.cuEventSynchronize(e))")
    assert pools("counts(pool)")[:2] == [6 * MIB, 0]
    assert spent(node) == (0, 6 * MIB)
    pools.run("ok(driver.cuMemPoolTrimTo(pool, 3 << 20))")
    assert spent(node) == (0, 4 * MIB)
    pools.run("ok(driver.cuMemPoolTrimTo(pool, 0))")
    assert spent(node) == (0, 0)


def test_kept_memory_never_makes_another_allocation_fail(node: Node, pools: Client) -> None:
    """When the device has no more, what pools keep unused is released first, and no refusal is counted."""
    pools.run("tell(pool, 'RELEASE_THRESHOLD', 1 << 60); give(take(1 << 30)); free, total = ok(driver.cuMemGetInfo())")
    pools.run("p = allocate(free + (1 << 30) - (2 << 20))")
    assert node.books().devices[0].refusals == 0
    pools.run("ok(driver.cuMemFree(p)); give(take(1 << 30)); h = ok(driver.cuMemAllocManaged(free + (1 << 30) - (2 << 20), 1))")
    assert node.books().devices[0].refusals == 0


def test_high_marks_can_be_set_back_and_nothing_else(pools: Client) -> None:
    """A high mark is set to what is now; current numbers cannot be set, and odd attributes are refused."""
    pools.run("p = take(8 << 20); give(p); q = take(2 << 20); ok(driver.cuCtxSynchronize())")
    assert pools("counts(pool)") == [2 * MIB, 2 * MIB, 8 * MIB, 8 * MIB]
    assert pools("[tell(pool, 'RESERVED_MEM_HIGH', 0), tell(pool, 'USED_MEM_HIGH', 0)]") == ["CUDA_SUCCESS"] * 2
    assert pools("counts(pool)") == [2 * MIB, 2 * MIB, 2 * MIB, 2 * MIB]
    assert pools("[tell(pool, 'USED_MEM_HIGH', 1), tell(pool, 'USED_MEM_CURRENT', 0)]") == ["CUDA_ERROR_INVALID_VALUE"] * 2


def test_a_pool_of_ones_own_ends_with_its_last_allocation(node: Node, pools: Client) -> None:
    """Destroying a pool leaves what is allocated in it until that is freed; its handle is no pool any more."""
    pools.run("own = ok(driver.cuMemPoolCreate(props())); p = int(ok(driver.cuMemAllocFromPoolAsync(5 << 20, own, 0)))")
    pools.run("ok(driver.cuDeviceSetMemPool(0, own)); q = take(1 << 20)")
    assert pools("int(ok(driver.cuDeviceGetMemPool(0))) == int(own)")
    pools.run("ok(driver.cuMemPoolDestroy(own)); ok(driver.cuMemcpyHtoD(p, b'x' * 100, 100))")
    assert pools("int(ok(driver.cuDeviceGetMemPool(0))) == int(pool)")
    assert pools("code(driver.cuMemAllocFromPoolAsync(1, own, 0))") == "CUDA_ERROR_INVALID_VALUE"
    assert spent(node) == (6 * MIB, 8 * MIB)
    pools.run("give(p); ok(driver.cuMemFree(q))")
    assert spent(node) == (0, 0)
    assert pools("code(driver.cuMemFree(p))") == "CUDA_ERROR_INVALID_VALUE"
    assert pools("code(driver.cuMemPoolDestroy(pool))") == "CUDA_ERROR_INVALID_VALUE"


def test_pools_are_found_by_location_and_by_pointer(pools: Client) -> None:
    """The calls of CUDA 13 name the same pools; a pointer knows its pool; access is the own device's."""
    pools.run("at = props().location; kind = props().allocType; p = take(100)")
    assert pools("int(ok(driver.cuMemGetDefaultMemPool(at, kind))) == int(ok(driver.cuMemGetMemPool(at, kind))) == int(pool)")
    pools.run("attribute = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE")
    assert pools("int(ok(driver.cuPointerGetAttribute(attribute, p))) == int(pool)")
    assert pools("int(ok(driver.cuMemPoolGetAccess(pool, at)))") == 3
    pools.run("own = ok(driver.cuMemPoolCreate(props())); ok(driver.cuMemSetMemPool(at, kind, own))")
    assert pools("int(ok(driver.cuMemGetMemPool(at, kind))) == int(own)")
    pools.run("at.id = 9")
    assert pools("code(driver.cuMemPoolGetAccess(pool, at))") == "CUDA_ERROR_INVALID_DEVICE"
    assert pools("code(driver.cuMemPoolCreate(props(9)))") == "CUDA_ERROR_INVALID_DEVICE"
