"""Joining a slice: the slot, the datagram, the one line when it is refused, and what happens to a slot afterwards."""

import os
import socket
from pathlib import Path

import pytest
from shim_node import UUIDS, Node, Tenant
from slice_regions import monotonic_ns

from mica.events import Control
from mica.native import LIB_DIR
from mica.region import Owner, SliceState, decode_attach, owner_of, process_start_ticks

NOT_PERMITTED = 800


def refused(tenant: Tenant) -> str:
    """What the one line says of a program whose attach is refused."""
    assert tenant("init") == [NOT_PERMITTED]
    assert tenant("primary") in ([NOT_PERMITTED], [3])
    assert tenant("info")[0] in (NOT_PERMITTED, 3)
    assert tenant("alloc", "p", 1)[0] in (NOT_PERMITTED, 3)
    lines = tenant.close().splitlines()
    assert tenant.process.returncode == 0
    assert len(lines) == 1, lines
    assert lines[0].startswith("mica: slice a: attach refused: ")
    return lines[0].removeprefix("mica: slice a: attach refused: ")


def test_without_a_slice_everything_passes_through(node: Node) -> None:
    """A program that is in no slice sees the device itself, and no region is touched."""
    tenant = node.start(None).started()
    assert tenant("total")[1] > 20 * 2**30
    assert tenant("alloc", "p", 2**30) == [0]
    assert tenant("launch") == [0]
    assert tenant("free", "p") == [0]
    assert not node.runtime.root.exists()
    assert tenant.close() == ""


def test_a_process_takes_a_slot_and_says_so(node: Node) -> None:
    """An attached process holds one slot under its own owner word, and sent it in a datagram with its credentials."""
    node.place("a")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as inbox:
        inbox.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        here = os.open(node.runtime.root, os.O_RDONLY | os.O_DIRECTORY)
        os.mkdir("attach", dir_fd=here)
        inbox.bind(f"/proc/self/fd/{here}/attach/socket")
        os.close(here)
        inbox.settimeout(20)
        tenant = node.start("a").started()
        data, control, _, _ = inbox.recvmsg(4096, 256)
    message = decode_attach(data)
    pid = tenant.process.pid
    (slot,) = node.usage("a").processes
    assert (slot.pid, slot.start_ticks) == (pid, Owner(pid, process_start_ticks(pid)).start_ticks)
    assert (message.owner, message.slot, message.slice_id, message.device_id) == (owner_of(pid), slot.slot, "a", UUIDS[0])
    assert int.from_bytes(control[0][2][:4], "little") == pid


def test_a_normal_exit_gives_the_slot_back(node: Node) -> None:
    """A program that ends with nothing allocated leaves a free slot, and what the slice has used in all stays."""
    node.place("a")
    tenant = node.start("a").started()
    assert tenant("launch") == [0]
    assert tenant("sync") == [0]
    assert tenant.close() == ""
    assert node.usage("a").processes == ()
    assert node.usage("a").launches == 1


def test_a_process_that_exits_with_memory_keeps_its_slot(node: Node) -> None:
    """Memory that a program did not free is the driver's until the process is really gone: the slot waits for the enforcer."""
    node.place("a")
    tenant = node.start("a").started()
    assert tenant("alloc", "p", 100) == [0]
    tenant.close()
    (slot,) = node.usage("a").processes
    assert slot.vram_bytes == 100


def test_a_forked_child_is_a_process_of_its_own(node: Node) -> None:
    """A child attaches anew, in a slot of its own; the parent's slot and memory are untouched by the child's end."""
    node.place("a")
    tenant = node.start("a").started()
    assert tenant("alloc", "p", 4096) == [0]
    _, child = tenant("fork")
    assert {slot.pid: slot.vram_bytes for slot in node.usage("a").processes} == {tenant.process.pid: 4096, child: 0}
    assert tenant("reap") == 0
    assert tenant("info")[0] == 0
    assert tenant("free", "p") == [0]
    assert node.usage("a").vram_bytes == 0


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"control": Control.DRAIN}, "control is drain"),
        ({"control": Control.KILL}, "control is kill"),
        ({"state": SliceState.DRAINING}, "the slice is draining"),
    ],
)
def test_a_slice_that_empties_takes_nobody_in(node: Node, changes: dict[str, object], why: str) -> None:
    """Drain and kill refuse new processes, and leave no slot behind."""
    node.place("a", **changes)
    assert refused(node.start("a")) == f"device {UUIDS[0]}: {why}"
    assert node.usage("a").processes == ()


def test_a_clock_from_another_time_is_refused(node: Node) -> None:
    """A heartbeat that lies in the process's future means that its clock is not the enforcer's."""
    node.place("a")
    node.quota(UUIDS[0]).heartbeat(monotonic_ns() + 60_000_000_000)
    assert "clock disagrees" in refused(node.start("a"))


def test_an_enforcer_that_is_away_does_not_matter(node: Node) -> None:
    """A stale heartbeat and no socket keep nobody out: the record is live."""
    node.place("a")
    node.quota(UUIDS[0]).heartbeat(1)
    tenant = node.start("a").started()
    assert tenant("info")[0] == 0


@pytest.mark.parametrize("name", ["../a", "a" * 65, "a b", "a\nb", "a" * 5000, "%s%n"])
def test_a_name_that_is_no_slice_id_is_refused(node: Node, name: str) -> None:
    """MICA_SLICE cannot leave the runtime directory."""
    tenant = node.start(name)
    assert tenant("init") == [NOT_PERMITTED]
    (line,) = tenant.close().splitlines()
    assert "is no slice id" in line


@pytest.mark.parametrize("name", ["libcuda.so.1", "libcuda.so"])
def test_a_driver_that_is_the_shim_itself_is_refused(node: Node, name: str) -> None:
    """The shim never takes itself for the driver below, however it is pointed at."""
    node.place("a")
    tenant = node.start("a", MICA_CUDA_DRIVER=str(LIB_DIR / "shim" / name))
    assert tenant("init") != [0]
    assert "is not the absolute path of another libcuda.so.1" in tenant.close()


def test_without_a_setting_the_driver_is_found_in_the_library_path(node: Node) -> None:
    """LD_LIBRARY_PATH leads the shim to the driver below it, as it leads a program without the shim."""
    node.place("a")
    environment = node.environment("a")
    shim_dir = Path(environment["LD_PRELOAD"].split(":")[0]).parent
    tenant = node.start("a", MICA_CUDA_DRIVER="", LD_LIBRARY_PATH=f"{shim_dir}:{environment['LD_LIBRARY_PATH']}").started()
    assert tenant("info") == [0, 2**30, 2**30]
