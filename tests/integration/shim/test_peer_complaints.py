"""What users of the best-known peer complain of, about memory: each complaint is a test that our shim must pass.

The complaints, as docs/guides/complaints.md numbers them, with the test that answers each; those about launches are in
test_peer_complaints_launch.py, those about who is limited at all in test_peer_complaints_entry.py.

- C1 a lock's holder that is killed or stopped stalls everyone: `test_a_killed_process_holds_nobody_up`,
  native/shim/tests/stopped_test.c
- C2 slots of dead processes stay charged: `test_memory_of_a_dead_process_stays_charged_until_it_is_reclaimed`
- C3 two processes overshoot the limit together: `test_two_processes_share_one_limit`, `test_two_racers_never_overshoot`
- C4 usage underflows to exabytes: `test_what_is_freed_twice_is_given_back_once`,
  `test_what_went_with_its_context_is_given_back_once`
- C8 frees in pools and in stream order drift: `test_a_thousand_frees_in_stream_order_leave_no_drift`
- C9 pool figures wrap below zero: `test_a_pools_figures_are_real`
- C12 free is reported equal to total: `test_free_falls_by_what_was_taken`
- C13 memory of NCCL is not counted: `test_what_nccl_shares_between_processes_is_charged_once`
- C14 memory of contexts is not counted: `test_contexts_and_memory_together_never_exceed_the_slice`
"""

from pathlib import Path

import pytest
from shim_node import GIB, MIB, PEER_CLIENT, UUIDS, Node, Tenant

from mica.region import reclaim_slot

OUT_OF_MEMORY = 2
CONTEXT = 256 * MIB
GRANULE = 2 * MIB
"""What the driver hands out memory in, and rounds up to."""
KINDS = {
    "alloc": (("alloc", "p", 5 * MIB), ("free", "p"), 5 * MIB),
    "pitch": (("pitch", "p", 1000, 100), ("free", "p"), 102_400),
    "managed": (("managed", "p", 5 * MIB), ("free", "p"), 5 * MIB),
    "array": (("array", "p", 100, 10), ("free_array", "p"), 16_000),
    "create": (("create", "p", 4 * MIB), ("release", "p"), 4 * MIB),
    "pool": (("alloc_async", "p", 4 * MIB), ("free_async", "p"), 4 * MIB),
}
"""By kind: the call that takes memory, the one that gives it back, and what is charged in between."""

Call = tuple[object, ...]


def vram(node: Node) -> int:
    return node.usage("a").vram_bytes


def test_a_killed_process_holds_nobody_up(node: Node) -> None:
    """C1: a process that is killed in the middle of its allocations leaves its neighbour in the slice all that it did not hold.

    The same with thousands of kills is `make proofs`'; with stopped holders, and a lock as the control, stopped_test.c.
    """
    node.place("a", vram_limit_bytes=64 * MIB)
    survivor = node.start("a").started()
    for _ in range(5):
        victim = node.start("a").started()
        victim.send("churn", MIB, 10**9)
        assert survivor("churn", MIB, 200) == 200
        victim.process.kill()
        victim.process.wait()
        assert survivor("churn", MIB, 200) == 200
    assert survivor("fill", MIB) >= 64 - 5, "each of the dead held at most one allocation"


def test_memory_of_a_dead_process_stays_charged_until_it_is_reclaimed(node: Node) -> None:
    """C2: a killed process's slot is the enforcer's to free; until then its memory is not sold again, and afterwards it is."""
    node.place("a", vram_limit_bytes=100)
    tenant = node.start("a").started()
    assert tenant("alloc", "p", 100) == [0]
    tenant.process.kill()
    tenant.process.wait()
    (slot,) = node.usage("a").processes
    other = node.start("a").started()
    assert other("alloc", "p", 100) == [OUT_OF_MEMORY]
    assert reclaim_slot(node.runtime.usage_path("a", UUIDS[0]), slot.slot, slot.owner)
    assert other("alloc", "p", 100) == [0]


def test_two_processes_share_one_limit(node: Node) -> None:
    """C3: two processes that fill the slice at the same time together get exactly what fits, and not a byte more."""
    node.place("a", vram_limit_bytes=256 * MIB)
    first, second = node.start("a").started(), node.start("a").started()
    first.send("fill", MIB)
    second.send("fill", MIB)
    assert first.answer() + second.answer() == 256
    assert node.account(first)["requested_bytes"] + node.account(second)["requested_bytes"] == 256 * MIB


def test_two_racers_never_overshoot(node: Node) -> None:
    """C3: while two processes take and give back what fits only once, the driver's books never show more than the limit."""
    node.place("a", vram_limit_bytes=64 * MIB)
    first, second = node.start("a").started(), node.start("a").started()
    first.send("churn", 40 * MIB, 3000)
    second.send("churn", 40 * MIB, 3000)
    assert first.answer() + second.answer() > 0
    device = next(device for device in node.books()["devices"] if device["uuid"] == UUIDS[0])
    assert device["spent_peak_bytes"] <= 64 * MIB
    assert vram(node) == 0
    assert node.usage("a").vram_peak_bytes <= 64 * MIB


@pytest.mark.parametrize(("take", "give", "charged"), KINDS.values(), ids=KINDS)
def test_what_is_freed_twice_is_given_back_once(node: Node, take: Call, give: Call, charged: int) -> None:
    """C4: the second free of anything gives nothing back: what else is held stays charged, and nothing wraps below zero."""
    node.place("a")
    tenant = node.start("a").started()
    assert tenant("alloc", "kept", MIB) == [0]
    assert tenant(*take) == [0]
    assert vram(node) == MIB + charged
    assert tenant(*give) == [0]
    assert tenant("sync") == [0]
    for _ in range(3):
        assert tenant(*give) != [0]
        assert vram(node) == MIB
    assert tenant("free", "kept") == [0]
    assert tenant("free", "kept") != [0]
    assert vram(node) == 0


@pytest.mark.parametrize(("take", "give"), [KINDS[kind][:2] for kind in ("alloc", "pitch", "managed", "array")])
def test_what_went_with_its_context_is_given_back_once(node: Node, take: Call, give: Call) -> None:
    """C4: what is freed after the end of its context, which gave it back, is given back no second time."""
    node.place("a")
    tenant = node.start("a").started()
    other = node.start("a").started()
    assert other("alloc", "kept", MIB) == [0]
    assert tenant(*take) == [0]
    assert tenant("reset") == [0]
    assert vram(node) == MIB
    tenant("primary")
    assert tenant(*give) != [0]
    assert vram(node) == MIB


def churned(node: Node) -> Tenant:
    """A program that has allocated and freed a thousand times in stream order, and waited."""
    node.place("a", vram_limit_bytes=256 * MIB)
    tenant = node.start("a", client=PEER_CLIENT).started()
    assert tenant("default_pool", "pool") == [0]
    assert tenant("churn_async", 1000, 1) == 0
    assert tenant("sync") == [0]
    return tenant


def test_a_thousand_frees_in_stream_order_leave_no_drift(node: Node) -> None:
    """C8: after allocations and frees of both kinds in any order the charge is the driver's reserve, and in the end zero."""
    tenant = churned(node)
    assert vram(node) == tenant("reserved", "pool")[1] == 0
    assert tenant("keep", "pool", GIB) == [0]
    assert tenant("churn_async", 1000, 2) == 0
    assert tenant("sync") == [0]
    assert vram(node) == tenant("reserved", "pool")[1] > 0
    assert tenant("trim", "pool", 0) == [0]
    assert vram(node) == tenant("reserved", "pool")[1] == 0


def test_a_pools_figures_are_real(node: Node) -> None:
    """C9: what is reserved and used in a pool are the driver's own numbers, and at the end they are zero, not below it."""
    tenant = churned(node)
    figures = tenant("pool_figures", "pool")
    assert (figures["RESERVED_MEM_CURRENT"], figures["USED_MEM_CURRENT"]) == (0, 0)
    assert 0 < figures["USED_MEM_HIGH"] <= figures["RESERVED_MEM_HIGH"] <= 256 * MIB
    assert tenant("alloc_async", "p", 10_000) == [0]
    figures = tenant("pool_figures", "pool")
    assert 10_000 <= figures["USED_MEM_CURRENT"] <= figures["RESERVED_MEM_CURRENT"] == vram(node) == 2 * MIB


@pytest.mark.parametrize(("take", "give", "charged"), KINDS.values(), ids=KINDS)
def test_free_falls_by_what_was_taken(node: Node, take: Call, give: Call, charged: int) -> None:
    """C12: free is total less what the slice's processes hold, contexts included, and never total while something is held."""
    node.describe(context_bytes=CONTEXT)
    node.place("a")
    tenant = node.start("a").started()
    assert tenant("info") == [0, GIB - CONTEXT, GIB]
    assert tenant(*take) == [0]
    assert tenant("info") == [0, GIB - CONTEXT - charged, GIB]
    assert tenant("nvml")["memory"] == [[GIB, GIB - CONTEXT - charged, CONTEXT + charged]]
    assert tenant(*give) == [0]
    assert tenant("sync") == [0]
    assert tenant("info") == [0, GIB - CONTEXT, GIB]


def test_what_nccl_shares_between_processes_is_charged_once(node: Node, tmp_path: Path) -> None:
    """C13: buffers made, exported as a descriptor, and mapped by a second process, as NCCL makes them, are their maker's, once.

    NCCL itself asks NVIDIA's runtime, which checks for a genuine driver; these are its calls.
    """
    node.place("a", vram_limit_bytes=16 * MIB)
    maker, peer = (node.start("a", client=PEER_CLIENT).started() for _ in range(2))
    assert maker("create", "h", 10 * MIB) == [0]
    assert maker("map", "m", "h", 10 * MIB) == [0]
    assert peer("listen", str(tmp_path / "inbox")) == [0]
    assert maker("give_handle", "h", str(tmp_path / "inbox")) == [0]
    assert peer("take_handle", "h") == [0]
    assert peer("map", "m", "h", 10 * MIB) == [0]
    held = {process.pid: process.vram_bytes for process in node.usage("a").processes}
    assert held == {maker.process.pid: 10 * MIB, peer.process.pid: 0}
    assert peer("create", "more", 8 * MIB) == [OUT_OF_MEMORY], "what the other process made counts against the slice"
    assert peer("unmap", "m", 10 * MIB) == peer("release", "h") == [0]
    assert vram(node) == 10 * MIB
    assert maker("unmap", "m", 10 * MIB) == maker("release", "h") == [0]
    assert vram(node) == 0


def test_contexts_and_memory_together_never_exceed_the_slice(node: Node) -> None:
    """C14: two processes that fill a slice never hold, by the driver's own books, contexts included, more than its limit."""
    node.describe(context_bytes=CONTEXT)
    node.place("a")
    first, second = node.start("a").started(), node.start("a").started()
    first.send("fill", GRANULE)
    second.send("fill", GRANULE)
    assert first.answer() + second.answer() == (GIB - 2 * CONTEXT) // GRANULE
    third = node.start("a")
    assert third("init") == [0]
    assert third("primary") == [OUT_OF_MEMORY]
    device = next(device for device in node.books()["devices"] if device["uuid"] == UUIDS[0])
    assert vram(node) == GIB
    assert device["spent_peak_bytes"] <= GIB
