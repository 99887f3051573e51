"""Memory pools under the shim: what the driver keeps reserved in a pool stays charged, and nothing else does."""

import pytest
from shim_node import GIB, MIB, Node, Tenant


def start(node: Node, **limits: int) -> Tenant:
    node.place("a", **limits)
    tenant = node.start("a").started()
    assert tenant("default_pool", "pool") == [0]
    return tenant


def charged(node: Node) -> int:
    return node.usage("a").vram_bytes


@pytest.mark.parametrize("give", ["free_async", "free"])
def test_a_pool_is_charged_what_it_reserves(node: Node, give: str) -> None:
    """What is allocated in stream order is charged as its pool's reserve, and so it is after its free and a wait."""
    tenant = start(node)
    assert tenant("alloc_async", "p", 4 * MIB + 3) == [0]
    assert charged(node) == tenant("reserved", "pool")[1] == 6 * MIB
    assert tenant(give, "p") == [0]
    assert tenant("sync") == [0]
    assert charged(node) == tenant("reserved", "pool")[1] == 0


def test_a_pool_meets_the_limit(node: Node) -> None:
    """What does not fit the slice is refused before the driver is asked, and counted once."""
    tenant = start(node, vram_limit_bytes=8 * MIB)
    assert tenant("alloc_async", "p", 6 * MIB) == [0]
    assert tenant("alloc_async", "q", 3 * MIB) == [2]
    assert (charged(node), node.usage("a").refusals) == (6 * MIB, 1)
    assert tenant("alloc_async", "q", 2 * MIB) == [0]


def test_what_the_driver_rounds_up_must_fit_too(node: Node) -> None:
    """An allocation for which the driver reserves more than the slice has is undone."""
    tenant = start(node, vram_limit_bytes=MIB)
    assert tenant("alloc_async", "p", MIB) == [2]
    assert tenant("sync") == [0]
    assert charged(node) == tenant("reserved", "pool")[1] == 0


def test_a_freed_block_is_used_again_without_a_charge(node: Node) -> None:
    """As long as a pool keeps what was freed, the next allocation of that size costs the slice nothing."""
    tenant = start(node)
    assert tenant("keep", "pool", GIB) == [0]
    for _ in range(5):
        assert tenant("alloc_async", "p", 10 * MIB) == [0]
        assert charged(node) == 10 * MIB
        assert tenant("free_async", "p") == [0]
        assert charged(node) == 10 * MIB


def test_many_small_ones_follow_the_reserve(node: Node) -> None:
    """Allocations that share the driver's granules are charged those granules, not their sum."""
    tenant = start(node)
    for i in range(300):
        assert tenant("alloc_async", f"p{i}", 10_000) == [0]
    assert charged(node) == tenant("reserved", "pool")[1]
    for i in range(300):
        assert tenant("free_async", f"p{i}") == [0]
    assert tenant("sync") == [0]
    assert charged(node) == tenant("reserved", "pool")[1] == 0


def test_a_full_slice_takes_back_what_its_pools_keep(node: Node) -> None:
    """Memory that a pool keeps unused does not stand in the way of another allocation of the same slice."""
    tenant = start(node, vram_limit_bytes=16 * MIB)
    assert tenant("keep", "pool", GIB) == [0]
    assert tenant("alloc_async", "p", 12 * MIB) == [0]
    assert tenant("free_async", "p") == [0]
    assert tenant("alloc", "q", 10 * MIB) == [0]
    assert charged(node) == 10 * MIB + tenant("reserved", "pool")[1]
    assert node.usage("a").refusals == 0


def test_a_trim_gives_back(node: Node) -> None:
    """What a program trims off a pool is given back at once."""
    tenant = start(node)
    assert tenant("keep", "pool", GIB) == [0]
    assert tenant("alloc_async", "p", 12 * MIB) == [0]
    assert tenant("free_async", "p") == [0]
    assert tenant("trim", "pool", 0) == [0]
    assert charged(node) == tenant("reserved", "pool")[1] == 0


def test_a_pool_of_the_programs_own(node: Node) -> None:
    """A pool that the program makes is charged like the default one, also as the current pool, and its end gives all back."""
    tenant = start(node)
    assert tenant("pool", "own") == [0]
    assert tenant("alloc_from", "p", 4 * MIB, "own") == [0]
    assert tenant("set_pool", "own") == [0]
    assert tenant("alloc_async", "q", 2 * MIB) == [0]
    assert charged(node) == tenant("reserved", "own")[1] == 6 * MIB
    assert tenant("free_async", "p") == tenant("free_async", "q") == [0]
    assert tenant("destroy_pool", "own") == [0]
    assert charged(node) == 0
    assert tenant("alloc_async", "q", 2 * MIB) == [0]
    assert charged(node) == tenant("reserved", "pool")[1] == 2 * MIB


def test_a_pool_on_a_device_outside_the_slice(node: Node) -> None:
    """A pool on a device that the slice does not have gives nothing."""
    tenant = start(node)
    tenant("pool", "foreign", 1)
    assert tenant("alloc_from", "p", MIB, "foreign") == [800]
    assert charged(node) == 0
