"""Device memory that nobody asks for by its size: what contexts, and their limits, take of the slice."""

import pytest
from shim_node import GIB, MIB, Node, Tenant

CONTEXT = 256 * MIB
MODULE = 12 * MIB
HEAP = 2


def open_in(node: Node, slice_id: str = "a") -> Tenant:
    tenant = node.start(slice_id)
    assert tenant("init") == [0]
    return tenant


def test_a_context_is_charged_what_it_takes(node: Node) -> None:
    """A process's first context is charged what the driver counts for it, and shown as used; its end gives that back."""
    node.describe(context_bytes=CONTEXT)
    node.place("a")
    tenant = open_in(node)
    assert tenant("primary") == [0]
    assert node.usage("a").vram_bytes == CONTEXT
    assert tenant("info") == [0, GIB - CONTEXT, GIB]
    assert tenant("alloc", "p", GIB - CONTEXT + 1) == [2]
    assert tenant("alloc", "p", MIB) == [0]
    assert tenant("reset") == [0]
    assert node.usage("a").vram_bytes == 0


def test_what_every_process_takes_is_charged(node: Node) -> None:
    """Each process of a slice pays for its own context, whatever neighbours do meanwhile."""
    node.describe(context_bytes=CONTEXT)
    node.place("a")
    node.place("b", vram_limit_bytes=8 * GIB)
    neighbour = open_in(node, "b")
    assert neighbour("primary") == [0]
    assert neighbour("alloc", "p", 3 * GIB) == [0]
    for count in (1, 2):
        assert open_in(node)("primary") == [0]
        assert node.usage("a").vram_bytes == count * CONTEXT
    assert node.usage("b").vram_bytes == 3 * GIB + CONTEXT


def test_a_context_that_does_not_fit_is_refused(node: Node) -> None:
    """In a slice without room for it a context is out of memory, and leaves nothing behind in the driver's books."""
    node.describe(context_bytes=CONTEXT)
    node.place("a", vram_limit_bytes=CONTEXT - 1)
    tenant = open_in(node)
    assert tenant("primary") == [2]
    assert tenant("context") == [2]
    assert (node.usage("a").vram_bytes, node.account(tenant)["context_bytes"]) == (0, 0)
    node.change("a", vram_limit_bytes=CONTEXT, generation=2)
    assert tenant("primary") == [0]


def test_further_contexts_are_charged_what_they_add(node: Node) -> None:
    """A second context of a process takes nothing more here, and the first one's share stays until the last has ended."""
    node.describe(context_bytes=CONTEXT)
    node.place("a")
    tenant = open_in(node)
    assert tenant("primary") == [0]
    assert tenant("context") == [0]
    assert node.usage("a").vram_bytes == CONTEXT
    assert tenant("reset") == [0]
    assert node.usage("a").vram_bytes == CONTEXT
    assert tenant("destroy") == [0]
    assert node.usage("a").vram_bytes == 0


def test_a_second_process_that_does_not_fit_never_reaches_the_driver(node: Node) -> None:
    """What one process's context took is known to the next, so that the device never holds more than the slice may."""
    node.describe(context_bytes=CONTEXT)
    node.place("a", vram_limit_bytes=2 * CONTEXT - 1)
    assert open_in(node)("primary") == [0]
    second = open_in(node)
    assert second("primary") == [2]
    device = node.books()["devices"][0]
    assert device["spent_peak_bytes"] == CONTEXT


def test_a_heap_that_does_not_fit_is_refused(node: Node) -> None:
    """A limit that would set aside more device memory than the slice has left is out of memory; one that fits is granted."""
    node.place("a")
    tenant = open_in(node)
    assert tenant("primary") == [0]
    assert tenant("limit", HEAP, 2 * GIB) == [2]
    assert tenant("limit", HEAP, 64 * MIB) == [0]


@pytest.mark.parametrize("text", ["300MiB", "-1", "1e9", str(1 << 48), "9" * 100])
def test_a_context_size_that_is_none_is_one_line(node: Node, text: str) -> None:
    """What was given and what is allowed; the program runs, and its context is measured all the same."""
    node.describe(context_bytes=CONTEXT)
    node.place("a")
    tenant = node.start("a", MICA_CONTEXT_BYTES=text).started()
    assert node.usage("a").vram_bytes == CONTEXT
    why = f'MICA_CONTEXT_BYTES: "{text[:40]}" is no number of bytes, 0 to {(1 << 48) - 1}'
    assert tenant.close().splitlines() == [f"mica: slice a: a context that cannot be measured is charged nothing: {why}"]


@pytest.mark.parametrize(("text", "charged"), [("", 0), ("1000000", 1_000_000)])
def test_without_the_vendors_library_a_context_is_charged_what_is_configured(node: Node, text: str, charged: int) -> None:
    """Nothing, if nothing is."""
    node.describe(context_bytes=CONTEXT)
    node.place("a")
    node.start("a", MICA_CONTEXT_BYTES=text, MICA_NVML_DRIVER="/nonexistent/libnvidia-ml.so.1").started()
    assert node.usage("a").vram_bytes == charged


def test_a_module_is_charged_what_it_takes(node: Node) -> None:
    """Each loaded module is charged what the driver counts for it, shown as used, and given back when it is unloaded."""
    node.describe(module_bytes=MODULE)
    node.place("a")
    tenant = open_in(node)
    assert tenant("primary") == [0]
    for count in (1, 2):
        assert tenant("kernel") == [0]
        assert node.usage("a").vram_bytes == count * MODULE == node.account(tenant)["context_bytes"]
    assert tenant("info") == [0, GIB - 2 * MODULE, GIB]
    assert tenant("unload") == [0]
    assert node.usage("a").vram_bytes == MODULE == node.account(tenant)["context_bytes"]


def test_a_module_that_does_not_fit_is_not_loaded(node: Node) -> None:
    """In a slice without room for it, loading is out of memory and leaves nothing in the driver; once there is room it works."""
    node.describe(module_bytes=MODULE)
    node.place("a", vram_limit_bytes=MODULE + MIB)
    tenant = open_in(node)
    assert tenant("primary") == [0]
    assert tenant("alloc", "p", 2 * MIB) == [0]
    assert tenant("kernel") == [2]
    assert (node.usage("a").vram_bytes, node.account(tenant)["context_bytes"]) == (2 * MIB, 0)
    assert tenant("free", "p") == [0]
    assert tenant("kernel") == [0]
    assert tenant("alloc", "p", 2 * MIB) == [2]


def test_modules_go_with_their_context(node: Node) -> None:
    """The reset of a context gives back what its modules took, and a program that loads again is charged again."""
    node.describe(context_bytes=CONTEXT, module_bytes=MODULE)
    node.place("a")
    tenant = open_in(node)
    for _ in range(2):
        assert tenant("primary") == [0]
        assert tenant("kernel") == [0]
        assert node.usage("a").vram_bytes == CONTEXT + MODULE
        assert tenant("reset") == [0]
        assert (node.usage("a").vram_bytes, node.account(tenant)["context_bytes"]) == (0, 0)
