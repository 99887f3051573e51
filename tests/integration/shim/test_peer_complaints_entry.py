"""What users of the best-known peer complain of, about who is limited at all: each complaint is a test that our shim must pass.

- C15 `CUDA_VISIBLE_DEVICES` that skips device 0 breaks it: `test_limits_follow_the_devices_whatever_their_numbers`
- C16 limits are lost in child processes: `test_a_child_has_what_its_parent_leaves`, and for forked ones
  `test_a_forked_child_is_a_process_of_its_own` of test_shim_attach.py
- C17 and in SSH shells, because they are in the environment only: test_shim_lost_environment.py
"""

import pytest
from shim_node import GIB, MIB, PEER_CLIENT, UUIDS, Node

NOT_PERMITTED = 800
OUT_OF_MEMORY = 2
LIMITS = {UUIDS[1]: 64 * MIB, UUIDS[2]: 256 * MIB}
"""The slice: two devices, the first of the node is not among them."""


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("1", [UUIDS[1]]),
        ("2", [UUIDS[2]]),
        ("1,2", UUIDS[1:]),
        ("2,1", [UUIDS[2], UUIDS[1]]),
        (UUIDS[2], [UUIDS[2]]),
        (f"{UUIDS[2]},{UUIDS[1]}", [UUIDS[2], UUIDS[1]]),
        (UUIDS[1], [UUIDS[1]]),
        ("2,1,-1,0", [UUIDS[2], UUIDS[1]]),
    ],
)
def test_limits_follow_the_devices_whatever_their_numbers(node: Node, visible: str, expected: list[str]) -> None:
    """C15: however a program's list names, skips and orders the devices, each number has the limit of its device."""
    for uuid, limit in LIMITS.items():
        node.place("a", uuid, vram_limit_bytes=limit)
    tenant = node.start("a", client=PEER_CLIENT, CUDA_VISIBLE_DEVICES=visible)
    assert tenant("init") == [0]
    assert tenant("device_count") == [0, len(expected)]
    for ordinal, uuid in enumerate(expected):
        limit = LIMITS[uuid]
        assert tenant("device_uuid", ordinal) == uuid
        assert tenant("total", ordinal) == [0, limit]
        assert tenant("primary", ordinal) == [0]
        assert tenant("info") == [0, limit, limit]
        assert tenant("alloc", "p", limit + 1) == [OUT_OF_MEMORY]
        assert tenant("alloc", "p", limit) == [0]
        assert node.usage("a", uuid).vram_bytes == limit
        assert tenant("kernel") == tenant("launch") == [0]
        assert node.usage("a", uuid).launches == 1


def test_a_device_that_the_list_adds_is_not_the_slices(node: Node) -> None:
    """C15: a program that makes another device visible gets its number, and nothing on it."""
    node.place("a", UUIDS[1])
    tenant = node.start("a", CUDA_VISIBLE_DEVICES="0,1")
    assert tenant("init") == [0]
    assert tenant("primary", 0) == [0]
    assert tenant("alloc", "p", MIB) == [NOT_PERMITTED]
    assert tenant("primary", 1) == [0]
    assert tenant("info") == [0, GIB, GIB]


@pytest.mark.parametrize("words", [[], ["sh", "-c", '"$@"', "sh"], ["nice", "setsid", "-w"]], ids=["exec", "shell", "session"])
def test_a_child_has_what_its_parent_leaves(node: Node, words: list[str]) -> None:
    """C16: a program that a program starts, in whatever way, is in the same slice: it sees and gets what is left."""
    node.place("a", vram_limit_bytes=64 * MIB)
    tenant = node.start("a", client=PEER_CLIENT).started()
    assert tenant("alloc", "p", 40 * MIB) == [0]
    calls = [["init"], ["primary"], ["info"], ["alloc", "p", 24 * MIB + 1], ["alloc", "q", 24 * MIB], ["free", "q"]]
    answers = tenant("child", words, calls)
    assert answers == [[0], [0], [0, 24 * MIB, 64 * MIB], [OUT_OF_MEMORY], [0], [0]]
    assert node.usage("a").vram_peak_bytes == 64 * MIB
    assert tenant("info") == [0, 24 * MIB, 64 * MIB]
