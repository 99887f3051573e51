"""The Huawei adapter over the simulated libdcmi and npu-smi: what the node file says is what mica reads and splits.

The library maps one node in a process, so that all tests share one, each with chips of its own, and leave them as they were.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mica.events import LinkKind, Partition, Severity, Vendor
from mica.hardware import Catalogue, NodeFile, device_uuid, write_node_desc
from mica.native import LIB_DIR
from mica.vendors import PartitionInUseError, VendorError, open_drivers
from mica.vendors.huawei import HuaweiDriver, _driver, _smi
from mica.vendors.huawei._library import Chip, Dcmi, open_dcmi

HAND = Path(__file__).with_name("simulated_huawei_hand.py")
NODE = b"""
name = "ascend"
[[device]]
model = "910B3"
count = 4
group = "server"
numa = [0, 0, 1, 1]
[[device]]
model = "310P3"
[[device]]
model = "310P3"
group = "server"
[[device]]
model = "310"
[[device]]
model = "910A"
[[link]]
kind = "hccs"
gb_per_s = 28
devices = [0, 1, 2, 3]
"""
KEYS = ("910B3", "910B3", "910B3", "910B3", "310P3", "310P3", "310", "910A")
IDS = tuple(device_uuid("ascend", index, Vendor.HUAWEI) for index in range(len(KEYS)))
GIB = 1 << 30

pytestmark = pytest.mark.skipif(not (LIB_DIR / "sim" / "libdcmi.so").exists(), reason="run `make native` first")


class Hand:
    """Another process on the node: a person, a fault or a tenant."""

    def __init__(self, directory: Path) -> None:
        command = [sys.executable, str(HAND), str(directory)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        self.pid = self._process.pid

    def do(self, command: str) -> str:
        """One verb of the simulated node's control."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(command, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer.startswith("ok"), answer
        return answer.removeprefix("ok").strip()

    def end(self) -> None:
        """Let go of everything."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The node's directory, while this process is told to use it."""
    directory = tmp_path_factory.mktemp("ascend")
    write_node_desc(NodeFile.parse(NODE), directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MICA_SIM_DIR", str(directory))
        yield directory


@pytest.fixture(scope="module")
def hand(node: Path) -> Iterator[Hand]:
    """Whoever does things to the node."""
    found = Hand(node)
    yield found
    found.end()


@pytest.fixture
def tenant(node: Path) -> Iterator[Callable[[str], Hand]]:
    """Processes on a chip or vNPU, with 1 GiB each; they end with the test."""
    made: list[Hand] = []

    def start(uuid: str) -> Hand:
        made.append(Hand(node))
        made[-1].do(f"occupy {uuid} {GIB}")
        return made[-1]

    yield start
    for each in made:
        each.end()


@pytest.fixture(scope="module")
def driver(node: Path) -> HuaweiDriver:
    """The adapter, opened as mica opens it."""
    (found,) = open_drivers()
    assert isinstance(found, HuaweiDriver)
    return found


@pytest.fixture
def clean(driver: HuaweiDriver) -> Iterator[None]:
    """Every chip is whole after the test."""
    yield
    for device_id in IDS:
        driver.make_whole(device_id)


def part(index: int, name: str, start: int) -> Partition:
    """What the planner asks for: a template of the catalogue at a slot."""
    profile = Catalogue.load().model(KEYS[index]).profile(name)
    return Partition(profile=name, profile_id=profile.profile_id, start=start, size=profile.size, layout=profile.layout)


def npu_smi(node: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The stand-in, as a person runs it."""
    return subprocess.run([str(node / "bin" / "npu-smi"), *words], capture_output=True, text=True, check=False)


def test_discovery(driver: HuaweiDriver) -> None:
    """Every chip is read with its catalogue's figures, its templates as npu-smi lists them included, and nothing is odd."""
    devices = driver.devices()
    assert tuple(device.id for device in devices) == IDS
    for device, key in zip(devices, KEYS, strict=True):
        model = Catalogue.load().model(key)
        assert (device.model, device.vram_bytes, device.multiprocessors) == (model.name, model.vram_bytes, model.multiprocessors)
        assert (device.simulated, device.partitioned, device.switchable, device.warnings) == (True, False, True, ())
        if model.profiles:
            assert (device.profiles, device.budgets) == (model.partition_profiles(), model.budgets)
    assert [device.numa_node for device in devices] == [0, 0, 1, 1, 0, 0, 0, 0]
    assert devices[0].pci_bus_id == "0000:01:00.0"
    assert {device.group for device in devices} == {"server"}
    plain = devices[6]
    assert ([each.name for each in plain.profiles], "no vNPUs" in plain.hardware_refusal) == (["whole"], True)


def test_links(driver: HuaweiDriver) -> None:
    """Every two of the four 910B3 reach each other by HCCS, at the catalogue's speed; no others do."""
    links = driver.links()
    assert {(link.a, link.b) for link in links} == {(a, b) for i, a in enumerate(IDS[:4]) for b in IDS[i + 1 : 4]}
    assert {(link.kind, link.bytes_per_s) for link in links} == {(LinkKind.HCCS, 28_000_000_000)}


@pytest.mark.usefixtures("clean")
def test_a_vnpus_life(driver: HuaweiDriver) -> None:
    """Made at the slot that was planned, found there after a restart, made once however often it is asked for, and destroyed."""
    chip = IDS[0]
    (whole,) = driver.living()[chip]
    assert (whole.layout, whole.uuid) == ("whole", chip)
    made = driver.create(chip, part(0, "vir05_1c_16g", 1))
    half = driver.create(chip, part(0, "vir10_3c_32g", 2))
    assert made.uuid == f"{chip}-vnpu101"
    assert driver.create(chip, part(0, "vir05_1c_16g", 1)) == made
    assert HuaweiDriver().living()[chip] == (made, half)
    assert driver.describe("0.0").partitioned
    with pytest.raises(VendorError, match=rf"vir10_3c_32g at slot 0: {made.uuid} is there"):
        driver.create(chip, part(0, "vir10_3c_32g", 0))
    reading = driver.sample(made.uuid)
    assert (reading.vram_used_bytes, reading.vram_total_bytes) == (0, 16 * GIB)
    driver.destroy(chip, half)
    driver.destroy(chip, half)
    assert driver.living()[chip] == (made,)
    assert driver.create(chip, part(0, "whole", 0)) == whole
    assert driver.living()[chip] == (whole,)


@pytest.mark.usefixtures("clean")
def test_what_vnpus_share_beside_cores(driver: HuaweiDriver) -> None:
    """The one with all media engines leaves room for one without any, and for no other, though cores are free."""
    chip = IDS[4]
    driver.create(chip, part(4, "vir04_4c_dvpp", 0))
    for refused in ("vir02", "vir04_3c"):
        with pytest.raises(VendorError, match="occupied"):
            driver.create(chip, part(4, refused, 4))
    driver.create(chip, part(4, "vir04_3c_ndvpp", 4))
    driver.make_whole(chip)
    for start in range(7):
        driver.create(chip, part(4, "vir01", start))
    with pytest.raises(VendorError, match="occupied"):
        driver.create(chip, part(4, "vir01", 7))


@pytest.mark.usefixtures("clean")
def test_one_kind_of_chip_is_split_on_a_server(driver: HuaweiDriver) -> None:
    """Chips of the same kind are; another kind is refused while they are, and split after."""
    driver.create(IDS[0], part(0, "vir05_1c_16g", 0))
    driver.create(IDS[1], part(1, "vir10_3c_32g", 0))
    with pytest.raises(VendorError, match=r"\(-8022\)"):
        driver.create(IDS[5], part(5, "vir01", 0))
    driver.make_whole(IDS[0])
    driver.make_whole(IDS[1])
    driver.create(IDS[5], part(5, "vir01", 0))


@pytest.mark.usefixtures("clean")
def test_a_vnpu_in_use(driver: HuaweiDriver, tenant: Callable[[str], Hand]) -> None:
    """Who is on it is told from who is on its neighbour; it is not destroyed under them, and is when they are gone."""
    chip = IDS[1]
    used, idle = (driver.create(chip, part(1, "vir05_1c_16g", start)) for start in (0, 1))
    process = tenant(used.uuid)
    assert driver.compute_processes(used.uuid) == [(process.pid, GIB)]
    assert driver.compute_processes(idle.uuid) == []
    assert driver.compute_processes(chip) == [(process.pid, GIB)]
    assert driver.sample(used.uuid).vram_used_bytes == GIB
    for change in (
        lambda: driver.destroy(chip, used),
        lambda: driver.make_whole(chip),
        lambda: driver.create(chip, part(1, "whole", 0)),
    ):
        with pytest.raises(PartitionInUseError) as refused:
            change()
        assert refused.value.pids == {process.pid}
    assert driver.living()[chip] == (used, idle)
    driver.destroy(chip, idle)
    driver.terminate(used.uuid, process.pid)
    process.end()
    driver.destroy(chip, used)
    assert [each.layout for each in driver.living()[chip]] == ["whole"]


def test_a_chip_in_use_whole(driver: HuaweiDriver, tenant: Callable[[str], Hand]) -> None:
    """It is not split under its processes; asking for it whole again is no error."""
    chip = IDS[2]
    process = tenant(chip)
    assert driver.compute_processes(chip) == [(process.pid, GIB)]
    assert driver.sample(chip).vram_used_bytes == GIB
    with pytest.raises(PartitionInUseError) as refused:
        driver.create(chip, part(2, "vir05_1c_16g", 0))
    assert refused.value.pids == {process.pid}
    assert driver.create(chip, part(2, "whole", 0)).uuid == chip


@pytest.mark.usefixtures("clean")
def test_vnpus_that_people_make(driver: HuaweiDriver, node: Path) -> None:
    """Two halves made by hand are two halves, and one that goes is gone."""
    for _ in range(2):
        done = npu_smi(node, "set", "-t", "create-vnpu", "-i", "3", "-c", "0", "-f", "vir10_3c_32g")
        assert (done.returncode, "Create vnpu success" in done.stdout) == (0, True)
    assert [(each.uuid[-3:], each.start) for each in driver.living()[IDS[3]]] == [("148", 0), ("149", 2)]
    assert npu_smi(node, "set", "-t", "destroy-vnpu", "-i", "3", "-c", "0", "-v", "148").returncode == 0
    assert [(each.uuid[-3:], each.start) for each in driver.living()[IDS[3]]] == [("149", 2)]
    again = npu_smi(node, "set", "-t", "destroy-vnpu", "-i", "3", "-c", "0", "-v", "148")
    assert (again.returncode, again.stdout) == (215, "Error parameter of -v.\n")


class WithoutVnpus:
    """An old libdcmi: the simulated one, less what it says and does about vNPUs."""

    missing = ("dcmi_create_vdevice", "dcmi_set_destroy_vdevice", "dcmi_get_device_info")

    def __init__(self, library: Any) -> None:
        self._library = library

    def __getattr__(self, name: str) -> Any:
        """A function of the library."""
        if name in self.missing:
            raise AttributeError(name)
        return getattr(self._library, name)


@pytest.mark.usefixtures("clean")
def test_npu_smi_stands_in_for_an_old_library(driver: HuaweiDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """vNPUs are listed, made and destroyed through it, and both say the same of them."""
    old = Dcmi(WithoutVnpus(open_dcmi()._library))
    monkeypatch.setattr(_driver, "open_dcmi", lambda: old)
    by_tool = HuaweiDriver()
    made = by_tool.create(IDS[0], part(0, "vir05_1c_16g", 2))
    assert driver.living()[IDS[0]] == (made,)
    with pytest.raises(VendorError, match=r"npu-smi set -t create-vnpu .*: ended with 1: create vnpu failed"):
        _smi.create(Chip(0, 0), "vir05_1c_16g", 102)
    by_tool.destroy(IDS[0], made)
    assert [each.layout for each in driver.living()[IDS[0]]] == ["whole"]


@pytest.mark.usefixtures("clean")
def test_a_refusal_leaves_nothing(driver: HuaweiDriver, hand: Hand) -> None:
    """The next try works."""
    hand.do("set 0 refusals 1")
    with pytest.raises(VendorError, match=r"\(-8005\)"):
        driver.create(IDS[0], part(0, "vir05_1c_16g", 0))
    assert [each.layout for each in driver.living()[IDS[0]]] == ["whole"]
    assert driver.create(IDS[0], part(0, "vir05_1c_16g", 0)).start == 0


@pytest.mark.usefixtures("clean")
def test_vnpus_outlive_a_reboot(driver: HuaweiDriver, hand: Hand) -> None:
    """The driver makes them again under their numbers, as it does by default."""
    made = driver.create(IDS[7], part(7, "vir16", 8))
    hand.do("reboot")
    assert driver.living()[IDS[7]] == (made,)


def test_faults(driver: HuaweiDriver, hand: Hand) -> None:
    """Errors of memory last until they are mended, an event is told once, and a lost chip takes none of the others with it."""
    chip = IDS[0]
    assert driver.findings(chip) == ()
    hand.do("set 0 ecc_uncorrected 2")
    (found,) = driver.findings(chip)
    assert (found.kind, found.severity, found.lasting, found.code) == ("ecc", Severity.WARNING, True, 0x80E01801)
    hand.do("set 0 ecc_uncorrected 0")
    hand.do("event 1 dcmi 0x80E18402")
    hand.do("event 0 dcmi 0x80000001")
    (found,) = driver.findings(IDS[1])
    assert (found.kind, found.severity, found.lasting, found.code) == ("ecc", Severity.FATAL, False, 0x80E18402)
    (found,) = driver.findings(chip)
    assert (found.kind, found.severity, found.code) == ("fault", Severity.INFO, 0x80000001)
    assert driver.findings(chip) == driver.findings(IDS[1]) == ()
    hand.do("set 0 temperature_c 91")
    assert driver.sample(chip).temperature_c == 91
    hand.do("set 0 temperature_c 0")
    living = driver.living()
    hand.do("set 0 lost 1")
    assert [each.kind for each in driver.findings(chip)] == ["bus"]
    assert [device.id for device in driver.devices()] == list(IDS[1:])
    with pytest.raises(VendorError, match=r"not ready \(-8012\)"):
        driver.sample(chip)
    assert driver.living() == living
    hand.do("reset 0")
    assert [device.id for device in driver.devices()] == list(IDS)


@pytest.mark.usefixtures("clean")
def test_access(driver: HuaweiDriver, node: Path) -> None:
    """By number, with the nodes that every process needs; a vNPU is a virtual device for the container runtime."""
    whole = driver.access(IDS[1], driver.living()[IDS[1]][0])
    assert dict(whole.visible) == {"ASCEND_VISIBLE_DEVICES": "1", "ASCEND_RT_VISIBLE_DEVICES": "1"}
    assert (dict(whole.env), whole.cdi) == ({}, "ascend.com/npu=1")
    vnpu = driver.access(IDS[1], driver.create(IDS[1], part(1, "vir05_1c_16g", 3)))
    assert dict(vnpu.visible) == {"ASCEND_VISIBLE_DEVICES": "119"}
    assert (dict(vnpu.env), vnpu.cdi) == ({"ASCEND_RUNTIME_OPTIONS": "VIRTUAL"}, "ascend.com/npu=119")
    names = ("vdavinci119", "davinci_manager", "devmm_svm", "hisi_hdc")
    assert vnpu.devices == tuple(str(node / "dev" / name) for name in names)
    assert "/usr/local/Ascend/driver/lib64" in vnpu.mounts


@pytest.mark.usefixtures("clean")
def test_the_stand_in(driver: HuaweiDriver, node: Path) -> None:
    """Its tables are npu-smi's: the adapter reads them, people see every chip, and what is wrong is said in its words."""
    driver.create(IDS[0], part(0, "vir05_1c_16g", 1))
    assert _smi.vnpus(Chip(0, 0)) == [(101, "vir05_1c_16g", False)]
    assert [each.name for each in _smi.templates(Chip(4, 0))][:3] == ["vir01", "vir02", "vir02_1c"]
    assert "Total Count                    : 8" in npu_smi(node, "info", "-l").stdout
    listed = [line.split() for line in npu_smi(node, "info", "-m").stdout.splitlines()]
    assert listed[1] == ["0", "0", "0", "Ascend", "910B3"]
    table = npu_smi(node, "info").stdout.splitlines()
    assert len({len(line) for line in table}) == 1
    assert sum("No running processes found in NPU" in line for line in table) == len(KEYS)
    wrong = npu_smi(node, "info", "-t", "info-vnpu", "-i", "9", "-c", "0")
    assert (wrong.returncode, wrong.stdout) == (215, "Error parameter of -i.\n")
    with pytest.raises(VendorError, match="does not support querying template-info"):
        _smi.templates(Chip(6, 0))


def test_a_node_without_ascend(tmp_path: Path) -> None:
    """The vendor is absent, and the node has no npu-smi."""
    write_node_desc(NodeFile.parse(b"name = 'plain'\n[[device]]\nmodel = 'L4'"), tmp_path)
    program = "from mica.vendors.huawei import HuaweiDriver as D\ntry: D()\nexcept Exception as e: print(type(e).__name__)"
    variables = os.environ | {"MICA_SIM_DIR": str(tmp_path)}
    answer = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "VendorAbsentError"
    assert not (tmp_path / "bin" / "npu-smi").exists()
