"""NVML under the shim: the slice's devices, memory and processes, and nobody else's."""

import re
from collections.abc import Callable
from pathlib import Path

from shim_node import GIB, MIB, UUIDS, Node

SYMBOLS = Path(__file__).parents[3] / "native" / "shim" / "nvml" / "symbols.def"
NOT_SUPPORTED, NO_PERMISSION = 3, 4

Eventually = Callable[[Callable[[], bool]], None]


def test_only_the_slices_devices_are_there(node: Node) -> None:
    """A slice on the second and third device sees two devices, numbered from 0, and finds no other by its uuid."""
    node.place("a", UUIDS[1], vram_limit_bytes=3 * GIB)
    node.place("a", UUIDS[2], vram_limit_bytes=2 * GIB)
    tenant = node.start("a")
    seen = tenant("nvml")
    assert seen["uuids"] == UUIDS[1:]
    assert seen["indices"] == [0, 1]
    assert [total for total, _, _ in seen["memory"]] == [3 * GIB, 2 * GIB]
    assert tenant("nvml_by_uuid", UUIDS[2]) == "found"
    assert tenant("nvml_by_uuid", UUIDS[0]) == "Not Found"


def test_memory_is_the_slices(node: Node) -> None:
    """Used is what all processes of the slice hold, free is what is left of the limit; version 2 keeps its version."""
    node.place("a", vram_limit_bytes=GIB)
    node.place("b", vram_limit_bytes=GIB)
    first, second, neighbour = node.start("a").started(), node.start("a").started(), node.start("b").started()
    assert first("alloc", "p", 10 * MIB) == second("alloc", "p", 20 * MIB) == neighbour("alloc", "p", 500 * MIB) == [0]
    seen = first("nvml")
    assert seen["memory"] == [[GIB, GIB - 30 * MIB, 30 * MIB]]
    version, *rest = seen["memory_v2"][0]
    assert rest == [GIB, GIB - 30 * MIB, 30 * MIB]
    assert version == 0x02000000 | 40


def test_only_the_slices_processes_are_listed(node: Node) -> None:
    """Of three processes on the device, a slice lists its own two."""
    node.place("a")
    node.place("b")
    first, second, neighbour = node.start("a").started(), node.start("a").started(), node.start("b").started()
    assert sorted(first("nvml")["pids"][0]) == sorted([first.process.pid, second.process.pid])
    assert neighbour("nvml")["pids"] == [[neighbour.process.pid]]


def test_looking_takes_no_slot(node: Node) -> None:
    """A program that only looks at NVML is no process of the slice."""
    node.place("a")
    tenant = node.start("a")
    assert tenant("nvml")["uuids"] == [UUIDS[0]]
    assert node.usage("a").processes == ()


def test_without_a_slice_the_machine_is_seen(node: Node) -> None:
    """A program in no slice sees all devices with all their memory."""
    seen = node.start(None)("nvml")
    assert seen["uuids"] == UUIDS
    assert all(total == 24 * GIB for total, _, _ in seen["memory"])


def test_a_slice_that_cannot_be_read_is_refused(node: Node) -> None:
    """Without its regions NVML does not initialise, and one line says why."""
    tenant = node.start("gone")
    assert "NVMLError_NoPermission" in tenant("nvml")
    (line,) = tenant.close().splitlines()
    assert line == f"mica: slice gone: nvml refused: {node.runtime.root}/slices/gone: No such file or directory"


def test_a_resize_is_seen(node: Node) -> None:
    """The total follows the record, without a restart."""
    node.place("a", vram_limit_bytes=GIB)
    tenant = node.start("a")
    assert tenant("nvml")["memory"] == [[GIB, GIB, 0]]
    node.change("a", vram_limit_bytes=2 * GIB, generation=2)
    assert tenant("nvml")["memory"] == [[2 * GIB, 2 * GIB, 0]]


def test_bar1_is_as_large_as_the_slice_and_tells_of_nobody(node: Node) -> None:
    """No more than the slice's memory, all of it free: what is mapped through it is not counted by slice."""
    node.place("a", vram_limit_bytes=GIB)
    assert node.start("a").started()("nvml_activity")["bar1"] == [GIB, GIB, 0]
    assert node.start(None)("nvml_activity")["bar1"][0] == 32 * GIB


def test_utilisation_is_the_slices_own(node: Node, eventually: Eventually) -> None:
    """A slice that floods its half of the device is busy; its idle neighbour sees nothing of that."""
    node.place("a", share_ppm=500_000, quantum_ns=2_000_000)
    node.place("b", share_ppm=500_000, quantum_ns=2_000_000)
    busy, onlooker, idle = node.start("a").started(), node.start("a"), node.start("b")
    assert onlooker("nvml_activity")["gpu"] == 0
    busy.send("launch", 10**9)
    eventually(lambda: onlooker("nvml_activity")["gpu"] > 50)
    assert idle("nvml_activity")["gpu"] == 0


def test_what_changes_the_device_or_shows_neighbours_is_refused_in_a_slice(node: Node) -> None:
    """Every such call is, before anything is read of its arguments; outside of slices it is the library's to answer."""
    node.place("a")
    denied = re.findall(r"DENY\((\w+)\)", SYMBOLS.read_text())
    assert {"nvmlDeviceSetPowerManagementLimit", "nvmlDeviceSetMigMode", "nvmlDeviceGetProcessUtilization"} <= set(denied)
    assert set(node.start("a")("nvml_answers", denied).values()) == {NO_PERMISSION}
    assert node.start(None)("nvml_answers", ["nvmlDeviceSetFanSpeed_v2"]) == {"nvmlDeviceSetFanSpeed_v2": NOT_SUPPORTED}
