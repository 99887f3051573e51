"""Arrays, mip chains, and the texture and surface objects on them."""

import pytest
from sim_node import Client, Node

MIB = 1 << 20
GRANULE = 2 * MIB

SETUP = """
def d3(width, height=0, depth=0, format=0x20, channels=1, flags=0):
    d = driver.CUDA_ARRAY3D_DESCRIPTOR()
    d.Width, d.Height, d.Depth, d.NumChannels, d.Flags = width, height, depth, channels, flags
    d.Format = driver.CUarray_format(format)
    return d
def make(*a, **k): return ok(driver.cuArray3DCreate(d3(*a, **k)))
def refused(*a, **k): return code(driver.cuArray3DCreate(d3(*a, **k)))
def box(to, source, width, height, depth, to_at=(0, 0, 0), source_at=(0, 0, 0)):
    c = driver.CUDA_MEMCPY3D(); T = driver.CUmemorytype
    c.WidthInBytes, c.Height, c.Depth = width, height, depth
    c.srcXInBytes, c.srcY, c.srcZ = source_at
    c.dstXInBytes, c.dstY, c.dstZ = to_at
    for side, what in (('src', source), ('dst', to)):
        if isinstance(what, driver.CUarray): kind, name, value = T.CU_MEMORYTYPE_ARRAY, 'Array', what
        elif isinstance(what, int): kind, name, value = T.CU_MEMORYTYPE_DEVICE, 'Device', what
        else: kind, name, value = T.CU_MEMORYTYPE_HOST, 'Host', what
        setattr(c, side + 'MemoryType', kind); setattr(c, side + name, value)
    return code(driver.cuMemcpy3D(c))
"""


@pytest.fixture
def arrays(client: Client) -> Client:
    """A client that knows how to make arrays."""
    client.run(f"exec({SETUP!r}, globals())")
    return client


def spent(node: Node) -> tuple[int, int]:
    device = node.books().devices[0]
    return device.requested_bytes, device.spent_bytes


@pytest.mark.parametrize(
    ("what", "texels"),
    [
        ("1000", 4 * 1000),
        ("1000, 700, format=0x02, channels=4", 8 * 1000 * 700),
        ("64, 32, 16, format=0x01", 64 * 32 * 16),
        ("64, 0, 7, flags=1", 4 * 64 * 7),
        ("32, 32, 12, flags=5", 4 * 32 * 32 * 12),
        ("512, 256, format=0xb0, channels=3", 512 * 256 * 3 // 2),
        ("100, 100, format=0xc2, channels=4", 100 * 100 * 4),
    ],
)
def test_an_array_costs_its_texels(node: Node, arrays: Client, what: str, texels: int) -> None:
    """One, two and three dimensions, layers, cubes and planes are charged to the byte and given back once."""
    arrays.run(f"a = make({what})")
    assert spent(node) == (texels, -(-texels // GRANULE) * GRANULE)
    assert arrays("code(driver.cuArrayDestroy(a))") == "CUDA_SUCCESS"
    assert spent(node) == (0, 0)
    assert arrays("code(driver.cuArrayDestroy(a))") == "CUDA_ERROR_INVALID_HANDLE"


def test_a_mip_chain_costs_all_its_levels(node: Node, arrays: Client) -> None:
    """Levels halve down to one texel, are arrays of their own, and go with the chain."""
    arrays.run("m = ok(driver.cuMipmappedArrayCreate(d3(8, 4, format=0x01), 100))")
    assert spent(node)[0] == 8 * 4 + 4 * 2 + 2 * 1 + 1
    arrays.run("levels = [ok(driver.cuMipmappedArrayGetLevel(m, i)) for i in range(4)]")
    assert arrays("[(d.Width, d.Height) for d in (ok(driver.cuArray3DGetDescriptor(l)) for l in levels)]") == [
        [8, 4],
        [4, 2],
        [2, 1],
        [1, 1],
    ]
    assert arrays("code(driver.cuMipmappedArrayGetLevel(m, 4))") == "CUDA_ERROR_INVALID_VALUE"
    assert arrays("code(driver.cuArrayDestroy(levels[0]))") == "CUDA_ERROR_INVALID_VALUE"
    arrays.run("ok(driver.cuMipmappedArrayDestroy(m))")
    assert spent(node) == (0, 0)
    assert arrays("code(driver.cuArray3DGetDescriptor(levels[1]))") == "CUDA_ERROR_INVALID_HANDLE"


def test_boxes_of_arrays_are_copied_exactly(arrays: Client) -> None:
    """Any box goes from host to array, array to array, array to device and back, and nothing beside it changes."""
    arrays.run("import os; data = os.urandom(16 * 12 * 10); a, b = (make(4, 12, 10) for _ in '12'); p = allocate(16 * 12 * 10)")
    assert arrays("[box(a, data, 16, 12, 10), box(b, bytes(1920), 16, 12, 10)]") == ["CUDA_SUCCESS"] * 2
    assert arrays("box(b, a, 5, 3, 2, (7, 1, 4), (3, 8, 6))") == "CUDA_SUCCESS"
    arrays.run("back = bytearray(1920); box(back, b, 16, 12, 10)")
    arrays.run(
        "want = bytearray(1920)\n"
        "for z in range(2):\n"
        "    for y in range(3):\n"
        "        at, source = ((4 + z) * 12 + 1 + y) * 16 + 7, ((6 + z) * 12 + 8 + y) * 16 + 3\n"
        "        want[at:at + 5] = data[source:source + 5]"
    )
    assert arrays("back == want")
    assert arrays("box(p, a, 16, 12, 10)") == "CUDA_SUCCESS"
    assert arrays("read(p, 1920) == data")
    for outside in (
        "box(a, b, 17, 1, 1)",
        "box(a, b, 8, 1, 1, (9, 0, 0))",
        "box(a, b, 1, 13, 1)",
        "box(a, b, 1, 1, 2, (0, 0, 9))",
    ):
        assert arrays(outside) == "CUDA_ERROR_INVALID_VALUE", outside


def test_rows_of_arrays_are_copied_exactly(arrays: Client) -> None:
    """The calls for one row: host, device and array on either side, at offsets in bytes."""
    arrays.run(
        "a, b = make(64, format=0x01), make(64, format=0x01); p = allocate(64); data = bytes(range(64)); out = bytearray(64)"
    )
    arrays.run(
        "ok(driver.cuMemcpyHtoA(a, 0, data, 64)); ok(driver.cuMemcpyAtoA(b, 32, a, 8, 32)); ok(driver.cuMemcpyAtoD(p, a, 4, 60))"
    )
    arrays.run("ok(driver.cuMemcpyDtoA(b, 0, p, 16)); ok(driver.cuMemcpyAtoHAsync(out, b, 0, 64, 0))")
    assert arrays("out[:16] == data[4:20] and out[32:] == data[8:40] and out[16:32] == bytes(16)")
    assert arrays("code(driver.cuMemcpyHtoA(a, 1, data, 64))") == "CUDA_ERROR_INVALID_VALUE"
    assert arrays("code(driver.cuMemcpyAtoH(out, 4711, 0, 8))") == "CUDA_ERROR_INVALID_VALUE"


def test_planes_are_arrays_inside_of_their_array(node: Node, arrays: Client) -> None:
    """Brightness and colour of an NV12 picture are copied apart, cost nothing more, and go with the picture."""
    arrays.run("a = make(8, 4, format=0xb0, channels=3); y, uv = (ok(driver.cuArrayGetPlane(a, i)) for i in (0, 1))")
    assert spent(node)[0] == 48
    arrays.run("box(y, bytes([1]) * 32, 8, 4, 1); box(uv, bytes([2]) * 16, 8, 2, 1); out = bytearray(32); box(out, y, 8, 4, 1)")
    assert arrays("out == bytes([1]) * 32")
    assert arrays("[d.NumChannels for d in (ok(driver.cuArray3DGetDescriptor(p)) for p in (y, uv))]") == [1, 2]
    assert arrays("code(driver.cuArrayGetPlane(a, 2))") == "CUDA_ERROR_INVALID_VALUE"
    arrays.run("ok(driver.cuArrayDestroy(a))")
    assert arrays("box(out, y, 8, 4, 1)") == "CUDA_ERROR_INVALID_VALUE"


def test_impossible_arrays_are_refused(node: Node, arrays: Client) -> None:
    """Bad shapes are invalid, formats without a model not supported, what does not fit out of memory; nothing is charged."""
    for what in (
        "0",
        "4, 0, 4",
        "4, 4, 5, flags=4",
        "4, 5, 6, flags=4",
        "4, flags=1",
        "4, channels=3",
        "4, format=0xc0, channels=2",
        "200000",
        "4, flags=0x1000",
    ):
        assert arrays(f"refused({what})") == "CUDA_ERROR_INVALID_VALUE", what
    assert arrays("[refused(4, 4, flags=0x40), refused(4, 4, format=0x91)]") == ["CUDA_ERROR_NOT_SUPPORTED"] * 2
    assert arrays("refused(16384, 16384, 1000, channels=4)") == "CUDA_ERROR_OUT_OF_MEMORY"
    assert spent(node) == (0, 0)


def test_deferred_arrays_say_what_they_would_need(node: Node, arrays: Client) -> None:
    """An array without memory costs nothing, tells its requirements, and cannot be copied."""
    arrays.run("a = make(1024, 1024, flags=0x80); need = ok(driver.cuArrayGetMemoryRequirements(a, 0))")
    assert arrays("(need.size, need.alignment)") == [2 * GRANULE, GRANULE]
    assert spent(node) == (0, 0)
    assert arrays("box(bytearray(4), a, 4, 1, 1)") == "CUDA_ERROR_INVALID_VALUE"
    assert arrays("code(driver.cuArrayGetMemoryRequirements(make(4), 0))") == "CUDA_ERROR_INVALID_VALUE"


def test_a_context_takes_its_arrays_with_it(node: Node, arrays: Client) -> None:
    """Arrays, planes and chains of a destroyed context are unknown afterwards and cost nothing."""
    arrays.run(
        "a = make(2048, 2048); m = ok(driver.cuMipmappedArrayCreate(d3(256, 256), 9)); n = make(64, 64, format=0xb0, channels=3)"
    )
    arrays.run("ok(driver.cuDevicePrimaryCtxRelease(0)); start()")
    assert spent(node) == (0, 0)
    assert arrays("code(driver.cuArrayDestroy(a))") == "CUDA_ERROR_INVALID_HANDLE"
    assert arrays("code(driver.cuMipmappedArrayDestroy(m))") == "CUDA_ERROR_INVALID_HANDLE"


def test_texture_and_surface_objects_describe_what_is_there(arrays: Client) -> None:
    """Objects are made on live arrays and memory, say what they were made of, and are destroyed once."""
    arrays.run(
        "r = driver.CUDA_RESOURCE_DESC(); r.resType = driver.CUresourcetype.CU_RESOURCE_TYPE_ARRAY; a = make(64, 64, flags=2)"
    )
    arrays.run("r.res.array.hArray = a; t = driver.CUDA_TEXTURE_DESC(); t.maxAnisotropy = 7")
    arrays.run("o = ok(driver.cuTexObjectCreate(r, t, None)); s = ok(driver.cuSurfObjectCreate(r))")
    assert arrays("ok(driver.cuTexObjectGetTextureDesc(o)).maxAnisotropy") == 7
    arrays.run("descs = (ok(driver.cuTexObjectGetResourceDesc(o)), ok(driver.cuSurfObjectGetResourceDesc(s)))")
    arrays.run("of = [int(d.res.array.hArray) for d in descs]")
    assert arrays("of == [int(a)] * 2")
    assert arrays("code(driver.cuTexObjectGetResourceViewDesc(o))") == "CUDA_ERROR_INVALID_VALUE"
    assert arrays("[code(driver.cuTexObjectDestroy(o)), code(driver.cuTexObjectDestroy(o))]") == [
        "CUDA_SUCCESS",
        "CUDA_ERROR_INVALID_VALUE",
    ]
    arrays.run("r.res.array.hArray = make(64, 64)")
    assert arrays("code(driver.cuSurfObjectCreate(r))") == "CUDA_ERROR_INVALID_VALUE"
    arrays.run("ok(driver.cuArrayDestroy(a)); r.res.array.hArray = a")
    assert arrays("code(driver.cuTexObjectCreate(r, t, None))") == "CUDA_ERROR_INVALID_HANDLE"
