"""Devices as clients see them, and the ways into the library."""

import ctypes
import subprocess
import sys

import pytest
from sim_node import Client, Node

from mica.hardware import device_uuid

NAMES = "[ok(driver.cuDeviceGetName(96, i)).split(b'\\0')[0] for i in range(ok(driver.cuDeviceGetCount()))]"


def test_nvml_shows_the_catalogue(node: Node) -> None:
    """Every device has its model's name, memory, capability and PCI id, and the UUID that its node and index give it."""
    client = node.client()
    client.run("pynvml.nvmlInit()")
    for index, model in enumerate(device.model for device in node.file.devices()):
        client.run(f"h = pynvml.nvmlDeviceGetHandleByIndex({index})")
        client.run("m = pynvml.nvmlDeviceGetMemoryInfo(h, version=pynvml.nvmlMemory_v2)")
        assert client("(pynvml.nvmlDeviceGetName(h), pynvml.nvmlDeviceGetUUID(h))") == [model.name, device_uuid("simtest", index)]
        assert client("(m.version, m.total, m.reserved, m.free, m.used)") == [
            0x02000028,
            model.vram_bytes,
            model.reserve_bytes,
            model.usable_bytes,
            0,
        ]
        assert client("pynvml.nvmlDeviceGetCudaComputeCapability(h)") == list(model.capability)
        assert client("pynvml.nvmlDeviceGetPciInfo(h).pciDeviceId") == model.pci_device_id << 16 | 0x10DE
        assert client("pynvml.nvmlDeviceGetHandleByUUID(pynvml.nvmlDeviceGetUUID(h)).contents is not None")


def test_a_memory_struct_of_another_version_is_refused(node: Node) -> None:
    """The version field is checked, not ignored."""
    client = node.client()
    client.run("import ctypes; pynvml.nvmlInit(); m = pynvml.c_nvmlMemory_v2_t(); m.version = 7")
    call = "pynvml.nvmlLib.nvmlDeviceGetMemoryInfo_v2(pynvml.nvmlDeviceGetHandleByIndex(0), ctypes.byref(m))"
    assert client(call) == 25


def test_a_process_is_listed_while_it_has_a_context(node: Node) -> None:
    """Not before the primary context is retained, with its memory while it is, and not after."""
    client = node.client(CUDA_VISIBLE_DEVICES="0")
    client.run("pynvml.nvmlInit(); h = pynvml.nvmlDeviceGetHandleByIndex(0); ok(driver.cuInit(0))")
    listed = "[(p.pid, p.usedGpuMemory) for p in pynvml.nvmlDeviceGetComputeRunningProcesses(h)]"
    assert client(listed) == []
    client.run("start(); p = allocate(5 << 20)")
    assert client(listed) == [[client.pid, 6 << 20]]
    client.run("ok(driver.cuDevicePrimaryCtxRelease(0))")
    assert client(listed) == []


def test_a_context_costs_what_the_node_says(node: Node) -> None:
    """With a footprint configured, a process pays it once per device and gets it back with the context."""
    node.describe("name = 'simtest'\ndevice = [{ model = 'L4' }]\ncosts = { context_bytes = 314572800 }\n")
    client = node.client()
    client("start()")
    free, total = client("ok(driver.cuMemGetInfo())")
    assert total - free == 314572800
    client.run("c = ok(driver.cuCtxCreate(None, 0, 0))")
    assert client("ok(driver.cuMemGetInfo())")[0] == free
    client.run("ok(driver.cuCtxDestroy(c)); ok(driver.cuDevicePrimaryCtxRelease(0))")
    assert node.books().devices[0].spent_bytes == 0


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("0", ["NVIDIA L4"]),
        ("2", ["Tesla P40"]),
        ("2,0", ["Tesla P40", "NVIDIA L4"]),
        ("0,9,2", ["NVIDIA L4"]),
        ("0,0", ["NVIDIA L4"]),
        (device_uuid("simtest", 2), ["Tesla P40"]),
        (device_uuid("simtest", 2)[:10], ["Tesla P40"]),
    ],
)
def test_visible_devices_are_chosen_and_ordered(node: Node, visible: str, expected: list[str]) -> None:
    """Indices, UUIDs and their beginnings select devices in the order given, up to the first that means nothing."""
    client = node.client(CUDA_VISIBLE_DEVICES=visible)
    client.run("ok(driver.cuInit(0))")
    assert client(NAMES) == expected


@pytest.mark.parametrize("visible", ["", "-1", "GPU-ffffffff", "nonsense", "MIG-00000000-0000-4000-8000-000000000000", "1"])
def test_nothing_visible_is_no_device(node: Node, visible: str) -> None:
    """Entries that name nothing, or a device in MIG mode without an instance, leave no device."""
    assert node.client(CUDA_VISIBLE_DEVICES=visible)("code(driver.cuInit(0))") == "CUDA_ERROR_NO_DEVICE"


def test_by_default_all_but_unpartitioned_mig_devices_are_visible(node: Node) -> None:
    """A device in MIG mode that has no instance offers nothing to run on."""
    client = node.client()
    client.run("ok(driver.cuInit(0))")
    assert client(NAMES) == ["NVIDIA L4", "Tesla P40"]


def test_without_a_node_there_is_one_clear_line(node: Node) -> None:
    """A missing description fails the first call and says where it was looked for."""
    (node.directory / "node.desc").unlink()
    code = "from cuda.bindings import driver; print(driver.cuInit(0)[0].name)"
    done = subprocess.run([sys.executable, "-c", code], env=node.environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "CUDA_ERROR_NO_DEVICE"
    assert done.stderr.count("\n") == 1
    assert str(node.directory / "node.desc") in done.stderr


LOOK_UP = """
import ctypes
lib = ctypes.CDLL("libcuda.so.1")

def at(name, version, flags=0):
    found, status = ctypes.c_void_p(), ctypes.c_int(-1)
    result = lib.cuGetProcAddress_v2(name.encode(), ctypes.byref(found), version, ctypes.c_uint64(flags), ctypes.byref(status))
    return result, found.value, status.value

def symbol(name):
    return ctypes.cast(getattr(lib, name), ctypes.c_void_p).value
"""


@pytest.fixture
def lookup(node: Node) -> Client:
    """A program that looks functions up."""
    made = node.client()
    made.run(LOOK_UP)
    return made


@pytest.mark.parametrize(
    ("name", "version", "flags", "symbol"),
    [
        ("cuCtxCreate", 3020, 0, "cuCtxCreate_v2"),
        ("cuCtxCreate", 11040, 0, "cuCtxCreate_v3"),
        ("cuCtxCreate", 13000, 0, "cuCtxCreate_v4"),
        ("cuMemAlloc", 12000, 2, "cuMemAlloc_v2"),
        ("cuLaunchKernel", 12000, 0, "cuLaunchKernel"),
        ("cuLaunchKernel", 12000, 1, "cuLaunchKernel"),
        ("cuLaunchKernel", 12000, 2, "cuLaunchKernel_ptsz"),
        ("cuLaunchKernel", 4000, 2, "cuLaunchKernel"),
        ("cuMemcpyHtoD", 12000, 2, "cuMemcpyHtoD_v2_ptds"),
        ("cuGetProcAddress", 11030, 0, "cuGetProcAddress"),
        ("cuGetProcAddress", 12000, 0, "cuGetProcAddress_v2"),
        ("cuGraphLaunch", 12000, 2, "cuGraphLaunch_ptsz"),
    ],
)
def test_look_up_honours_version_and_stream_flags(lookup: Client, name: str, version: int, flags: int, symbol: str) -> None:
    """The newest form not newer than asked, with the per-thread variant where that is wanted and exists."""
    assert lookup(f"at('{name}', {version}, {flags}) == (0, symbol('{symbol}'), 0)")


def test_look_up_says_why_it_found_nothing(lookup: Client) -> None:
    """An unknown or empty name is not found; a known one asked for too old a version is told apart."""
    assert lookup("at('cuNoSuchThing', 12000)") == [0, None, 1]
    assert lookup("at('', 12000)") == [0, None, 1]
    assert lookup("at('cuMemAllocAsync', 11000)") == [0, None, 2]


def test_a_version_beyond_the_drivers_is_no_version(lookup: Client) -> None:
    """Whatever the name, and whatever there is of it."""
    for name in ("cuInit", "cuNoSuchThing"):
        assert lookup(f"at('{name}', 13010)") == [1, None, -1]


def test_export_tables_are_refused(lookup: Client) -> None:
    """No undocumented table is answered, whatever its id."""
    call = "lib.cuGetExportTable(ctypes.byref(t), (ctypes.c_char * 16).from_buffer_copy(bytes(range(16))))"
    lookup.run("t = ctypes.c_void_p(1)")
    assert lookup(f"({call}, t.value)") == [801, None]


def test_what_is_not_modelled_says_so(lookup: Client) -> None:
    """Texture references, linking, logs, tensor maps: not supported, and no crash."""
    for name in ("cuTexRefCreate", "cuLinkCreate_v2", "cuLogsCurrent", "cuTensorMapEncodeTiled"):
        assert lookup(f"lib.{name}(0, 0, 0)") == 801
    assert ctypes.sizeof(ctypes.c_void_p) == 8
