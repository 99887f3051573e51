"""Memory that several handles refer to is charged once."""

from shim_node import MIB, Node


def test_physical_memory_lives_until_its_last_mapping(node: Node) -> None:
    """A handle that is released while its memory is mapped stays charged; the unmap gives it back."""
    node.place("a")
    tenant = node.start("a").started()
    assert tenant("create", "h", 4 * MIB) == [0]
    assert tenant("map", "m", "h", 4 * MIB) == tenant("map", "n", "h", 4 * MIB) == [0]
    assert tenant("release", "h") == [0]
    assert tenant("unmap", "m", 4 * MIB) == [0]
    assert node.usage("a").vram_bytes == 4 * MIB == node.account(tenant)["requested_bytes"]
    assert tenant("unmap", "n", 4 * MIB) == [0]
    assert node.usage("a").vram_bytes == 0 == node.account(tenant)["requested_bytes"]
