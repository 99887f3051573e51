"""Virtual memory: handles to physical memory, reserved addresses, and mappings between them."""

import pytest
from sim_node import Client, Node

MIB = 1 << 20
GRANULE = 2 * MIB

SETUP = """
prop = driver.CUmemAllocationProp()
prop.type = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
prop.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
access = driver.CUmemAccessDesc()
access.location = prop.location
access.flags = driver.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
G = 2 << 20
def mapped(*handles):
    at = int(ok(driver.cuMemAddressReserve(len(handles) * G, 0, 0, 0)))
    for i, handle in enumerate(handles): ok(driver.cuMemMap(at + i * G, G, 0, handle, 0))
    ok(driver.cuMemSetAccess(at, len(handles) * G, [access], 1))
    return at
"""


@pytest.fixture
def virtual(client: Client) -> Client:
    """A client that knows how to map memory."""
    client.run(f"exec({SETUP!r}, globals())")
    return client


def spent(node: Node) -> tuple[int, int]:
    device = node.books().devices[0]
    return device.requested_bytes, device.spent_bytes


def test_physical_memory_needs_no_context_and_is_charged_once(node: Node) -> None:
    """A handle is paid when it is made, by a process that has no context; mapping it costs nothing more."""
    client = node.client(CUDA_VISIBLE_DEVICES="0")
    client.run(f"ok(driver.cuInit(0)); exec({SETUP!r}, globals())")
    client.run("h = ok(driver.cuMemCreate(3 * G, prop, 0))")
    assert spent(node) == (3 * GRANULE, 3 * GRANULE)
    client.run("at = ok(driver.cuMemAddressReserve(3 * G, 0, 0, 0)); ok(driver.cuMemMap(at, 3 * G, 0, h, 0))")
    assert spent(node) == (3 * GRANULE, 3 * GRANULE)
    account = node.books().accounts(node.books().devices[0].uuid)[0]
    assert account.contexts == 0
    client.run("ok(driver.cuMemUnmap(at, 3 * G)); ok(driver.cuMemRelease(h)); ok(driver.cuMemAddressFree(at, 3 * G))")
    assert spent(node) == (0, 0)


def test_memory_lives_until_its_last_handle_and_mapping_are_gone(node: Node, virtual: Client) -> None:
    """A released handle's memory stays as long as it is mapped, an unmapped one's as long as it has a handle."""
    virtual.run("h = ok(driver.cuMemCreate(G, prop, 0)); at = mapped(h); ok(driver.cuMemRelease(h))")
    assert spent(node) == (GRANULE, GRANULE)
    assert virtual("code(driver.cuMemRelease(h))") == "CUDA_ERROR_INVALID_VALUE"
    virtual.run("again = ok(driver.cuMemRetainAllocationHandle(at)); ok(driver.cuMemUnmap(at, G))")
    assert spent(node) == (GRANULE, GRANULE)
    virtual.run("ok(driver.cuMemRelease(again))")
    assert spent(node) == (0, 0)


def test_one_memory_is_seen_at_two_addresses_and_copies_cross_mappings(virtual: Client) -> None:
    """What is written through one mapping is read through another, across the seam of two neighbouring mappings."""
    virtual.run("h, k = (ok(driver.cuMemCreate(G, prop, 0)) for _ in '12'); a = mapped(h, k); b = mapped(k, h)")
    virtual.run("data = bytes(range(256)) * 16; ok(driver.cuMemcpyHtoD(a + G - 2048, data, 4096))")
    assert virtual("read(b + G + G - 2048, 2048) + read(b, 2048) == data")
    virtual.run("ok(driver.cuMemUnmap(a, 2 * G)); c = mapped(h, k)")
    assert virtual("read(c + G - 2048, 4096) == data")


def test_memory_without_access_cannot_be_copied(virtual: Client) -> None:
    """A reservation, and a mapping before access is given, refuse copies; access is what was set."""
    virtual.run("h = ok(driver.cuMemCreate(G, prop, 0)); at = ok(driver.cuMemAddressReserve(2 * G, 0, 0, 0)); out = bytearray(8)")
    assert virtual("code(driver.cuMemcpyDtoH(out, at, 8))") == "CUDA_ERROR_INVALID_VALUE"
    virtual.run("ok(driver.cuMemMap(at, G, 0, h, 0))")
    assert virtual("code(driver.cuMemcpyDtoH(out, at, 8))") == "CUDA_ERROR_INVALID_VALUE"
    assert virtual("int(ok(driver.cuMemGetAccess(prop.location, at)))") == 0
    virtual.run("ok(driver.cuMemSetAccess(at, G, [access], 1)); ok(driver.cuMemcpyDtoH(out, at, 8))")
    assert virtual("int(ok(driver.cuMemGetAccess(prop.location, at)))") == 3
    assert virtual("code(driver.cuMemSetAccess(at, 2 * G, [access], 1))") == "CUDA_ERROR_INVALID_VALUE"
    assert virtual("code(driver.cuMemcpyDtoH(out, int(at) + G - 4, 8))") == "CUDA_ERROR_INVALID_VALUE"


def test_mappings_go_as_a_whole(virtual: Client) -> None:
    """Part of a mapping cannot be unmapped, nor mapped over, nor its reservation freed."""
    virtual.run("h = ok(driver.cuMemCreate(2 * G, prop, 0)); at = int(ok(driver.cuMemAddressReserve(4 * G, 0, 0, 0)))")
    virtual.run("ok(driver.cuMemMap(at, 2 * G, 0, h, 0))")
    for call in (
        "cuMemUnmap(at, G)",
        "cuMemUnmap(at + G, G)",
        "cuMemUnmap(at, 4 * G)",
        "cuMemMap(at + G, 2 * G, 0, h, 0)",
        "cuMemMap(at + 2 * G, 2 * G, G, h, 0)",
        "cuMemMap(at + 2 * G, G - 1, 0, h, 0)",
        "cuMemMap(at + 3 * G, 2 * G, 0, h, 0)",
        "cuMemMap(at + 2 * G, 2 * G, 0, 12345, 0)",
        "cuMemAddressFree(at, 4 * G)",
        "cuMemAddressFree(at + G, G)",
        "cuMemFree(at)",
    ):
        assert virtual(f"code(driver.{call})") == "CUDA_ERROR_INVALID_VALUE", call
    virtual.run("ok(driver.cuMemUnmap(at, 2 * G)); ok(driver.cuMemAddressFree(at, 4 * G)); ok(driver.cuMemRelease(h))")


def test_sizes_and_properties_are_checked(virtual: Client) -> None:
    """Granules only, a device that is there, memory of a device."""
    assert virtual(
        "[int(ok(driver.cuMemGetAllocationGranularity(prop, o))) for o in driver.CUmemAllocationGranularity_flags]"
    ) == [
        GRANULE,
        GRANULE,
    ]
    assert virtual("code(driver.cuMemCreate(G + 1, prop, 0))") == "CUDA_ERROR_INVALID_VALUE"
    assert virtual("code(driver.cuMemCreate(0, prop, 0))") == "CUDA_ERROR_INVALID_VALUE"
    assert virtual("code(driver.cuMemCreate(1 << 50, prop, 0))") == "CUDA_ERROR_OUT_OF_MEMORY"
    assert virtual("code(driver.cuMemAddressReserve(G, 3, 0, 0))") == "CUDA_ERROR_INVALID_VALUE"
    virtual.run(
        "far = driver.CUmemAllocationProp(); far.type = prop.type; far.location.type = prop.location.type; far.location.id = 7"
    )
    assert virtual("code(driver.cuMemCreate(G, far, 0))") == "CUDA_ERROR_INVALID_DEVICE"
    virtual.run("far.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_HOST_NUMA")
    assert virtual("code(driver.cuMemCreate(G, far, 0))") == "CUDA_ERROR_NOT_SUPPORTED"
    virtual.run("h = ok(driver.cuMemCreate(G, prop, 0)); back = ok(driver.cuMemGetAllocationPropertiesFromHandle(h))")
    assert virtual("(int(back.type), int(back.location.type), back.location.id)") == [1, 1, 0]


def test_a_mapping_is_known_as_a_pointer(virtual: Client) -> None:
    """Range, mapping and memory type of an address inside of the second of two mappings."""
    virtual.run("a = mapped(*(ok(driver.cuMemCreate(G, prop, 0)) for _ in '12')); P = driver.CUpointer_attribute")
    virtual.run("one = lambda n: int(ok(driver.cuPointerGetAttribute(getattr(P, f'CU_POINTER_ATTRIBUTE_{n}'), a + G + 7)))")
    virtual.run("what = lambda *names: [one(n) for n in names]")
    assert virtual("what('RANGE_START_ADDR', 'RANGE_SIZE', 'MAPPING_BASE_ADDR', 'MAPPING_SIZE') == [a, 2 * G, a + G, G]")
    assert virtual("what('MEMORY_TYPE', 'IS_MANAGED', 'DEVICE_ORDINAL', 'MAPPED')") == [2, 0, 0, 1]
    assert virtual("[int(v) for v in ok(driver.cuMemGetAddressRange(a + G + 7))] == [a + G, G]")


def test_a_killed_process_gives_back_what_it_had_mapped(node: Node, virtual: Client) -> None:
    """Handles and mappings die with their process, to the byte."""
    virtual.run("a = mapped(*(ok(driver.cuMemCreate(G, prop, 0)) for _ in range(20)))")
    assert spent(node) == (20 * GRANULE, 20 * GRANULE)
    virtual.kill()
    assert spent(node) == (0, 0)
