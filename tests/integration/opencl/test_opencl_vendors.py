"""Devices of every vendor that OpenCL lists: what discovery calls them the layer calls them, too, and their slices are enforced.

The platforms are simulated, and say so; the loader and PyOpenCL are real.
"""

from pathlib import Path
from typing import Any

import pytest
from opencl_node import MIB, OpenClNode
from simulated_platforms import ADRENO, ARC, ARC_UUID, MALI, RADEON, discovered, platforms

from mica.events import Device, Runtime, Vendor
from mica.vendors import one_each
from mica.vendors.opencl import uuid_id

HOLD = """
import json, sys
import numpy as np, pyopencl as cl
devices = [device for platform in cl.get_platforms() for device in platform.get_devices()]
def attempt(size):
    try:
        return cl.Buffer(context, cl.mem_flags.READ_WRITE, size)
    except cl.Error as error:
        return cl.status_code.to_string(error.code)
answer = {"devices": [(device.name, device.global_mem_size) for device in devices]}
if devices:
    context = cl.Context(devices[:1])
    queue = cl.CommandQueue(context)
    held = attempt(6 << 20)
    answer["over"] = attempt(3 << 20)
    values, back = np.arange(1 << 18, dtype=np.float32), np.zeros(1 << 18, dtype=np.float32)
    cl.enqueue_copy(queue, held, values)
    cl.enqueue_copy(queue, back, held)
    answer["same"] = bool((values == back).all())
print(json.dumps(answer))
"""


def held(node: OpenClNode, device_id: str, **environment: str) -> Any:
    """What a program sees and gets in a slice of 8 MiB of that device."""
    node.place("a", device=device_id, vram_limit_bytes=8 * MIB)
    answer, errors = node.look("a", HOLD, **environment)
    assert errors == ""
    assert bool(node.usage("a", device_id).refusals) == bool(answer["devices"])
    return answer


def test_graphics_processors_of_every_vendor_are_found_by_themselves(tmp_path: Path) -> None:
    """With a driver installed and nothing asked for: as OpenCL says, simulated as their platforms are, and no processor."""
    found, errors = discovered(**platforms(tmp_path, ARC, ADRENO, RADEON))
    assert errors == ""
    assert sorted((device.vendor, device.model) for device in found) == [
        (Vendor.AMD, "gfx942"),
        (Vendor.INTEL, "Intel(R) Arc(TM) A770"),
        (Vendor.QUALCOMM, "QUALCOMM Adreno(TM)"),
        (Vendor.QUALCOMM, "QUALCOMM Adreno(TM)"),
    ]
    (arc,) = (device for device in found if device.vendor is Vendor.INTEL)
    others = [device for device in found if device.vendor is not Vendor.INTEL]
    assert (arc.id, arc.vram_bytes, arc.multiprocessors, arc.pci_bus_id) == (uuid_id(ARC_UUID), 16 << 30, 512, "0000:03:00.0")
    assert all(device.id.startswith("OCL-") for device in others)
    assert len({device.id for device in found}) == 4
    assert {(device.simulated, device.runtimes) for device in found} == {(True, (Runtime.OPENCL,))}


def test_processors_are_beside_them_where_they_are_asked_for(tmp_path: Path) -> None:
    """And nothing is where OpenCL is switched off."""
    with_processor, _ = discovered(MICA_OPENCL="cpu", **platforms(tmp_path, ARC))
    assert {(device.vendor, device.simulated) for device in with_processor} == {(Vendor.INTEL, True), (Vendor.CPU, False)}
    assert discovered(MICA_OPENCL="off", **platforms(tmp_path, ARC)) == ((), "")


def test_a_device_of_an_unknown_vendor_is_left_out_in_one_line(tmp_path: Path) -> None:
    """Which it is, what its vendor's number is, and which are known."""
    found, errors = discovered(**platforms(tmp_path, MALI, ARC))
    assert [device.vendor for device in found] == [Vendor.INTEL]
    assert errors.count("\n") == 1
    assert "device Mali-G710: vendor 0xa8670000 of ARM is not known, allowed: nvidia, amd, intel" in errors


@pytest.mark.parametrize("vendor", [Vendor.INTEL, Vendor.QUALCOMM], ids=["by UUID", "by digest"])
def test_a_slice_of_such_a_device_is_enforced(node: OpenClNode, tmp_path: Path, vendor: Vendor) -> None:
    """The layer knows it by the id that discovery gave it: its slice is the whole device, to the byte, and there is no other."""
    environment = platforms(tmp_path, ARC, ADRENO)
    device = [device for device in discovered(**environment)[0] if device.vendor is vendor][-1]
    assert held(node, device.id, **environment) == {
        "devices": [[device.model, 8 * MIB]],
        "over": "MEM_OBJECT_ALLOCATION_FAILURE",
        "same": True,
    }


def test_a_device_with_another_id_by_its_own_library_is_known_by_both(node: OpenClNode, tmp_path: Path) -> None:
    """AMD's drivers give OpenCL no UUID: the device is found by its place, and the layer is told how the slice's is called."""
    environment = platforms(tmp_path, ADRENO, RADEON)
    own = Device(
        id="9a9aa3c5-0000-1000-80ff-000000000001",
        index=0,
        vendor=Vendor.AMD,
        model="AMD Instinct MI300X",
        vram_bytes=192 << 30,
        runtimes=(Runtime.HIP,),
        pci_bus_id="0000:85:00.0",
        simulated=True,
    )
    merged = one_each(((own,), discovered(**environment)[0]))[0]
    assert (merged.id, merged.runtimes) == (own.id, (Runtime.HIP, Runtime.OPENCL))
    ids = f"OCL-0=no-such-device,{merged.opencl_id}={merged.id}"
    assert held(node, own.id, MICA_OPENCL_IDS=ids, **environment)["devices"] == [["gfx942", 8 * MIB]]


def test_a_slice_of_another_device_sees_none_of_them(node: OpenClNode, tmp_path: Path) -> None:
    """Also where what tells ids apart is damaged."""
    for ids in ("", ",,=", "OCL-1=", f"OCL-1={'x' * 100}"):
        environment = platforms(tmp_path, ARC, ADRENO) | {"MICA_OPENCL_IDS": ids}
        assert held(node, "GPU-00000000-0000-0000-0000-000000000001", **environment) == {"devices": []}
        node.clear("a", "GPU-00000000-0000-0000-0000-000000000001")
