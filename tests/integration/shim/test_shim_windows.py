"""Slices of a time-sliced device: windows that are lent while their owners are idle, and what their ends tell."""

import select
from collections.abc import Callable
from typing import Any

from shim_node import Node, Tenant

from mica.events import Control
from mica.region import read_token

MS = 1_000_000
PERIOD_NS = 100 * MS
ALWAYS_BUT_A_MOMENT = {"window_offset_ns": 0, "window_length_ns": PERIOD_NS - 1, "window_period_ns": PERIOD_NS}
NEVER = {"window_offset_ns": 0, "window_length_ns": 0, "window_period_ns": PERIOD_NS}
USUAL = {"quantum_ns": 2 * MS, "ceiling_ppm": 1_000_000}

Eventually = Callable[[Callable[[], bool]], None]


def known(node: Node, slice_id: str) -> Tenant:
    """A program whose kernel has been measured, in a slice whose window never opens from then on."""
    node.place(slice_id, **USUAL, **ALWAYS_BUT_A_MOMENT)
    tenant = node.start(slice_id).started()
    for _ in range(8):
        assert tenant("launch") == [0]
        assert tenant("sync") == [0]
    node.change(slice_id, generation=2, **USUAL, **NEVER)
    return tenant


def has_answered(tenant: Tenant) -> bool:
    stdout: Any = tenant.process.stdout
    return bool(select.select([stdout], [], [], 0)[0])


def test_a_window_that_its_owner_leaves_idle_is_for_those_who_may_borrow_and_for_nobody_else(node: Node) -> None:
    """Of two slices whose own windows never open one may borrow and gets on; the other, when it may."""
    node.place("owner", **USUAL, **ALWAYS_BUT_A_MOMENT)
    kept, lent = known(node, "kept"), known(node, "lent")
    kept.send("launch", 1)
    node.change("lent", generation=3, borrows=1, **USUAL, **NEVER)
    assert lent("launch", 50) == [0]
    assert not has_answered(kept)
    node.change("kept", generation=3, borrows=1, **USUAL, **NEVER)
    assert kept.answer() == [0]


def test_a_throttled_slice_borrows_nothing(node: Node) -> None:
    """It has its own window and no more, until the throttle is lifted."""
    node.place("owner", **USUAL, **ALWAYS_BUT_A_MOMENT)
    held, lent = known(node, "held"), known(node, "lent")
    node.change("held", generation=3, borrows=1, control=Control.THROTTLE, **USUAL, **NEVER)
    node.change("lent", generation=3, borrows=1, **USUAL, **NEVER)
    held.send("launch", 1)
    assert lent("launch", 50) == [0]
    assert not has_answered(held)
    node.change("held", generation=4, borrows=1, **USUAL, **NEVER)
    assert held.answer() == [0]


def test_switches_are_timed_and_counted(node: Node, eventually: Eventually) -> None:
    """Two slices that take turns: the token region says how long after its window opened the first work of each began."""
    tenants = []
    for index, offset_ns in enumerate((0, PERIOD_NS // 2)):
        window = {"window_offset_ns": offset_ns, "window_length_ns": PERIOD_NS // 2, "window_period_ns": PERIOD_NS}
        node.place(f"s{index}", **USUAL, **window)
        tenants.append(node.start(f"s{index}").started())
    for tenant in tenants:
        tenant.send("launch", 10**9)
    path = node.runtime.token_path(node.device)
    eventually(lambda: read_token(path).switches >= 6)
    token = read_token(path)
    assert 0 <= token.switch_ns <= token.switch_max_ns
    assert 0 <= token.late_ns <= token.late_max_ns
