"""SR-IOV in sysfs, and the partitions that come of it, on a tree like the kernel's."""

import json
from pathlib import Path

import pytest

from mica.events import Vendor
from mica.hardware import Catalogue
from mica.vendors import VendorError
from mica.vendors.intel._access import access_to
from mica.vendors.intel._functions import Functions, is_address, precheck_refusal
from mica.vendors.intel._profiles import Offer, number_of, oddities, partition_profiles

PHYSICAL = "0000:4d:00.0"
CHECKS = {"iommu_status": "Pass", "vmx_flag": "Pass", "sriov_status": "Fail", "iommu_message": "", "vmx_message": ""}
MIB = 1 << 20


class Sysfs:
    """The tree of a machine with one device."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.devices = root / "bus/pci/devices"
        self.device(PHYSICAL, sriov_totalvfs=31, sriov_numvfs=0, numa_node=1, device="0x56c0")
        (root / "class/iommu/dmar0").mkdir(parents=True)

    def device(self, address: str, **files: object) -> Path:
        place = self.devices / address
        place.mkdir(parents=True, exist_ok=True)
        for name, value in files.items():
            (place / name).write_text(f"{value}\n")
        return place

    def functions(self, count: int) -> None:
        self.device(PHYSICAL, sriov_numvfs=count)
        for number in range(count):
            place = self.device(f"0000:4d:00.{number + 1}")
            (self.devices / PHYSICAL / f"virtfn{number}").symlink_to(f"../{place.name}")
            (place / "physfn").symlink_to(f"../{PHYSICAL}")


@pytest.fixture
def sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sysfs:
    """A machine without xpu-smi."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return Sysfs(tmp_path / "sys")


def test_functions_are_found_by_their_links(sysfs: Sysfs) -> None:
    """In order, with their physical one; a device without any, or without SR-IOV, has none."""
    sysfs.functions(2)
    functions = Functions(sysfs.root)
    assert functions.addresses(PHYSICAL) == ("0000:4d:00.1", "0000:4d:00.2")
    assert (functions.most(PHYSICAL), functions.numa_node(PHYSICAL), functions.pci_device_id(PHYSICAL)) == (31, 1, 0x56C0)
    assert functions.is_function("0000:4d:00.1")
    assert not functions.is_function(PHYSICAL)
    other = "0000:01:00.0"
    assert (functions.addresses(other), functions.most(other), functions.numa_node(other)) == ((), 0, -1)


@pytest.mark.parametrize("word", ["", "many", "-3", "99999999"])
def test_numbers_that_make_no_sense(sysfs: Sysfs, word: str) -> None:
    """What is no number of functions is taken for none."""
    sysfs.device(PHYSICAL, sriov_totalvfs=word, sriov_numvfs=word, device=word or "none")
    functions = Functions(sysfs.root)
    assert (functions.most(PHYSICAL), functions.addresses(PHYSICAL)) == (0, ())


def test_why_no_functions_can_be_made(sysfs: Sysfs, monkeypatch: pytest.MonkeyPatch) -> None:
    """None in the firmware, no right to write, no IOMMU; else nothing."""
    assert Functions(sysfs.root).refusal(PHYSICAL) == ""
    (sysfs.root / "class/iommu/dmar0").rmdir()
    assert "no IOMMU" in Functions(sysfs.root).refusal(PHYSICAL)
    monkeypatch.setattr("mica.vendors.intel._functions.os.access", lambda *_: False)
    assert "not allowed to write sriov_numvfs" in Functions(sysfs.root).refusal(PHYSICAL)
    sysfs.device(PHYSICAL, sriov_totalvfs=0)
    assert "sriov_totalvfs is 0" in Functions(sysfs.root).refusal(PHYSICAL)


def test_made_and_removed_by_sysfs_without_the_tool(sysfs: Sysfs) -> None:
    """The number is written, the host's driver is asked to take the functions, and what can not be written is an error."""
    functions = Functions(sysfs.root)
    functions.make(PHYSICAL, 4, 4000 * MIB)
    place = sysfs.devices / PHYSICAL
    assert ((place / "sriov_numvfs").read_text(), (place / "sriov_drivers_autoprobe").read_text()) == ("4", "1")
    functions.clear(PHYSICAL)
    assert (place / "sriov_numvfs").read_text() == "0"
    with pytest.raises(VendorError, match=r"0000:01:00\.0: writing 0 to sriov_numvfs: No such file"):
        functions.clear("0000:01:00.0")


def test_functions_without_a_driver_are_offered_to_the_hosts(sysfs: Sysfs) -> None:
    """One that has a driver already is left alone."""
    sysfs.functions(2)
    (sysfs.devices / "0000:4d:00.1/drm/renderD129").mkdir(parents=True)
    functions = Functions(sysfs.root)
    functions.bind(functions.addresses(PHYSICAL))
    assert (sysfs.root / "bus/pci/drivers_probe").read_text() == "0000:4d:00.2"
    assert (sysfs.devices / PHYSICAL / "sriov_drivers_autoprobe").read_text() == "1"


def test_a_function_set_aside_for_a_virtual_machine(sysfs: Sysfs) -> None:
    """It is reached by its VFIO group, and is not to be taken away."""
    sysfs.functions(1)
    place = sysfs.devices / "0000:4d:00.1"
    for name, target in (("driver", "bus/pci/drivers/xe-vfio-pci"), ("iommu_group", "kernel/iommu_groups/17")):
        (sysfs.root / target).mkdir(parents=True)
        (place / name).symlink_to(sysfs.root / target)
    functions = Functions(sysfs.root)
    assert functions.is_set_aside("0000:4d:00.1")
    assert functions.vfio_nodes("0000:4d:00.1") == ("/dev/vfio/vfio", "/dev/vfio/17")
    assert (functions.is_set_aside(PHYSICAL), functions.vfio_nodes(PHYSICAL)) == (False, ())


def test_the_tools_check() -> None:
    """What it finds wrong in its own words, once, whichever version says it; whether every device has functions is not asked."""
    failed = CHECKS | {"iommu_status": "Fail", "iommu_message": "IOMMU is disabled."}
    assert precheck_refusal(json.dumps(CHECKS)) == ""
    assert precheck_refusal(json.dumps(failed, indent=4)) == "IOMMU is disabled."
    assert precheck_refusal(f"{json.dumps(failed)}\n{json.dumps(failed)}\n") == "IOMMU is disabled."
    assert precheck_refusal(json.dumps(CHECKS | {"vmx_flag": "Fail"})) == "vmx_flag"


@pytest.mark.parametrize("text", ["+----+", "[]", "{}", '{"iommu_status": 3, "vmx_flag": "Pass"}', json.dumps(CHECKS) + "x"])
def test_a_check_that_answers_garbage(text: str) -> None:
    """It is an error that says what came."""
    with pytest.raises(VendorError, match="xpu-smi vgpu --precheck: "):
        precheck_refusal(text)


@pytest.mark.parametrize(
    ("word", "is_one"), [(PHYSICAL, True), ("00010000:4d:1f.7", True), ("0000:4d:20.0", False), ("GPU-1", False)]
)
def test_addresses(word: str, *, is_one: bool) -> None:
    """PCI addresses are told from other names."""
    assert is_address(word) is is_one


MODELS = [model for model in Catalogue.load().models.values() if model.vendor is Vendor.INTEL]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.key)
def test_a_device_as_in_the_catalogue_offers_that(model: object) -> None:
    """Every profile of the catalogue and the whole device besides, nothing odd, and no more memory than there is."""
    assert model in MODELS
    known = next(each for each in MODELS if each is model)
    tiles = max((each.max_instances for each in known.profiles if each.layout == "tiles"), default=1)
    most = max((number_of(each.layout) for each in known.profiles), default=0)
    offer = Offer(vram_bytes=known.usable_bytes, cores=known.multiprocessors, tiles=tiles, functions=most, model=known)
    profiles = {profile.name: profile for profile in partition_profiles(offer)}
    assert set(profiles) == {"whole", *(each.name for each in known.profiles)}
    assert all(profiles[each.name] == wanted for each, wanted in zip(known.profiles, known.partition_profiles(), strict=True))
    assert all(each.max_instances * each.vram_bytes <= known.usable_bytes for each in profiles.values())
    assert oddities(offer, most, known.pci_device_id) == ()


def test_a_device_that_the_catalogue_lacks() -> None:
    """Usual numbers of functions, even ones on two tiles, with equal parts of most of its memory."""
    profiles = {each.name: each for each in partition_profiles(Offer(vram_bytes=32 << 30, cores=30, tiles=2, functions=7))}
    assert list(profiles) == ["whole", "tile", "vf1", "vf2", "vf4"]
    assert (profiles["vf4"].vram_bytes, profiles["vf4"].multiprocessors) == ((32 << 30) // 4 // 16 * 15, 7)
    assert (profiles["tile"].vram_bytes, profiles["tile"].starts) == (16 << 30, (0, 1))


def test_functions_that_are_there_are_offered_though_none_can_be_made() -> None:
    """A device that somebody else has divided can be used as it is."""
    offer = Offer(vram_bytes=16 << 30, cores=32, functions=0, living=3)
    assert [(each.name, each.profile_id) for each in partition_profiles(offer)] == [("whole", 0), ("vf3", 3)]


def test_contradictions_are_told() -> None:
    """Memory that is off by more than a twentieth, other cores, tiles or numbers of functions."""
    model = Catalogue.load().model("Max-1550")
    offer = Offer(vram_bytes=120 << 30, cores=112, tiles=1, model=model)
    assert oddities(offer, 8, model.pci_device_id) == (
        f"memory: {120 << 30} bytes, catalogue: {128 << 30}",
        "Xe cores: 112, catalogue: 128",
        "tiles: 1, catalogue: 2",
        "virtual functions: at most 8, catalogue: 16",
    )


def test_access_counts_devices_by_address() -> None:
    """The tenth bus comes after the second one, functions after their device, and a tile's number behind a dot."""
    there = ("0000:10:00.0", "0000:02:00.1", "0000:02:00.0")
    nodes = ("/dev/dri/card1", "/dev/dri/renderD129")
    access = access_to("0000:10:00.0", there, nodes, pci_device_id=0x56C0, tile=1)
    assert access.visible == {"ZE_AFFINITY_MASK": "2.1"}
    assert access.env["ZE_FLAT_DEVICE_HIERARCHY"] == "COMPOSITE"
    assert access.devices == nodes
    assert access.mounts == ("/dev/dri/by-path/pci-0000:10:00.0-card", "/dev/dri/by-path/pci-0000:10:00.0-render")
    assert access.cdi == "intel.com/gpu=0000-10-00-0-0x56c0"
    assert access_to("0000:02:00.1", there, (), pci_device_id=0, tile=None).visible == {"ZE_AFFINITY_MASK": "1"}
