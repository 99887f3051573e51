"""Device memory under the shim: what a program sees, what it gets, and what it gives back."""

import pytest
from shim_node import GIB, MIB, UUIDS, Node


def test_a_program_sees_exactly_its_slice(node: Node) -> None:
    """Total and free memory are the slice's, to the byte, not the device's."""
    node.place("a", vram_limit_bytes=GIB + 12345)
    tenant = node.start("a").started()
    assert tenant("total") == [0, GIB + 12345]
    assert tenant("info") == [0, GIB + 12345, GIB + 12345]
    assert tenant("alloc", "p", 1000) == [0]
    assert tenant("info") == [0, GIB + 11345, GIB + 12345]


def test_free_is_never_more_than_the_device_has(node: Node) -> None:
    """A limit above what the device has left shows what the device has left."""
    node.place("a", vram_limit_bytes=64 * GIB)
    tenant = node.start("a").started()
    result, free, total = tenant("info")
    assert (result, total) == (0, 64 * GIB)
    assert free < 24 * GIB


def test_beyond_the_limit_is_out_of_memory(node: Node) -> None:
    """The byte that does not fit is refused with CUDA_ERROR_OUT_OF_MEMORY, and counted; what fits is granted."""
    node.place("a", vram_limit_bytes=100 * MIB)
    tenant = node.start("a").started()
    assert tenant("alloc", "p", 60 * MIB) == [0]
    assert tenant("alloc", "q", 40 * MIB + 1) == [2]
    assert node.usage("a").refusals == 1
    assert tenant("alloc", "q", 40 * MIB) == [0]
    assert node.usage("a").vram_bytes == 100 * MIB
    assert node.account(tenant)["requested_bytes"] == 100 * MIB


def test_free_gives_back_once(node: Node) -> None:
    """Freeing gives back exactly what was charged; freeing again gives nothing back."""
    node.place("a")
    tenant = node.start("a").started()
    assert tenant("alloc", "p", 3 * MIB + 7) == [0]
    assert tenant("alloc", "q", 5 * MIB) == [0]
    assert tenant("free", "p") == [0]
    assert node.usage("a").vram_bytes == 5 * MIB
    assert tenant("free", "p") != [0]
    assert node.usage("a").vram_bytes == 5 * MIB


@pytest.mark.parametrize(
    ("take", "give", "charged"),
    [
        (("pitch", "p", 1000, 100), ("free", "p"), 102_400),
        (("managed", "p", 5 * MIB), ("free", "p"), 5 * MIB),
        (("create", "p", 2 * MIB), ("release", "p"), 2 * MIB),
        (("array", "p", 100, 10), ("free_array", "p"), 16_000),
    ],
)
def test_every_way_to_take_memory_is_charged(
    node: Node, take: tuple[object, ...], give: tuple[object, ...], charged: int
) -> None:
    """Each kind of allocation charges what it takes, rows at their pitch, and its own free gives it back."""
    node.place("a")
    tenant = node.start("a").started()
    assert tenant(*take) == [0]
    assert node.usage("a").vram_bytes == charged
    assert tenant(*give) == [0]
    assert node.usage("a").vram_bytes == 0


def test_pinned_memory_has_a_limit_of_its_own(node: Node) -> None:
    """Host memory that is allocated pinned or registered is charged apart, and meets its own limit."""
    node.place("a", pinned_limit_bytes=MIB)
    tenant = node.start("a").started()
    assert tenant("host", "p", MIB // 2) == [0]
    assert tenant("register", "q", MIB // 2) == [0]
    assert tenant("host", "r", 1) == [2]
    assert tenant("register", "r", 4096) == [2]
    assert (node.usage("a").vram_bytes, node.usage("a").processes[0].pinned_bytes) == (0, MIB)
    assert tenant("free_host", "p") == tenant("unregister", "q") == [0]
    assert node.usage("a").processes[0].pinned_bytes == 0


def test_every_way_to_take_memory_meets_the_limit(node: Node) -> None:
    """No kind of allocation gets past the limit."""
    node.place("a", vram_limit_bytes=MIB)
    tenant = node.start("a").started()
    for call in (
        ("alloc_async", "p", 2 * MIB),
        ("managed", "p", 2 * MIB),
        ("pitch", "p", 4096, 4096),
        ("create", "p", 2 * MIB),
        ("array", "p", 4096, 4096),
    ):
        assert tenant(*call) == [2], call
    assert node.usage("a").vram_bytes == 0


def test_a_refusal_of_the_driver_is_given_back(node: Node) -> None:
    """Memory that the driver itself refuses is not charged."""
    node.place("a", vram_limit_bytes=100 * GIB)
    tenant = node.start("a").started()
    assert tenant("alloc", "p", 90 * GIB) == [2]
    assert node.usage("a").vram_bytes == 0


def test_the_end_of_a_context_gives_back_what_it_held(node: Node) -> None:
    """Memory that goes with its context is given back with it."""
    node.place("a")
    tenant = node.start("a").started()
    assert tenant("alloc", "p", 8 * MIB) == [0]
    assert tenant("reset") == [0]
    assert node.usage("a").vram_bytes == 0


def test_slices_do_not_see_each_other(node: Node) -> None:
    """A slice that is full leaves its neighbour what it was given."""
    node.place("a", vram_limit_bytes=64 * MIB)
    node.place("b", vram_limit_bytes=64 * MIB)
    first, second = node.start("a").started(), node.start("b").started()
    assert first("fill", MIB) == 64
    assert second("info") == [0, 64 * MIB, 64 * MIB]
    assert second("fill", MIB) == 64


def test_a_resize_is_live(node: Node) -> None:
    """A running program gets more memory when its record says so, and sees it; a smaller limit refuses new memory only."""
    node.place("a", vram_limit_bytes=10 * MIB)
    tenant = node.start("a").started()
    assert tenant("alloc", "p", 20 * MIB) == [2]
    node.change("a", vram_limit_bytes=30 * MIB, generation=2)
    assert tenant("alloc", "p", 20 * MIB) == [0]
    assert tenant("info") == [0, 10 * MIB, 30 * MIB]
    assert node.usage("a").generation_seen == 2
    node.change("a", vram_limit_bytes=5 * MIB, generation=3)
    assert tenant("info") == [0, 0, 5 * MIB]
    assert tenant("alloc", "q", 1) == [2]
    assert tenant("free", "p") == [0]
    assert tenant("alloc", "q", 1) == [0]


def test_two_devices_are_charged_apart(node: Node) -> None:
    """A slice on two devices has a limit on each, and a call is charged to the device of its context."""
    node.place("a", UUIDS[0], vram_limit_bytes=10 * MIB)
    node.place("a", UUIDS[2], vram_limit_bytes=20 * MIB)
    tenant = node.start("a")
    assert tenant("init") == [0]
    assert tenant("primary", 2) == [0]
    assert tenant("alloc", "p", 15 * MIB) == [0]
    assert tenant("primary", 0) == [0]
    assert tenant("alloc", "q", 15 * MIB) == [2]
    assert tenant("alloc", "q", 5 * MIB) == [0]
    assert (node.usage("a", UUIDS[0]).vram_bytes, node.usage("a", UUIDS[2]).vram_bytes) == (5 * MIB, 15 * MIB)
    assert tenant("free", "p") == [0]
    assert (node.usage("a", UUIDS[0]).vram_bytes, node.usage("a", UUIDS[2]).vram_bytes) == (5 * MIB, 0)


def test_a_device_outside_the_slice_is_refused(node: Node) -> None:
    """On a device that the slice does not have, the enforced calls are not permitted."""
    node.place("a")
    tenant = node.start("a").started()
    assert tenant("primary", 1) == [0]
    assert tenant("alloc", "p", 1024) == [800]
    assert tenant("info")[0] == 800
    assert tenant("total", 1)[0] == 800
    assert tenant("launch") == [800]
