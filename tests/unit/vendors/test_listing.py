"""A device that several libraries list is one device."""

from msgspec.structs import replace

from mica.events import Device, Runtime, Vendor
from mica.vendors import one_each

L4 = Device(
    id="GPU-1", index=0, vendor=Vendor.NVIDIA, model="L4", vram_bytes=1, runtimes=(Runtime.CUDA,), pci_bus_id="00000000:0A:00.0"
)
BY_OPENCL = replace(L4, model="NVIDIA L4", runtimes=(Runtime.OPENCL,), pci_bus_id="")


def test_the_same_id_is_the_same_device_and_only_gains_a_runtime() -> None:
    """What the first library says of it stays."""
    assert one_each(((L4,), (BY_OPENCL,))) == (replace(L4, runtimes=(Runtime.CUDA, Runtime.OPENCL)),)


def test_the_same_place_is_the_same_device_with_two_names() -> None:
    """However many digits the domain has; what OpenCL's layer calls it is kept."""
    other = replace(BY_OPENCL, id="OCL-1", pci_bus_id="0000:0a:00.0")
    assert one_each(((L4,), (other,))) == (replace(L4, runtimes=(Runtime.CUDA, Runtime.OPENCL), opencl_id="OCL-1"),)


def test_a_simulated_device_is_never_a_real_one() -> None:
    """Nor are two devices whose place is not known, or is no place."""
    real, simulated = replace(L4, id="GPU-2"), replace(L4, simulated=True)
    assert len(one_each(((simulated,), (real,)))) == 2
    for place in ("", "here", "x:0"):
        assert len(one_each(((replace(L4, pci_bus_id=place),), (replace(real, pci_bus_id=place),)))) == 2


def test_two_devices_at_one_place_in_one_librarys_list_are_two() -> None:
    """Tiles and partitions share an address; a whole one by an earlier library is joined with both."""
    tiles = replace(BY_OPENCL, id="OCL-1", pci_bus_id=L4.pci_bus_id), replace(BY_OPENCL, id="OCL-2", pci_bus_id=L4.pci_bus_id)
    assert one_each((tiles,)) == tiles
    (joined,) = one_each(((L4,), tiles))
    assert joined.opencl_id == "OCL-1"
