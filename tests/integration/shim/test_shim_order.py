"""Slices that share a device by time: whose work goes to the device next, and that nobody who dies or stops can hold it."""

import os
import signal
from collections.abc import Callable

import pytest
from shim_node import Node, Tenant

MS = 1_000_000
QUANTUM_NS = 2 * MS
KERNEL_NS = 502_000

Eventually = Callable[[Callable[[], bool]], None]


def kernel_ns(node: Node, *tenants: Tenant) -> list[int]:
    books = {process["own_pid"]: process["accounts"][0]["kernel_ns"] for process in node.books()["processes"] if process["live"]}
    return [books[tenant.process.pid] for tenant in tenants]


def flood(node: Node, *shares_ppm: int) -> list[Tenant]:
    """Slices of these shares, each with a program that launches without end, and all of them at work."""
    tenants = []
    for index, share_ppm in enumerate(shares_ppm):
        node.place(f"s{index}", share_ppm=share_ppm, ceiling_ppm=1_000_000, quantum_ns=QUANTUM_NS)
        tenants.append(node.start(f"s{index}").started())
    for tenant in tenants:
        tenant.send("launch", 10**9)
    return tenants


def test_floods_share_the_device_in_order(node: Node, eventually: Eventually) -> None:
    """Of three slices that may all borrow what is idle, and never let it be, each gets its part, by the driver's own books."""
    tenants = flood(node, 500_000, 300_000, 200_000)
    eventually(lambda: min(kernel_ns(node, *tenants)) > 100 * MS)
    begin = kernel_ns(node, *tenants)
    eventually(lambda: sum(kernel_ns(node, *tenants)) - sum(begin) > 2000 * MS)
    ran = [end - start for end, start in zip(kernel_ns(node, *tenants), begin, strict=True)]
    parts = [each / sum(ran) for each in ran]
    assert parts == pytest.approx([0.5, 0.3, 0.2], abs=0.05)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_who_dies_or_stops_holds_nobody_up(node: Node, eventually: Eventually, how: signal.Signals) -> None:
    """When a program that has most of the device is killed, or stopped, at any moment, its neighbour goes on, and has it all."""
    first, second = flood(node, 900_000, 100_000)
    eventually(lambda: min(kernel_ns(node, first, second)) > 20 * MS)
    os.kill(first.process.pid, how)
    before = node.books()["now_ns"], kernel_ns(node, second)[0]
    eventually(lambda: kernel_ns(node, second)[0] - before[1] > 1000 * MS)
    passed = node.books()["now_ns"] - before[0]
    assert kernel_ns(node, second)[0] - before[1] > 0.5 * passed


def test_what_is_counted_is_what_the_driver_saw(node: Node) -> None:
    """A slice that shares its device is charged exactly what its kernels took, from the first launch on."""
    node.place("a", burst_ns=10**12, quantum_ns=QUANTUM_NS)
    tenant = node.start("a").started()
    assert tenant("launch", 200) == [0]
    assert tenant("sync") == [0]
    assert node.account(tenant)["kernel_ns"] == 200 * KERNEL_NS
    assert node.usage("a").gpu_ns == pytest.approx(200 * KERNEL_NS, rel=0.01)


def test_processes_of_a_slice_share_by_weight(node: Node, eventually: Eventually) -> None:
    """Of two processes of one slice that both flood, one with three times the other's weight gets three times as much."""
    node.place("a", quantum_ns=QUANTUM_NS, burst_ns=1 * MS, share_ppm=500_000)
    tenants = [node.start("a", MICA_WEIGHT=weight).started() for weight in ("300", "100")]
    for tenant in tenants:
        tenant.send("launch", 10**9)
    eventually(lambda: min(kernel_ns(node, *tenants)) > 20 * MS)
    begin = kernel_ns(node, *tenants)
    eventually(lambda: sum(kernel_ns(node, *tenants)) - sum(begin) > 600 * MS)
    ran = [end - start for end, start in zip(kernel_ns(node, *tenants), begin, strict=True)]
    assert 0.65 < ran[0] / sum(ran) < 0.85
