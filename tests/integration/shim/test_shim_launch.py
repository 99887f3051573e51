"""Launches under the shim: shares, control words, windows, and what is accounted."""

from collections.abc import Callable

import pytest
from shim_node import MIB, Node, Tenant

from mica.events import Control

MS = 1_000_000
KERNEL_NS = 502_000
"""What one launch of the kernel `spin` costs on the simulated device: launch_ns + one wave of block_ns."""

Eventually = Callable[[Callable[[], bool]], None]


def test_launches_are_accounted(node: Node) -> None:
    """Launches are counted, and their device time is what the driver's books say, once it has been measured."""
    node.place("a", burst_ns=10**12)
    tenant = node.start("a").started()
    for _ in range(5):
        assert tenant("launch", 10) == [0]
        assert tenant("sync") == [0]
    usage = node.usage("a")
    assert usage.launches == 50
    assert usage.gpu_ns == usage.processes[0].gpu_ns
    assert usage.gpu_ns == pytest.approx(node.account(tenant)["kernel_ns"], rel=0.1)


def test_launches_are_counted_to_the_last(node: Node, eventually: Eventually) -> None:
    """Short kernels run on credit and are counted a little later: by the program's end at the latest."""
    node.describe(launch_ns=2_000, block_ns=1_000)
    node.place("a", burst_ns=10**12)
    tenant = node.start("a").started()
    assert tenant("kernel", "brief") == [0]
    for _ in range(20):
        assert tenant("launch", 5) == tenant("sync") == [0]
    eventually(lambda: node.usage("a").launches == 100)
    for _ in range(3):
        assert tenant("launch") == [0]
    tenant.close()
    assert node.usage("a").launches == 103


def kernel_ns(node: Node, *tenants: Tenant) -> list[int]:
    books = {process["own_pid"]: process["accounts"][0]["kernel_ns"] for process in node.books()["processes"] if process["live"]}
    return [books[tenant.process.pid] for tenant in tenants]


def test_two_floods_share_as_asked(node: Node, eventually: Eventually) -> None:
    """Of two slices that launch without end, one asked for 70 % of the device and one for 30 %, each gets its part.

    Measured in the driver's own books, over a stretch in which both were busy. The bound is wide because the machine below
    may keep either program from running; what the shim decides is far closer.
    """
    node.place("a", share_ppm=700_000)
    node.place("b", share_ppm=300_000)
    first, second = node.start("a").started(), node.start("b").started()
    for tenant in (first, second):
        tenant.send("launch", 10**9)
    eventually(lambda: min(kernel_ns(node, first, second)) > 200 * MS)
    begin = kernel_ns(node, first, second)
    eventually(lambda: sum(kernel_ns(node, first, second)) - sum(begin) > 2000 * MS)
    end = kernel_ns(node, first, second)
    part = (end[0] - begin[0]) / (sum(end) - sum(begin))
    print(f"asked 70.0 %, got {100 * part:.1f} %")
    assert 0.60 < part < 0.80


def test_a_share_bounds_a_lone_flood(node: Node, eventually: Eventually) -> None:
    """A slice with a quarter of the device gets no more than that of the time that passes, though nobody else wants it."""
    node.place("a", share_ppm=250_000)
    tenant = node.start("a").started()
    tenant.send("launch", 10**9)
    eventually(lambda: kernel_ns(node, tenant)[0] > 100 * MS)
    before = node.books()
    eventually(lambda: kernel_ns(node, tenant)[0] > 500 * MS)
    after = node.books()
    passed = after["now_ns"] - before["now_ns"]
    ran = sum(p["accounts"][0]["kernel_ns"] for p in after["processes"]) - sum(
        p["accounts"][0]["kernel_ns"] for p in before["processes"]
    )
    assert ran <= 0.25 * passed * 1.1 + 30 * MS
    assert node.usage("a").throttled_ns > 0


def test_a_raised_share_takes_effect_at_once(node: Node, eventually: Eventually) -> None:
    """A flood that waits on a tiny share goes on as soon as the record gives it more."""
    node.place("a", share_ppm=1, ceiling_ppm=1, burst_ns=0)
    tenant = node.start("a").started()
    tenant.send("launch", 100)
    eventually(lambda: node.usage("a").throttled_ns > 0)
    stuck = node.usage("a").launches
    assert stuck < 100
    node.change("a", share_ppm=1_000_000, generation=2, burst_ns=10**18)
    assert tenant.answer() == [0]
    assert node.usage("a").launches == 100


def test_pause_holds_and_run_lets_go(node: Node, eventually: Eventually) -> None:
    """A paused slice launches nothing, allocates as before, and goes on when it is told to run."""
    node.place("a", control=Control.PAUSE)
    tenant = node.start("a").started()
    assert tenant("alloc", "p", MIB) == [0]
    tenant.send("launch")
    eventually(lambda: node.usage("a").throttled_ns > 20 * MS)
    assert node.usage("a").launches == 0
    node.change("a", generation=2)
    assert tenant.answer() == [0]
    assert node.usage("a").launches == 1


def test_kill_ends_a_wait_and_every_later_call(node: Node, eventually: Eventually) -> None:
    """Kill fails a launch that waits, and from then on every call of the program, passed through or not."""
    node.place("a", control=Control.PAUSE)
    tenant = node.start("a").started()
    tenant.send("launch")
    eventually(lambda: node.usage("a").throttled_ns > 0)
    node.change("a", control=Control.KILL, generation=2)
    assert tenant.answer() == [800]
    assert tenant("alloc", "p", 1) == [800]


def test_a_vanished_record_refuses_new_work(node: Node) -> None:
    """When the record is gone, new memory and launches are refused; what is held can be given back."""
    node.place("a")
    tenant = node.start("a").started()
    assert tenant("alloc", "p", MIB) == [0]
    node.clear("a")
    assert tenant("alloc", "q", 1) == [800]
    assert tenant("launch") == [800]
    assert tenant("info")[0] == 800
    assert tenant("free", "p") == [0]
    assert node.usage("a").vram_bytes == 0


def test_a_record_that_moves_is_found_again(node: Node) -> None:
    """A slice whose record comes back at another index goes on with its limits."""
    node.place("a")
    tenant = node.start("a").started()
    node.clear("a")
    node.place("b")
    node.place("a", vram_limit_bytes=5 * MIB, generation=3)
    assert tenant("info") == [0, 5 * MIB, 5 * MIB]


def test_drain_refuses_memory_and_lets_work_go_on(node: Node) -> None:
    """A draining slice gets no new memory; what runs goes on."""
    node.place("a")
    tenant = node.start("a").started()
    node.change("a", control=Control.DRAIN, generation=2)
    assert tenant("alloc", "p", 1) == [2]
    assert tenant("launch") == [0]


def test_a_window_is_kept(node: Node, eventually: Eventually) -> None:
    """A slice with a window that is never open in this lifetime launches nothing until the window is lifted."""
    year = 365 * 24 * 3600 * 10**9
    node.place("a", window_period_ns=100 * year, window_offset_ns=50 * year, window_length_ns=year)
    tenant = node.start("a").started()
    tenant.send("launch")
    eventually(lambda: node.usage("a").throttled_ns > 5 * MS)
    assert node.usage("a").launches == 0
    node.change("a", generation=2)
    assert tenant.answer() == [0]


def test_throttle_takes_borrowed_time_away(node: Node, eventually: Eventually) -> None:
    """Control word throttle holds a slice to its guaranteed share, whatever the ceiling lets it borrow."""
    node.place("a", share_ppm=1, ceiling_ppm=1_000_000, burst_ns=0, control=Control.THROTTLE)
    tenant = node.start("a").started()
    tenant.send("launch", 50)
    eventually(lambda: node.usage("a").throttled_ns > 5 * MS)
    assert node.usage("a").launches < 50
    node.change("a", share_ppm=1, ceiling_ppm=1_000_000, burst_ns=10**18, generation=2)
    assert tenant.answer() == [0]


def test_a_refused_launch_costs_nothing(node: Node) -> None:
    """A launch that the driver refuses is not charged."""
    node.place("a")
    tenant = node.start("a").started()
    assert tenant("bad_launch")[0] != 0
    assert node.usage("a").gpu_ns == 0
