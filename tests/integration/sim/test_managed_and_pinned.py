"""Memory that the host touches too: managed, pinned, registered."""

from sim_node import Client, Node

MIB = 1 << 20
GRANULE = 2 * MIB


def test_managed_memory_is_the_hosts_and_the_devices(node: Node, client: Client) -> None:
    """The host writes through the pointer what a copy from the device's side reads; the device pays granules for it."""
    client.run("import ctypes; p = int(ok(driver.cuMemAllocManaged(1000, 1))); ctypes.memset(p, 0x5A, 1000)")
    assert client("read(p, 1000) == b'\\x5a' * 1000")
    client.run("ok(driver.cuMemsetD8(p, 7, 10))")
    assert client("ctypes.string_at(p, 10) == bytes([7] * 10)")
    account = node.books().accounts(node.books().devices[0].uuid)[0]
    assert (account.requested_bytes, account.granule_bytes) == (1000, GRANULE)
    assert client("code(driver.cuMemcpyDtoH(bytearray(1001), p, 1001))") == "CUDA_ERROR_INVALID_VALUE"
    client.run("ok(driver.cuMemFree(p))")
    assert node.books().devices[0].spent_bytes == 0
    assert client("code(driver.cuMemFree(p))") == "CUDA_ERROR_INVALID_VALUE"


def test_managed_memory_meets_the_end_of_the_device(client: Client) -> None:
    """It is charged where it is made, so more than the device has is refused."""
    client.run("free, total = ok(driver.cuMemGetInfo())")
    assert client("code(driver.cuMemAllocManaged(total + 1, 1))") == "CUDA_ERROR_OUT_OF_MEMORY"
    assert client("code(driver.cuMemAllocManaged(1, 3))") == "CUDA_ERROR_INVALID_VALUE"
    assert client("code(driver.cuMemAllocManaged(0, 1))") == "CUDA_ERROR_INVALID_VALUE"


def test_advice_and_prefetches_can_be_read_back(client: Client) -> None:
    """Each attribute of a managed range says what was last asked of it."""
    client.run("p = ok(driver.cuMemAllocManaged(4096, 1)); R, A = driver.CUmem_range_attribute, driver.CUmem_advise")
    client.run("here = driver.CUmemLocation(); here.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE; here.id = 0")
    client.run(
        "ask = lambda name, n=4: ok(driver.cuMemRangeGetAttribute(n, getattr(R, f'CU_MEM_RANGE_ATTRIBUTE_{name}'), p, 4096))"
    )
    assert client("(ask('READ_MOSTLY'), ask('PREFERRED_LOCATION'), ask('LAST_PREFETCH_LOCATION'))") == [0, -2, -2]
    client.run("ok(driver.cuMemAdvise(p, 4096, A.CU_MEM_ADVISE_SET_READ_MOSTLY, here))")
    client.run("ok(driver.cuMemAdvise(p, 4096, A.CU_MEM_ADVISE_SET_PREFERRED_LOCATION, here))")
    client.run("ok(driver.cuMemPrefetchAsync(p, 4096, here, 0, 0))")
    assert client("(ask('READ_MOSTLY'), ask('PREFERRED_LOCATION'), ask('LAST_PREFETCH_LOCATION'))") == [1, 0, 0]
    client.run("here.id = 9")
    assert client("code(driver.cuMemPrefetchAsync(p, 4096, here, 0, 0))") == "CUDA_ERROR_INVALID_DEVICE"
    assert client("code(driver.cuMemPrefetchAsync(p, 4097, here, 0, 0))") == "CUDA_ERROR_INVALID_VALUE"
    assert (
        client("code(driver.cuMemAdvise(allocate(4096), 4096, A.CU_MEM_ADVISE_SET_READ_MOSTLY, here))")
        == "CUDA_ERROR_INVALID_VALUE"
    )


def test_a_context_takes_managed_and_pinned_memory_with_it(node: Node, client: Client) -> None:
    """Destroying the context frees what was made in it: the pointers are unknown then, and nothing is charged."""
    client.run("p = ok(driver.cuMemAllocManaged(5 << 20, 1)); h = ok(driver.cuMemHostAlloc(100, 0))")
    client.run("ok(driver.cuDevicePrimaryCtxRelease(0)); start()")
    assert node.books().devices[0].spent_bytes == 0
    assert client("code(driver.cuMemFree(p))") == "CUDA_ERROR_INVALID_VALUE"
    assert client("code(driver.cuMemFreeHost(h))") == "CUDA_ERROR_INVALID_VALUE"


def test_pinned_memory_costs_the_device_nothing(node: Node, client: Client) -> None:
    """Host memory is known by its flags and its one address, and freed once."""
    client.run("h = ok(driver.cuMemHostAlloc(100_000, 4))")
    assert node.books().devices[0].spent_bytes == 0
    assert client("(ok(driver.cuMemHostGetFlags(h)), int(ok(driver.cuMemHostGetDevicePointer(h, 0))) == h)") == [6, True]
    client.run("P = driver.CUpointer_attribute; kind = P.CU_POINTER_ATTRIBUTE_MEMORY_TYPE")
    assert client("int(ok(driver.cuPointerGetAttribute(kind, h + 99_999)))") == 1
    assert client("code(driver.cuPointerGetAttribute(kind, h + 100_000))") == "CUDA_ERROR_INVALID_VALUE"
    assert client("[int(v) for v in ok(driver.cuMemGetAddressRange(h + 5))] == [h, 100_000]")
    assert client("(code(driver.cuMemHostUnregister(h)), code(driver.cuMemFreeHost(h)), code(driver.cuMemFreeHost(h)))") == [
        "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED",
        "CUDA_SUCCESS",
        "CUDA_ERROR_INVALID_VALUE",
    ]


def test_registered_memory_may_not_overlap(client: Client) -> None:
    """A range is registered once, unregistered once, and never freed by the driver."""
    client.run("import mmap, ctypes; m = mmap.mmap(-1, 1 << 20); b = ctypes.addressof(ctypes.c_char.from_buffer(m))")
    client.run("ok(driver.cuMemHostRegister(b + 4096, 8192, 0))")
    for start, size in ((4096, 8192), (0, 4097), (12287, 1), (0, 1 << 20)):
        assert client(f"code(driver.cuMemHostRegister(b + {start}, {size}, 0))") == "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED"
    assert client("code(driver.cuMemFreeHost(b + 4096))") == "CUDA_ERROR_INVALID_VALUE"
    client.run("ok(driver.cuMemHostUnregister(b + 4096)); ok(driver.cuMemHostRegister(b, 1 << 20, 0)); m[5] = 1")
    assert client("code(driver.cuMemHostUnregister(b + 4096))") == "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED"
