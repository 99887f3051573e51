"""The Qualcomm adapter over the stand-ins of its tools: derived devices live as long as their holders, whoever dies."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import pytest

from mica.events import Partition, Runtime, Severity, Vendor
from mica.hardware import NodeFile, device_uuid, write_node_desc
from mica.native import LIB_DIR
from mica.vendors import OPENERS, PartitionInUseError, VendorAbsentError, VendorError
from mica.vendors.qualcomm import QualcommDriver
from mica.vendors.qualcomm._holders import Holder, Holders

pytestmark = pytest.mark.skipif(not (LIB_DIR / "sim" / "libmica-sim-books.so").exists(), reason="run `make native` first")

GROUP = Partition(profile="4nsp", profile_id=4, start=8, size=4)
WHOLE = Partition(profile="16nsp", profile_id=16, start=0, size=16)
START_S = 60.0
"""Nothing here waits so long; a slow machine must not decide a test."""
CONTROL = """
import sys
from mica.standins._engine import Engine
print(*Engine().control(sys.argv[1]), flush=True)
sys.argv[2:] and input()
"""
INSTANCES = """
import sys
from mica.hardware import read_books
for each in read_books().devices[int(sys.argv[1])].instances:
    print(each.profile, each.compute[0].uuid)
"""


class Node:
    """A simulated node with Qualcomm devices."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tools = directory / "bin"
        self.holders = Holders(self.tools / "qaic-device-partition", directory / "qaic")

    def control(self, command: str) -> str:
        """What the engine answers."""
        return subprocess.run([sys.executable, "-c", CONTROL, command], capture_output=True, check=True, text=True).stdout

    def occupant(self, uuid: str, size: int) -> "subprocess.Popen[str]":
        """A process with so many bytes there, until it is told to go."""
        command = [sys.executable, "-c", CONTROL, f"occupy {uuid} {size}", "stay"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("0")
        return process

    def partitions(self, index: int) -> list[tuple[str, str]]:
        """Profile and engine's name of each partition of a device, by the engine's own books."""
        out = subprocess.run([sys.executable, "-c", INSTANCES, str(index)], capture_output=True, check=True, text=True).stdout
        return [(line.split()[0], line.split()[1]) for line in out.splitlines()]

    def mine(self) -> list[Holder]:
        """The holders of this node."""
        return [each for each in self.holders.living() if each.slot is not None]

    def replace_tool(self, name: str, script: str) -> None:
        """Put another program in the place of a stand-in."""
        (self.tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.tools / name).chmod(stat.S_IRWXU)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    """Two Ultra cards, without holders before and after."""
    directory = tmp_path / "sim"
    write_node_desc(NodeFile.load(Path(str(files("mica.hardware").joinpath("nodes/ai100-ultra.toml")))), directory)
    monkeypatch.setenv("MICA_SIM_DIR", str(directory))
    made = Node(directory)
    yield made
    for holder in made.mine():
        made.holders.end(holder)


@pytest.fixture
def driver(node: Node) -> QualcommDriver:
    """The adapter, which never answers from memory."""
    return QualcommDriver(fresh_s=0, start_s=START_S)


def first(driver: QualcommDriver) -> str:
    """The first device's id."""
    return driver.describe("0").id


def test_two_ultra_cards_are_eight_devices(node: Node) -> None:
    """Each an SoC of 16 NSPs with a quarter of the card's memory, in the group of its card, and whole."""
    driver = QualcommDriver(fresh_s=START_S)
    devices = driver.devices()
    assert [(each.id, each.index) for each in devices] == [(f"QAIC-0000-{n + 1:02x}-00-0", n) for n in range(8)]
    assert {(each.vendor, each.model, each.runtimes) for each in devices} == {
        (Vendor.QUALCOMM, "Qualcomm Cloud AI 100 Ultra", (Runtime.QAIC,))
    }
    assert {(each.vram_bytes, each.multiprocessors, each.compute_slices) for each in devices} == {(32_692 << 20, 16, 16)}
    assert [each.group for each in devices] == ["card-0"] * 4 + ["card-1"] * 4
    assert [each.warnings for each in devices] == [()] * 8
    assert {(each.simulated, each.partitioned, each.switchable, each.hardware_refusal) for each in devices} == {
        (True, False, True, "")
    }
    assert [(each.name, each.max_instances) for each in devices[0].profiles][-2:] == [("12nsp", 1), ("16nsp", 1)]
    assert driver.living() == {}


def test_a_group_comes_and_goes(node: Node, driver: QualcommDriver) -> None:
    """It is made where the planner wants it, once, reached by its own device, and gives back everything."""
    device = first(driver)
    made = driver.create(device, GROUP)
    assert (made.profile, made.start, made.size) == ("4nsp", 8, 4)
    assert made.uuid
    assert driver.create(device, GROUP) == made
    assert driver.living() == {device: (made,)}
    assert [profile for profile, _ in node.partitions(0)] == ["4nsp"]
    assert driver.describe("0").partitioned
    assert not driver.describe("1").partitioned
    assert driver.sample(made.uuid).vram_total_bytes == 8173 << 20
    assert driver.sample(device).vram_used_bytes == 8173 << 20
    access = driver.access(device, made)
    assert (access.visible, access.devices) == ({"QAIC_VISIBLE_DEVICES": "100"}, ("/dev/accel/accel64",))
    assert access.cdi == "qualcomm.com/qaic=accel64"
    assert driver.access(device, None).devices == ("/dev/accel/accel0",)
    driver.destroy(device, made)
    driver.destroy(device, made)
    assert (driver.living(), node.partitions(0), node.mine()) == ({}, [], [])
    assert driver.sample(device).vram_used_bytes == 0
    with pytest.raises(VendorError, match="lists no such device"):
        driver.sample(made.uuid)


def test_slots_are_mica_s_and_nsps_are_interchangeable(node: Node, driver: QualcommDriver) -> None:
    """What fits by the planner's slots fits on the device, and what overlaps is refused with what is there."""
    device = first(driver)
    for start in (0, 4, 12):
        driver.create(device, Partition(profile="4nsp", profile_id=4, start=start, size=4))
    driver.destroy(device, Partition(profile="4nsp", profile_id=4, start=4, size=4))
    driver.create(device, Partition(profile="8nsp", profile_id=8, start=4, size=8))
    assert sorted(profile for profile, _ in node.partitions(0)) == ["4nsp", "4nsp", "8nsp"]
    with pytest.raises(VendorError, match="make 2nsp at NSP 5: 8nsp is at NSP 4"):
        driver.create(device, Partition(profile="2nsp", profile_id=2, start=5, size=2))
    driver.make_whole(device)
    assert (driver.living(), node.partitions(0), node.mine()) == ({}, [], [])


def test_all_nsps_are_the_device_itself(node: Node, driver: QualcommDriver) -> None:
    """No derived device is made; it is given away until it is destroyed, also for who comes later."""
    device = first(driver)
    made = driver.create(device, WHOLE)
    assert (made.uuid, node.partitions(0), node.mine()) == (device, [], [])
    assert QualcommDriver().living() == {device: (made,)}
    assert driver.access(device, made).visible == {"QAIC_VISIBLE_DEVICES": "0"}
    with pytest.raises(VendorError, match="16nsp is at NSP 0"):
        driver.create(device, GROUP)
    driver.destroy(device, made)
    assert driver.living() == {}


def test_a_refused_group_leaves_nothing_half_made(node: Node, driver: QualcommDriver) -> None:
    """The error has the tool's words; the next try is like the first."""
    device = first(driver)
    node.control("set 0 refusals 1")
    with pytest.raises(VendorError, match="make 4nsp at NSP 8: the holder ended: Failed to create partitions!"):
        driver.create(device, GROUP)
    assert (driver.living(), node.partitions(0), node.mine(), driver.findings(device)) == ({}, [], [], ())
    assert driver.create(device, GROUP).uuid


def test_what_is_in_use_stays(node: Node, driver: QualcommDriver) -> None:
    """A group with a program inside is not destroyed, and a device that is used whole is not divided."""
    device, other = first(driver), driver.describe("1").id
    made = driver.create(device, GROUP)
    ((_, uuid),) = node.partitions(0)
    with (
        node.occupant(uuid, 64 << 20) as inside,
        node.occupant(device_uuid("ai100-ultra", 1, Vendor.QUALCOMM), 32 << 20) as whole,
    ):
        assert driver.sample(made.uuid).vram_used_bytes == 64 << 20
        for attempt in (lambda: driver.destroy(device, made), lambda: driver.make_whole(device)):
            with pytest.raises(PartitionInUseError, match="4nsp at NSP 8"):
                attempt()
        for partition in (GROUP, WHOLE):
            with pytest.raises(PartitionInUseError):
                driver.create(other, partition)
        assert driver.living() == {device: (made,)}
        inside.communicate("\n")
        whole.communicate("\n")
    driver.destroy(device, made)
    assert node.partitions(0) == []


def test_a_killed_holder_takes_its_group_with_it(node: Node, driver: QualcommDriver) -> None:
    """It is told once, with the group; then the group can be made again."""
    device = first(driver)
    made = driver.create(device, GROUP)
    (holder,) = node.mine()
    os.kill(holder.pid, signal.SIGKILL)
    node.holders.end(holder)  # returns when it is gone
    assert driver.living() == {}
    assert node.partitions(0) == []
    (finding,) = driver.findings(device)
    assert (finding.kind, finding.severity, finding.lasting) == ("fault", Severity.WARNING, False)
    assert finding.message == f"4nsp at NSP 8 is gone: its holder {holder.pid} ended"
    assert driver.findings(device) == ()
    again = driver.create(device, GROUP)
    assert again.uuid not in {"", made.uuid}


CREATES = """
import os, signal, sys
from mica.events import Partition
from mica.vendors.qualcomm import QualcommDriver, _holders
if sys.argv[1] == "die":
    _holders.Holders.record = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
elif sys.argv[1] == "die at once":
    _holders.Holders.said = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
os.set_inheritable(os.open(os.environ["MICA_SIM_DIR"] + "/leaked", os.O_CREAT | os.O_RDONLY), True)
driver = QualcommDriver()
print(driver.create(driver.describe("0").id, Partition(profile="4nsp", profile_id=4, start=8, size=4)).uuid)
"""


def create_elsewhere(ending: str) -> "subprocess.CompletedProcess[str]":
    """A process makes the group, and ends so."""
    return subprocess.run([sys.executable, "-c", CREATES, ending], capture_output=True, check=False, text=True)


def test_a_holder_outlives_who_started_it(node: Node, driver: QualcommDriver) -> None:
    """It is nobody's child here, in a session of its own, without foreign descriptors; the next adapter finds the same group."""
    uuid = create_elsewhere("return").stdout.strip()
    (holder,) = node.mine()
    assert os.getsid(holder.pid) not in {os.getsid(0), os.getsid(os.getppid())}
    open_files = {os.readlink(f"/proc/{holder.pid}/fd/{name}") for name in os.listdir(f"/proc/{holder.pid}/fd")}  # noqa: PTH115, PTH208
    assert str(node.directory / "leaked") not in open_files
    device = first(driver)
    assert [each.uuid for each in driver.living()[device]] == [uuid]
    driver.destroy(device, GROUP)
    assert (node.mine(), node.partitions(0)) == ([], [])


@pytest.mark.parametrize("moment", ["die", "die at once"])
def test_a_holder_whose_starter_was_killed_is_no_leak(node: Node, driver: QualcommDriver, moment: str) -> None:
    """Whether it had its device already or not: the next who looks has the group, or nobody holds anything."""
    assert create_elsewhere(moment).returncode == -signal.SIGKILL
    device = first(driver)
    found = driver.living().get(device, ())
    assert [(each.profile, each.start) for each in found if each.uuid] == [("4nsp", 8)] * len(found)
    assert len(node.mine()) == len(found)
    assert moment == "die at once" or len(found) == 1
    driver.make_whole(device)
    assert (driver.living(), node.mine(), node.partitions(0)) == ({}, [], [])


def test_groups_made_at_the_same_time_are_told_apart(node: Node, driver: QualcommDriver) -> None:
    """On one device and on another; two that want the same get the same."""
    device, other = first(driver), driver.describe("1").id
    wanted = [(device, 0), (device, 4), (other, 0), (device, 0)]
    with ThreadPoolExecutor(4) as threads:
        made = list(
            threads.map(
                lambda each: driver.create(each[0], Partition(profile="4nsp", profile_id=4, start=each[1], size=4)), wanted
            )
        )
    assert made[0] == made[3]
    assert len({each.uuid for each in made}) == 3
    living = driver.living()
    assert set(living[device]) == {made[0], made[1]}
    assert living[other] == (made[2],)
    assert len(node.mine()) == 3


def test_a_group_made_by_hand_is_seen(node: Node, driver: QualcommDriver) -> None:
    """It lies in the first gap that ours leave, has a name, and is ended like ours."""
    device = first(driver)
    ours = driver.create(device, Partition(profile="1nsp", profile_id=1, start=0, size=1))
    config = node.directory / "mine.json"
    config.write_text('{"ddrSize": 1000, "numNsp": 2, "numMcid": 10, "numSem": 2, "numVc": 1, "l2Region": 100}')
    command = [node.tools / "qaic-device-partition", "-p", config, "-d", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as by_hand:
        try:
            assert by_hand.stdout is not None
            assert by_hand.stdout.readline() == "Running... \n"
            found = driver.living()[device]
            assert [(each.profile, each.start, each.size) for each in found] == [("1nsp", 0, 1), ("2nsp", 1, 2)]
            assert found[0] == ours
            assert driver.sample(found[1].uuid).vram_total_bytes == 4086 << 20
            driver.destroy(device, found[1])
            assert by_hand.wait(START_S) == -signal.SIGTERM
        finally:
            by_hand.kill()
    assert driver.living() == {device: (ours,)}


def test_a_reboot_leaves_nothing(node: Node, driver: QualcommDriver) -> None:
    """A reset takes the derived devices; holders that hold nothing any more are ended."""
    device = first(driver)
    driver.create(device, GROUP)
    node.control("reboot")
    assert driver.living() == {}
    assert node.mine() == []
    assert driver.create(device, GROUP).uuid


def test_a_sick_device_is_named_and_the_others_work(node: Node, driver: QualcommDriver) -> None:
    """Its status is a finding while it lasts; its groups are not given up for it."""
    device = first(driver)
    made = driver.create(device, GROUP)
    node.control("set 0 lost 1")
    assert [each.index for each in QualcommDriver(fresh_s=START_S).devices()] == list(range(1, 8))
    with pytest.raises(VendorError, match="QID 0: Status Error"):
        driver.describe("0")
    (finding,) = driver.findings(device)
    assert (finding.message, finding.severity, finding.lasting) == ("Status Error", Severity.FATAL, True)
    assert driver.living() == {device: (made,)}
    node.control("set 0 lost 0")
    assert driver.findings(device) == ()
    assert driver.living() == {device: (made,)}


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        ("echo '+--- qaic ---+'", VendorError, "no QID in its answer"),
        ("echo 'no permission' >&2; exit 1", VendorError, "ended with 1: no permission"),
        ("exit 0", VendorAbsentError, "no device"),
        ("printf '\\377\\376\\n'", VendorError, "no QID in its answer"),
    ],
)
def test_a_tool_that_prints_something_else(node: Node, script: str, error: type[VendorError], message: str) -> None:
    """An error says what it printed; no devices at all are an absent vendor."""
    node.replace_tool("qaic-util", script)
    with pytest.raises(error, match=message):
        QualcommDriver()


def test_one_device_that_prints_garbage_leaves_the_others(node: Node, driver: QualcommDriver) -> None:
    """The others are described, divided and measured."""
    (node.tools / "qaic-util").rename(node.tools / "real")
    node.replace_tool(
        "qaic-util", f'{node.tools}/real "$@" | awk \'/^QID/ {{ n = $2 }} n == 0 {{ sub(/Nsp Total:16/, "Nsp Total:-1") }} 1\''
    )
    assert [each.index for each in QualcommDriver(fresh_s=START_S).devices()] == list(range(1, 8))
    with pytest.raises(VendorError, match="QID 0: Nsp Total '-1', wanted a number"):
        driver.describe("0")
    device = driver.describe("1").id
    assert driver.living() == {}
    assert driver.create(device, GROUP).uuid


def test_without_the_partition_tool_devices_are_used_whole(node: Node) -> None:
    """They are listed, with the reason why they can not be divided."""
    (node.tools / "qaic-device-partition").unlink()
    driver = QualcommDriver()
    device = driver.describe("0")
    assert (device.switchable, device.hardware_refusal) == (False, "qaic-device-partition: not found")
    with pytest.raises(VendorError, match="qaic-device-partition: not found"):
        driver.create(device.id, GROUP)


def test_a_holder_that_never_gets_its_device_is_ended(node: Node) -> None:
    """After the time it is given."""
    node.replace_tool(
        "qaic-device-partition", f"mkfifo {node.directory}/wait\necho Running...\nread line <>{node.directory}/wait"
    )
    driver = QualcommDriver(fresh_s=0, start_s=0)
    with pytest.raises(VendorError, match="no derived device of its own within 0 s"):
        driver.create(first(driver), GROUP)
    assert node.mine() == []


def test_the_stand_in_wants_every_key(node: Node, tmp_path: Path) -> None:
    """As the vendor's tool documents them."""
    config = tmp_path / "config.json"
    keys = {"ddrSize": 1000, "numNsp": 4, "numMcid": 10, "numSem": 2, "numVc": 1, "l2Region": 100}
    for lacking in keys:
        config.write_text(json.dumps({key: value for key, value in keys.items() if key != lacking}))
        done = subprocess.run([node.tools / "qaic-device-partition", "-p", config], capture_output=True, check=False, text=True)
        assert (done.returncode, done.stdout) == (1, "Failed to create partitions!\n")


def test_a_node_without_such_devices_has_no_such_vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a simulation the system's own tools are never asked."""
    write_node_desc(NodeFile.parse(b"name = 'n'\ndevice = [{ model = 'L4' }]\n"), tmp_path / "sim")
    monkeypatch.setenv("MICA_SIM_DIR", str(tmp_path / "sim"))
    with pytest.raises(VendorAbsentError):
        OPENERS["qualcomm"]()
