"""The Intel adapter and the stand-in of ``xpu-smi`` on a simulated node of four Max 1550."""

import json
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from mica.hardware import NodeFile, demo_node_path, device_uuid, write_node_desc
from mica.native import LIB_DIR
from mica.vendors.intel._functions import precheck_refusal

PROGRAM = Path(__file__).with_name("simulated_intel.py")
NODE = "max1550-4"
GIB = 1 << 30
FIRST, SECOND, THIRD, FOURTH = (device_uuid(NODE, index).removeprefix("GPU-") for index in range(4))

pytestmark = pytest.mark.skipif(not (LIB_DIR / "sim" / "libze_loader.so.1").exists(), reason="run `make native` first")


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """The directory of the node."""
    directory = tmp_path / "sim"
    write_node_desc(NodeFile.load(Path(str(files("mica.hardware").joinpath(f"nodes/{NODE}.toml")))), directory)
    return directory


def run(node: Path, what: str) -> Any:
    """What the program prints when it does that."""
    variables = os.environ | {"MICA_SIM_DIR": str(node)}
    done = subprocess.run([sys.executable, PROGRAM, what], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def tool(node: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and output of the stand-in."""
    done = subprocess.run([node / "bin/xpu-smi", *arguments], capture_output=True, text=True, check=False, input="")
    assert done.stderr == ""
    return done.returncode, done.stdout


def names(partitions: list[dict[str, Any]]) -> list[str]:
    return [each["uuid"] for each in partitions]


def test_what_is_there(node: Path) -> None:
    """Devices as the catalogue has them, a mesh of Xe Links, tiles that are always there, and rates from the second look on."""
    answer = run(node, "inventory")
    devices = answer["devices"]
    assert [device["id"] for device in devices] == [FIRST, SECOND, THIRD, FOURTH]
    assert [(each["pci_bus_id"], each["numa_node"]) for each in devices][1:3] == [("0000:02:00.0", 0), ("0000:03:00.0", 1)]
    first = devices[0]
    assert (first["vram_bytes"], first["multiprocessors"], first["runtimes"]) == (128 * GIB, 128, ["level_zero"])
    assert (first["simulated"], first["switchable"], first.get("partitioned", False)) == (True, True, False)
    assert "warnings" not in first
    assert "hardware_refusal" not in first
    assert [each["name"] for each in first["profiles"]] == ["whole", "tile", "vf1", "vf2", "vf4", "vf6", "vf8", "vf16"]
    assert len(answer["links"]) == 6
    assert {(each["kind"], each["lanes"], each["bytes_per_s"]) for each in answer["links"]} == {("xe_link", 4, 106 * 10**9)}
    assert names(answer["living"][FIRST]) == [f"{FIRST}.0", f"{FIRST}.1"]
    assert [each["visible"] for each in answer["access"]] == [{"ZE_AFFINITY_MASK": str(index)} for index in range(4)]
    early, late = answer["samples"]
    assert (early[0]["vram_used_bytes"], early[0]["utilisation_ppm"], early[0]["temperature_c"]) == (0, None, 32)
    assert (late[0]["utilisation_ppm"], 110_000 < late[0]["power_mw"] < 130_000) == (0, True)
    assert answer["processes"] == [[], [], [], []]
    assert answer["unknown"] == "device no such device: sysman lists no such device"


def test_the_life_of_partitions(node: Path) -> None:
    """Functions are made at the asked start, found again, exchanged for others while nobody is there, and removed."""
    answer = run(node, "life")
    assert names(answer["partitions"]) == ["0000:01:00.2", "0000:01:00.1", "0000:01:00.4", FIRST, f"{FIRST}.1"]
    assert [each["layout"] for each in answer["partitions"]] == ["vf2", "vf2", "vf4", "whole", "tiles"]
    assert names(answer["halves"][FIRST]) == names(answer["kept"]) == ["0000:01:00.1", "0000:01:00.2"]
    assert names(answer["after"][FIRST]) == [f"{FIRST}.0", f"{FIRST}.1"]
    assert answer["reading"]["vram_total_bytes"] == 60 * GIB
    described = answer["described"]
    assert [device["id"] for device in described] == [FIRST, SECOND, THIRD, FOURTH]
    assert [device.get("partitioned", False) for device in described] == [True, False, False, False]
    function, beside, tile, whole = answer["accesses"]
    assert (function["visible"]["ZE_AFFINITY_MASK"], function["devices"]) == ("2", ["/dev/dri/renderD130"])
    assert beside["visible"]["ZE_AFFINITY_MASK"] == "5"  # behind the first device's four functions
    assert (tile["visible"]["ZE_AFFINITY_MASK"], whole["visible"]["ZE_AFFINITY_MASK"]) == ("0.1", "0")
    assert tile["env"]["ZE_FLAT_DEVICE_HIERARCHY"] == "COMPOSITE"
    assert "no layout vf3: offered are whole, tiles, vf1" in answer["odd"]
    assert "no vf2 at 2; there are 2 partitions" in answer["beyond"]
    assert "no x at 0" in answer["unmade"]


def test_who_is_inside_is_not_disturbed(node: Path) -> None:
    """Processes in a function or on the whole device are seen there, and nothing is changed under them."""
    answer = run(node, "in_use")
    pid = answer["inside"]
    assert answer["there"] == [[[pid, GIB]], [[pid, GIB]]]
    assert answer["reading"]["vram_used_bytes"] == GIB
    assert answer["held"] == [f"in use by [{pid}]"] * 2
    assert (answer["same"], answer["free"]) == ("done", "done")
    assert answer["refused"] == f"in use by [{answer['whole']}]"
    assert names(answer["living"]) == [f"{FIRST}.0", f"{FIRST}.1"]
    assert answer["later"] == "done"


def test_tiles(node: Path) -> None:
    """A tile's memory is its own; on which tile a process is, the library does not say and mica does not either."""
    answer = run(node, "tiles")
    pid = answer["pid"]
    assert [each["vram_used_bytes"] for each in answer["readings"]] == [0, GIB, GIB]
    assert [each["vram_total_bytes"] for each in answer["readings"]] == [64 * GIB, 64 * GIB, 128 * GIB]
    assert answer["processes"] == [[pid, GIB]]
    assert "does not tell on which tile" in answer["by_tile"]
    assert answer["refused"] == f"in use by [{pid}]"
    assert [each["vram_used_bytes"] for each in answer["whole"]] == [GIB // 2, GIB]


def test_what_others_did(node: Path) -> None:
    """Functions that were made by hand are found, and those that a reboot took are not."""
    answer = run(node, "by_hand")
    assert names(answer["there"]) == [f"0000:02:00.{number}" for number in range(1, 5)]
    assert names(answer["after"]) == [f"{SECOND}.0", f"{SECOND}.1"]
    assert not answer["device"].get("partitioned", False)


def test_faults(node: Path) -> None:
    """A refusal leaves nothing, findings name what is wrong, and a device that hangs or is lost leaves the others alone."""
    answer = run(node, "faults")
    assert "xpu-smi vgpu -d 0000:01:00.0 -c -n 2 --lmem 61440: ended with 56: Error: Fail to create" in answer["refusal"]
    assert names(answer["left"]) == [f"{FIRST}.0", f"{FIRST}.1"]
    assert answer["retried"] == "done"
    quiet, loud, later, other = answer["findings"]
    assert quiet == []
    assert [(each["kind"], each["severity"], each["lasting"]) for each in loud] == [
        ("ecc", "warning", False),
        ("fault", "fatal", False),
        ("thermal", "warning", True),
        ("ecc", "warning", False),
    ]
    assert [each["kind"] for each in later] == ["thermal"]
    assert [(each["kind"], each["device_id"]) for each in other] == [("bus", THIRD)]
    assert answer["hot"]["temperature_c"] == 110
    assert len(answer["keys"]) == 4
    assert all("the device is lost" in each for each in answer["lost"])
    assert [device["id"] for device in answer["devices"]] == [FIRST, SECOND, THIRD]
    assert len(answer["links"]) == 3


def test_a_node_without_intel_devices(tmp_path: Path) -> None:
    """The vendor is absent, and has no tools there."""
    write_node_desc(NodeFile.load(demo_node_path()), tmp_path)
    program = "from mica.vendors import open_drivers; print([driver.name for driver in open_drivers()])"
    variables = os.environ | {"MICA_SIM_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=True)
    assert "intel" not in done.stdout
    assert not (tmp_path / "bin/xpu-smi").exists()


def test_the_tool_prints_what_the_real_one_does(node: Path) -> None:
    """JSON with the real tool's keys, its table of functions, and its words and numbers for what it refuses."""
    code, text = tool(node, "vgpu", "--precheck", "-j")
    assert (code, precheck_refusal(text)) == (0, "")
    code, text = tool(node, "vgpu", "-d", "0", "-c", "-n", "2", "--lmem", "61440")
    assert code == 0
    rows = [line.strip("| ") for line in text.splitlines() if "BDF" in line or "Size" in line]
    assert rows == [
        *("PCI BDF Address: 0000:01:00.0", "Memory Physical Size: 8192.00 MiB"),
        *("PCI BDF Address: 0000:01:00.1", "Memory Physical Size: 61440.00 MiB"),
        *("PCI BDF Address: 0000:01:00.2", "Memory Physical Size: 61440.00 MiB"),
    ]
    listed = json.loads(tool(node, "vgpu", "-d", "0000:01:00.0", "-l", "-j")[1])["vf_list"]
    assert [each["function_type"] for each in listed] == ["physical", "virtual", "virtual"]
    assert tool(node, "vgpu", "-d", "0", "-c", "-n", "2") == (54, "Error: Please clear virtual GPUs first\n")
    assert tool(node, "vgpu", "-d", "0", "-r", "-y")[1].endswith("All virtual GPUs on the device 0 are removed.\n")
    assert tool(node, "vgpu", "-d", "0", "-r")[1].endswith("Remove virtual GPUs aborted\n")
    code, text = tool(node, "vgpu", "-d", "0", "-c", "-n", "3", "-j")
    assert (code, json.loads(text)) == (53, {"errno": 53, "error": "Invalid number of virtual GPUs"})
    assert tool(node, "vgpu", "-d", "0", "-c", "-n", "2", "--lmem", "99999")[0] == 52
    assert tool(node, "vgpu", "-d", "9", "-l") == (4, "Error: device not found\n")
    assert tool(node, "vgpu", "-c", "x")[0] == 2
    entries = json.loads(tool(node, "discovery", "-j")[1])["device_list"]
    assert (entries[0]["pci_bdf_address"], entries[0]["pci_device_id"]) == ("0000:01:00.0", "0xbd5")
    assert tool(node, "topology", "-m")[1].splitlines()[1].split("|")[:2] == ["GPU 0/0 ", "S      "]
    assert json.loads(tool(node, "ps", "-j")[1]) == {"device_util_by_proc_list": []}
    assert json.loads(tool(node, "health", "-d", "0", "-j")[1])["core_temperature"]["status"] == "OK"
    metrics = {
        each["metrics_type"]: each["value"] for each in json.loads(tool(node, "stats", "-d", "0", "-j")[1])["device_level"]
    }
    assert metrics["XPUM_STATS_POWER"] == 120.0


def test_a_machine_without_an_iommu(node: Path) -> None:
    """The tool's check fails in its words, which the adapter understands, and no functions are made."""
    (node / "sys/class/iommu").mkdir(parents=True)
    code, text = tool(node, "vgpu", "--precheck", "-j")
    assert code == 63
    assert precheck_refusal(text).startswith("IOMMU is disabled.")
    assert tool(node, "vgpu", "-d", "0", "-c", "-n", "2")[0] == 63
