"""Memory that several handles or processes refer to is charged once, to the process that made it."""

from shim_node import MIB, Node


def charges(node: Node) -> dict[int, int]:
    return {process.pid: process.vram_bytes for process in node.usage("a").processes}


def test_an_opened_handle_is_its_owners(node: Node) -> None:
    """A process that opens another's memory is charged nothing for it, and gives nothing back when it closes or frees it."""
    node.place("a", vram_limit_bytes=16 * MIB)
    owner, guest = node.start("a").started(), node.start("a").started()
    assert owner("alloc", "p", 10 * MIB) == [0]
    assert guest("open_shared", "p", owner("share", "p")) == [0]
    assert charges(node) == {owner.process.pid: 10 * MIB, guest.process.pid: 0}
    assert guest("free", "p") != [0]
    assert guest("close_shared", "p") == [0]
    assert charges(node) == {owner.process.pid: 10 * MIB, guest.process.pid: 0}
    assert owner("free", "p") == [0]
    assert charges(node) == {owner.process.pid: 0, guest.process.pid: 0}


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


def test_an_imported_handle_is_not_charged_again(node: Node) -> None:
    """A handle that was exported and imported is charged as one, and releasing the import gives nothing back."""
    node.place("a", vram_limit_bytes=4 * MIB)
    tenant = node.start("a").started()
    assert tenant("create", "h", 4 * MIB) == [0]
    assert tenant("import_own", "i", "h") == [0]
    assert tenant("map", "m", "i", 4 * MIB) == [0]
    assert tenant("unmap", "m", 4 * MIB) == tenant("release", "i") == [0]
    assert node.usage("a").vram_bytes == 4 * MIB
    assert tenant("release", "h") == [0]
    assert node.usage("a").vram_bytes == 0
