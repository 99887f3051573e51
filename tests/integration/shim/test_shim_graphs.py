"""Graphs and captures under the shim: charged by what their kernels take, with the memory that they allocate."""

from collections.abc import Callable
from pathlib import Path

import pytest
from shim_node import GIB, MIB, UUIDS, Node, Tenant

from mica.events import Control
from mica.region import reclaim_slot

MS = 1_000_000
KERNEL_NS = 502_000
"""What one launch of the kernel `spin` costs on the simulated device: launch_ns + one wave of block_ns."""
CLIENT = Path(__file__).with_name("graph_client.py")

Eventually = Callable[[Callable[[], bool]], None]


def start(node: Node, slice_id: str = "a", **limits: int | Control) -> Tenant:
    node.place(slice_id, **limits)
    return node.start(slice_id, CLIENT).started()


def capture(tenant: Tenant, name: str, kernels: int) -> None:
    """Capture that many launches into an executable graph."""
    assert tenant("begin") == [0]
    assert tenant("launch_there", kernels) == [0]
    assert tenant("end", name) == [0]
    assert tenant("instantiate", name) == [0]


def device_ns(node: Node, tenant: Tenant) -> int:
    return int(node.account(tenant)["kernel_ns"])


def test_a_graph_is_charged_what_its_kernels_take(node: Node, eventually: Eventually) -> None:
    """Once it is known, a slice is charged for graphs of eight kernels, and of one, what the driver's books say that they ran."""
    tenant = start(node, burst_ns=10**12)
    capture(tenant, "eight", 8)
    capture(tenant, "one", 1)

    def charged() -> float:
        before = node.usage("a"), device_ns(node, tenant)
        for _ in range(5):
            assert tenant("go", "eight") == [0]
            assert tenant("go", "one") == [0]
            assert tenant("sync") == [0]
        usage = node.usage("a")
        assert usage.launches - before[0].launches == 10
        assert device_ns(node, tenant) - before[1] == 45 * KERNEL_NS
        return (usage.gpu_ns - before[0].gpu_ns) / KERNEL_NS

    eventually(lambda: charged() == pytest.approx(45, rel=0.1))


def test_a_captured_launch_costs_nothing(node: Node) -> None:
    """Capturing is free, though the slice is paused: nothing runs, nothing is charged, and nobody waits."""
    tenant = start(node, control=Control.PAUSE)
    capture(tenant, "graph", 1000)
    usage = node.usage("a")
    assert (usage.gpu_ns, usage.throttled_ns, device_ns(node, tenant)) == (0, 0, 0)


def test_a_graph_waits_as_its_kernels_would(node: Node, eventually: Eventually) -> None:
    """A graph of a paused slice is held until the slice runs again."""
    tenant = start(node, control=Control.PAUSE)
    capture(tenant, "graph", 4)
    tenant.send("go", "graph")
    eventually(lambda: node.usage("a").throttled_ns > 0)
    assert device_ns(node, tenant) == 0
    node.change("a", generation=2)
    assert tenant.answer() == [0]
    assert tenant("sync") == [0]
    assert device_ns(node, tenant) == 4 * KERNEL_NS


def test_a_flood_of_graphs_gets_its_share_beside_a_flood_of_kernels(node: Node, eventually: Eventually) -> None:
    """Of two slices with half of the device each, one launches graphs of 16 kernels and the other kernels: neither gets ahead."""
    graphs, kernels = (start(node, each, share_ppm=500_000, quantum_ns=2 * MS) for each in "ab")
    capture(graphs, "graph", 16)
    graphs.send("go", "graph", 10**9)
    kernels.send("launch", 10**9)

    def ran() -> list[int]:
        return [device_ns(node, tenant) for tenant in (graphs, kernels)]

    eventually(lambda: min(ran()) > 200 * MS)
    begin = ran()
    eventually(lambda: sum(ran()) - sum(begin) > 1000 * MS)
    end = ran()
    part = (end[0] - begin[0]) / (sum(end) - sum(begin))
    print(f"asked 50.0 %, got {100 * part:.1f} %")
    assert 0.40 < part < 0.60


def test_what_changes_a_graph_changes_its_charge(node: Node, eventually: Eventually) -> None:
    """A child graph counts, a node that is switched off does not, and an update is charged as what it made of the graph."""
    tenant = start(node, burst_ns=10**12)
    assert [tenant(*call) for call in (("create_graph", "child"), ("create_graph", "graph"))] == [[0], [0]]
    for _ in range(3):
        assert tenant("add_kernel", "child") == [0]
    assert tenant("add_child", "graph", "child") == [0]
    assert tenant("add_kernel", "graph") == [0]
    assert tenant("instantiate", "graph") == [0]

    def charged() -> float:
        before = node.usage("a").gpu_ns
        for _ in range(5):
            assert tenant("go", "graph") == [0]
            assert tenant("sync") == [0]
        return (node.usage("a").gpu_ns - before) / 5 / KERNEL_NS

    eventually(lambda: charged() == pytest.approx(4, rel=0.1))
    assert tenant("enable", "graph", False) == [0]
    eventually(lambda: charged() == pytest.approx(3, rel=0.1))


def test_a_capture_is_not_disturbed_by_what_is_measured(node: Node) -> None:
    """Launches elsewhere are timed and settled while a capture that forbids every thread to wait goes on, and it ends well."""
    tenant = start(node, burst_ns=10**12)
    assert tenant("begin") == [0]
    for _ in range(50):
        assert tenant("launch_there") == [0]
        assert tenant("capturing") == [0, 1]
    assert tenant("end", "graph") == [0]
    assert tenant("launch", 50) == [0]
    assert tenant("begin", 2) == [0]
    assert tenant("launch", 50) == [0]
    assert tenant("launch_there", 50) == [0]
    assert tenant("end", "graph") == [0]


def test_memory_of_a_graph_is_charged_from_its_launch_to_its_trim(node: Node) -> None:
    """Describing an allocation is free; a launch is charged what the driver reserves, and it stays so until it is trimmed."""
    tenant = start(node)
    assert tenant("begin") == [0]
    assert tenant("alloc_there", "p", 5 * MIB) == [0]
    assert tenant("fill_there", "p", 5 * MIB) == [0]
    assert tenant("free_there", "p") == [0]
    assert tenant("end", "graph") == [0]
    assert tenant("instantiate", "graph") == [0]
    assert node.usage("a").vram_bytes == 0
    for _ in range(3):
        assert tenant("go", "graph") == [0]
        assert node.usage("a").vram_bytes == tenant("graph_reserve") == 6 * MIB
    assert tenant("destroy_exec", "graph") == [0]
    assert node.usage("a").vram_bytes == 6 * MIB
    assert tenant("trim_graphs") == [0]
    assert node.usage("a").vram_bytes == tenant("graph_reserve") == 0


@pytest.mark.parametrize("call", ["go", "upload"])
def test_a_graph_that_needs_more_than_the_slice_has_is_not_started(node: Node, call: str) -> None:
    """It is out of memory, for a launch and an upload alike; nothing ran, nothing stayed, and it works once there is room."""
    tenant = start(node, vram_limit_bytes=8 * MIB)
    assert tenant("alloc", "big", 4 * MIB) == [0]
    assert tenant("create_graph", "graph") == [0]
    assert tenant("add_kernel", "graph") == [0]
    assert tenant("add_alloc", "graph", "p", 5 * MIB) == [0]
    assert tenant("add_free", "graph", "p") == [0]
    assert tenant("instantiate", "graph") == [0]
    assert tenant(call, "graph") == [2]
    assert (node.usage("a").vram_bytes, tenant("graph_reserve"), device_ns(node, tenant)) == (4 * MIB, 0, 0)
    assert tenant("free", "big") == [0]
    assert tenant(call, "graph") == [0]
    assert node.usage("a").vram_bytes == 6 * MIB


def test_memory_that_a_graph_leaves_stays_charged_when_the_program_frees_it(node: Node) -> None:
    """The driver keeps it for graphs, so that it is the slice's until it is trimmed; it is never counted twice."""
    tenant = start(node)
    assert tenant("create_graph", "graph") == [0]
    assert tenant("add_alloc", "graph", "p", 2 * MIB) == [0]
    assert tenant("instantiate", "graph") == [0]
    assert tenant("go", "graph") == [0]
    assert tenant("sync") == [0]
    assert node.usage("a").vram_bytes == 2 * MIB
    assert tenant("free", "p") == [0]
    assert node.usage("a").vram_bytes == 2 * MIB
    assert tenant("trim_graphs") == [0]
    assert node.usage("a").vram_bytes == 0


def test_memory_of_a_graph_whose_program_died_is_reclaimed_with_the_rest(node: Node) -> None:
    """SIGKILL while a graph's memory is charged: whoever reclaims the dead one's place gives all of it back."""
    tenant = start(node)
    assert tenant("create_graph", "graph") == [0]
    assert tenant("add_alloc", "graph", "p", GIB - 8 * MIB) == [0]
    assert tenant("instantiate", "graph") == [0]
    assert tenant("go", "graph") == [0]
    tenant.process.kill()
    tenant.process.wait()
    (slot,) = node.usage("a").processes
    assert reclaim_slot(node.runtime.usage_path("a", UUIDS[0]), slot.slot, slot.owner)
    assert node.start("a").started()("alloc", "q", GIB - 8 * MIB) == [0]
