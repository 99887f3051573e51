"""Which of the devices that OpenCL lists are the node's, what they are called, and whose make they are."""

from typing import cast

import pytest
from msgspec.structs import replace

from mica.events import Vendor
from mica.vendors.opencl import device_id, uuid_id
from mica.vendors.opencl._answers import Answers, ListedDevice
from mica.vendors.opencl._devices import CPU_KIND, GPU_KIND, node_devices, vendor_of
from mica.vendors.opencl._inquiry import IMAGE_SUPPORT, Loader, _subdevices_max, _subdevices_whole

CUSTOM_KIND = 1 << 4
GPU = ListedDevice(
    platform="P", platform_vendor="Intel(R) Corporation", name=" Arc ", ordinal=0, kind=GPU_KIND, vendor_id=0x8086, memory_bytes=8
)


def answers(*devices: ListedDevice) -> Answers:
    """The devices on as many platforms as they name."""
    return Answers(platforms=len({device.platform for device in devices}), devices=devices)


@pytest.mark.parametrize(
    "other", [("n2", "P", "D", 0), ("n1", "Q", "D", 0), ("n1", "P", "E", 0), ("n1", "P", "D", 1), ("n", "1P", "D", 0)]
)
def test_each_part_of_a_device_name_counts(other: tuple[str, str, str, int]) -> None:
    """And none runs into the next."""
    assert device_id("n1", "P", "D", 0) == device_id("n1", "P", "D", 0)
    assert device_id("n1", "P", "D", 0) != device_id(*other)


def test_a_uuid_is_written_as_nvml_writes_it() -> None:
    """So that the same device has one id by both."""
    assert uuid_id("00112233445566778899aabbccddeeff") == "GPU-00112233-4455-6677-8899-aabbccddeeff"


@pytest.mark.parametrize(
    ("vendor_id", "platform_vendor", "expected"),
    [
        (0x10DE, "NVIDIA Corporation", Vendor.NVIDIA),
        (0x1002, "Advanced Micro Devices, Inc.", Vendor.AMD),
        (0x8086, "Intel(R) Corporation", Vendor.INTEL),
        (0x8086, "Mesa/X.org", Vendor.INTEL),
        (0x5143, "QUALCOMM", Vendor.QUALCOMM),
        (0xBF4D3C4B, "QUALCOMM", Vendor.QUALCOMM),
        (0x168C, "", Vendor.QUALCOMM),
        (0x19E5, "Huawei", Vendor.HUAWEI),
        (0, "HUAWEI Technologies", Vendor.HUAWEI),
        (0x13B5, "ARM", None),
        (0, "", None),
    ],
)
def test_a_vendor_is_known_by_its_number_or_else_by_the_platforms_name(
    vendor_id: int, platform_vendor: str, expected: Vendor | None
) -> None:
    """Older Adreno drivers give a number that names nobody."""
    assert vendor_of(replace(GPU, vendor_id=vendor_id, platform_vendor=platform_vendor)) is expected


def test_a_processor_is_one_whoever_made_it_and_only_where_it_is_asked_for() -> None:
    """PoCL gives AMD's the number of Intel."""
    processor = replace(GPU, kind=CPU_KIND | 1)
    (found,), _ = node_devices(answers(processor), "n1", processors=True)
    assert found.vendor is Vendor.CPU
    assert node_devices(answers(processor), "n1", processors=False) == ((), ())


def test_what_a_device_is_called_and_has() -> None:
    """Its name without blanks around it, and nothing that was not said."""
    (found,), complaints = node_devices(answers(GPU), "n1", processors=False)
    assert complaints == ()
    assert (found.id, found.model, found.vram_bytes) == (device_id("n1", "P", " Arc ", 0), "Arc", 8)
    assert (found.multiprocessors, found.pci_bus_id, found.simulated, found.opencl_id) == (0, "", False, "")


def test_neither_a_custom_device_nor_one_that_does_not_answer_is_one() -> None:
    """The latter is told of; the former is as OpenCL wants it."""
    silent = replace(GPU, name="", fault="clGetDeviceInfo(0x1000): -6")
    found, complaints = node_devices(answers(replace(GPU, kind=CUSTOM_KIND), silent), "n1", processors=True)
    assert found == ()
    assert complaints == ("platform P: device without a name: clGetDeviceInfo(0x1000): -6",)


def test_a_device_of_two_platforms_is_the_first_ones() -> None:
    """Two drivers for one device do not make two, known by UUID or by place; two parts at one place on one platform are two."""
    placed = replace(GPU, uuid="0" * 32, pci_bus_id="0000:03:00.0")
    part = replace(placed, uuid="1" * 32)
    same_uuid = replace(GPU, platform="Q", uuid="0" * 32)
    same_place = replace(placed, platform="Q", uuid="2" * 32)
    found, complaints = node_devices(answers(placed, part, same_uuid, same_place), "n1", processors=False)
    assert [device.id for device in found] == [uuid_id("0" * 32), uuid_id("1" * 32)]
    assert complaints == ()


class Dividing:
    """A loader whose one device divides in these ways, into at most five parts."""

    def __init__(self, *ways: int) -> None:
        self._ways = ways

    def ask(self, _call: str, _handle: int, _what: int, _room: int) -> bytes:
        return b"".join(way.to_bytes(8, "little") for way in self._ways)

    def number(self, _device: int, _what: int) -> int:
        return 5


@pytest.mark.parametrize(("ways", "parts"), [((0x1086, 0x1087), 5), ((0x1086,), 0), ((), 0)])
def test_parts_are_of_a_device_that_is_divided_by_counts(ways: tuple[int, ...], parts: int) -> None:
    """What divides into equal parts only, or not at all, has none for slices."""
    assert _subdevices_max(cast("Loader", Dividing(*ways)), 0) == parts


@pytest.mark.parametrize(("has_images", "finds", "whole"), [(0, False, True), (1, True, True), (1, False, False)])
def test_parts_lack_images_where_the_driver_does_not_find_them(has_images: int, finds: bool, whole: bool) -> None:
    """A device without images has nothing that its parts could lack."""

    class Loads(Dividing):
        def number(self, _device: int, what: int) -> int:
            return has_images if what == IMAGE_SUPPORT else 5

        def finds_part(self, _device: int) -> bool:
            return finds

    assert _subdevices_whole(cast("Loader", Loads(0x1087)), 0) is whole
    assert not _subdevices_whole(cast("Loader", Loads(0x1086)), 0)
