"""The AMD adapter and the amdsmi package over the simulated libamd_smi: modes are set, seen, refused and put back."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mica.events import Device, Link, LinkKind, Partition, Runtime, Severity, Vendor
from mica.hardware import NodeFile, demo_node_path, device_uuid, ready_made_nodes, write_node_desc
from mica.native import LIB_DIR
from mica.vendors import Access, DeviceReading, Finding

PROGRAM = Path(__file__).with_name("simulated_amd.py")
UUIDS = [device_uuid("mi300x-8", index, Vendor.AMD) for index in range(8)]
VRAM = 196_592 << 20

pytestmark = pytest.mark.skipif(
    not (LIB_DIR / "sim" / "rocm" / "lib" / "libamd_smi.so").exists(), reason="run `make native` first"
)


class Node:
    """A simulated node, and programs on it."""

    def __init__(self, directory: Path, path: Path) -> None:
        self.directory = directory
        write_node_desc(NodeFile.load(path), directory)

    def run(self, name: str, **environment: str) -> Any:
        """What the program of that name prints."""
        variables = {**os.environ, "MICA_SIM_DIR": str(self.directory), **environment}
        done = subprocess.run([sys.executable, PROGRAM, name], env=variables, capture_output=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        return msgspec.json.decode(done.stdout)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """Eight MI300X in one hive."""
    return Node(tmp_path / "sim", ready_made_nodes()["mi300x-8"])


def read(answer: Any, kind: Any) -> Any:
    """Part of an answer as what it was."""
    return msgspec.convert(answer, kind)


def test_discovery(node: Node) -> None:
    """Every device is read with the catalogue's figures, its modes and links, from the simulated library alone."""
    answer = node.run("discovery", ROCM_HOME="/opt/rocm", ROCM_PATH="/opt/rocm")
    devices = read(answer["devices"], tuple[Device, ...])
    assert [each.id for each in devices] == UUIDS
    assert {(each.model, each.vram_bytes, each.multiprocessors) for each in devices} == {("AMD Instinct MI300X", VRAM, 304)}
    assert [each.numa_node for each in devices] == [0] * 4 + [1] * 4
    assert len({each.group for each in devices}) == 1
    assert devices[0].group
    first = devices[0]
    assert (first.simulated, first.switchable, first.partitioned, first.hardware_refusal) == (True, True, False, "")
    assert (first.runtimes, first.pci_bus_id, first.warnings, first.compute_slices) == ((Runtime.HIP,), "0000:01:00.0", (), 8)
    modes = {each.name: (each.profile_id, each.size, each.starts, each.shared) for each in first.profiles}
    assert modes["CPX/NPS4"] == (84, 1, (0, 1, 2, 3, 4, 5, 6, 7), "NPS4")
    assert modes["SPX/NPS1"] == (17, 8, (0,), "NPS1")
    links = read(answer["links"], tuple[Link, ...])
    assert len(links) == 28
    assert links[0] == Link(a=UUIDS[0], b=UUIDS[1], kind=LinkKind.XGMI, lanes=1, bytes_per_s=64_000_000_000)
    assert set(answer["living"]) == set(UUIDS)
    assert read(answer["samples"], list[DeviceReading])[0].vram_total_bytes == VRAM
    assert answer["processes"] == [[]] * 8
    assert (answer["library"], answer["rocm_home"]) == ("libamd_smi.so", "/opt/rocm")


def test_the_life_of_a_layout(node: Node) -> None:
    """Partitions come and go with their layout, keep their names while it lasts, and SPX/NPS1 is the device itself."""
    answer = node.run("life")
    made, living = read(answer["made"], Partition), read(answer["living"], tuple[Partition, ...])
    assert (made.profile, made.start, made.size, made.layout) == ("CPX/NPS1", 3, 1, "CPX/NPS1")
    assert read(answer["again"], Partition) == made == living[3]
    assert [each.uuid for each in living] == answer["engine"]
    assert len(set(answer["engine"])) == 8
    partitioned = read(answer["partitioned"], Device)
    assert (partitioned.id, partitioned.partitioned, partitioned.vram_bytes, partitioned.multiprocessors) == (
        UUIDS[1], True, VRAM, 304,
    )  # fmt: skip
    assert partitioned.warnings == ()
    access = read(answer["access"], Access)
    assert (access.visible, access.cdi) == ({"ROCR_VISIBLE_DEVICES": made.uuid}, "")
    assert (access.devices[0], access.devices[1][:-3]) == ("/dev/kfd", "/dev/dri/renderD")
    assert read(answer["sample"], DeviceReading) == DeviceReading(vram_used_bytes=0, vram_total_bytes=VRAM // 8)
    assert read(answer["whole_sample"], DeviceReading).vram_total_bytes == VRAM
    assert answer["after_destroy"] == 8
    other = read(answer["other"], Partition)
    assert (other.profile, other.start, other.size) == ("DPX/NPS1", 4, 4)
    assert "it is gone" in answer["gone"]
    spx = read(answer["spx"], Partition)
    assert (spx.uuid, spx.profile, spx.start, spx.size) == (UUIDS[1], "SPX/NPS1", 0, 8)
    assert read(answer["whole"], Device).partitioned is False
    assert answer["books"] == ""
    assert read(answer["whole_living"], tuple[Partition, ...]) == (spx,)
    assert read(answer["whole_access"], Access) == Access(
        visible={"ROCR_VISIBLE_DEVICES": f"GPU-{UUIDS[1].replace('-', '')[:16]}"},
        devices=("/dev/kfd", "/dev/dri/renderD129"),
        cdi="amd.com/gpu=1",
    )


def test_a_partition_in_use(node: Node) -> None:
    """A device is not laid out anew while a process is on one of its partitions; counters tell whose memory it is."""
    answer = node.run("in_use")
    assert answer["pids"] == [answer["pid"]]
    assert answer["whole"].startswith("PartitionInUseError")
    assert answer["processes"] == answer["device_processes"] == [[answer["pid"], 3 << 30]]
    assert answer["neighbour"] == []
    assert answer["sample"]["vram_used_bytes"] == answer["device_sample"]["vram_used_bytes"] == 3 << 30
    assert len(answer["still"]) == 8
    assert answer["then"]["layout"] == "DPX/NPS1"


def test_a_memory_mode_is_the_hives(node: Node) -> None:
    """It changes only while all devices are idle, and then for all of them, there and back."""
    answer = node.run("memory_mode")
    assert "memory mode NPS4 takes all AMD devices of this machine to be idle: in use by 1 processes" in answer["refused"]
    assert answer["partitioned"] is False
    assert (answer["made"]["profile"], answer["made"]["start"]) == ("CPX/NPS4", 3)
    assert (answer["modes"], answer["counts"]) == (["CPX/NPS4"], [8] * 8)
    assert "memory mode NPS1 takes all AMD devices of this machine to be idle" in answer["kept"]
    assert answer["after"] == [False] * 8


def test_what_is_changed_by_hand_is_seen(node: Node) -> None:
    """Another's layout, and that of a rebooted node, are what there is; a partition that is gone is an error."""
    answer = node.run("by_hand")
    assert [each["uuid"] for each in answer["before"]] == [UUIDS[2]]
    assert [(each["profile"], each["start"]) for each in answer["halves"]] == [("DPX/NPS1", 0), ("DPX/NPS1", 4)]
    assert "amdsmi lists no such one" in answer["gone"]
    assert len({each["uuid"] for each in answer["quarters"] + answer["halves"]}) == 6
    assert answer["rebooted"] == answer["before"]


def test_a_device_that_another_process_lays_out(node: Node) -> None:
    """Who opened amdsmi before still sees all of the device, its memory and every process on it."""
    answer = node.run("anothers")
    for described in (read(answer["described"], Device), read(answer["halved"], Device)):
        assert (described.partitioned, described.vram_bytes, described.multiprocessors) == (True, VRAM, 304)
        assert described.profiles[0].vram_bytes == VRAM
        assert described.warnings == ()
    assert read(answer["sample"], DeviceReading).vram_total_bytes == VRAM
    assert read(answer["half_sample"], DeviceReading).vram_total_bytes == VRAM
    assert answer["processes"] == [[answer["pid"], 1 << 30]]
    assert answer["last"]["vram_used_bytes"] == 1 << 30


def test_a_layout_that_the_device_refuses(node: Node) -> None:
    """The error says so, nothing is left half made, and the next try works."""
    answer = node.run("refused")
    assert "AMDSMI_STATUS_API_FAILED" in answer["said"]
    assert [each["profile"] for each in answer["left"]] == ["SPX/NPS1"]
    assert answer["then"]["profile"] == "CPX/NPS1"


def test_a_sick_device_stops_no_other(node: Node) -> None:
    """One that is gone is told as that, and one that hangs delays only who asks it."""
    answer = node.run("sick")
    assert answer["lost"].startswith("VendorError: amd device 0: Error code: 12")
    (finding,) = read(answer["finding"], list[Finding])
    assert (finding.kind, finding.severity, finding.lasting) == ("bus", Severity.FATAL, True)
    assert answer["others"] == ["nothing"] * 7
    assert answer["living"] == 8
    assert answer["beside"] == [VRAM] * 7
    assert answer["found"] == [[]] * 7


def test_findings(node: Node) -> None:
    """Events are told once, each to its own device; errors and heat as long as they last."""
    answer = node.run("findings")
    assert answer["healthy"] == [[], []]
    (throttled,) = read(answer["first"], list[Finding])
    assert (throttled.kind, throttled.severity, throttled.lasting) == ("thermal", Severity.WARNING, False)
    reset = [(each.kind, each.severity) for each in read(answer["second"], list[Finding])]
    assert reset == [("fault", Severity.WARNING), ("fault", Severity.INFO), ("fault", Severity.INFO)]
    assert answer["again"] == []
    state = [(each.kind, each.severity, each.lasting) for each in read(answer["state"], list[Finding])]
    assert state == [("ecc", Severity.WARNING, True), ("thermal", Severity.WARNING, True)]
    assert [each.severity for each in read(answer["hot"], list[Finding])] == [Severity.WARNING, Severity.FATAL]
    anew = read(answer["watched_anew"], Finding)
    assert (anew.kind, anew.severity, anew.lasting) == ("thermal", Severity.WARNING, False)


def test_a_node_without_amd_devices(tmp_path: Path) -> None:
    """The vendor is absent."""
    assert "AMDSMI_STATUS_DRIVER_NOT_LOADED" in Node(tmp_path / "sim", demo_node_path()).run("absent")
