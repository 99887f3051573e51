"""What a shim answers when its slice's limits are lost under a running program: every fault, by either policy.

Faults that take nothing away (a file that is unlinked, a header that is overwritten) change nothing, by either policy; so no
program is ended, and none is told twice.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from shim_faults import AT_START, NOT_PERMITTED, USAGE_SLOTS, full, one_line, quota, usage, without_override
from shim_node import GIB, MIB, UUIDS, Node, Tenant

OUT_OF_MEMORY = 2
NOT_INITIALIZED = 3
LIMIT = 16 * MIB
HEADER_BYTES = 256
MS = 1_000_000


def running(node: Node, policy: str) -> Tenant:
    node.place("a", vram_limit_bytes=LIMIT, quantum_ns=2 * MS)
    tenant = node.start("a", before=without_override, MICA_ON_FAULT=policy).started()
    assert tenant("alloc", "p", MIB) == tenant("launch") == [0]
    return tenant


def overwritten(path: Path) -> None:
    """A header that is damaged, with the file as long as it was."""
    with path.open("r+b") as file:
        file.write(b"\xff" * 200)


def stuck(node: Node) -> None:
    """A writer that died in the middle of the slice's record: its sequence number stays odd."""
    with quota(node).open("r+b") as file:
        file.seek(HEADER_BYTES)
        sequence = int.from_bytes(file.read(8), "little")
        file.seek(HEADER_BYTES)
        file.write((sequence + 1).to_bytes(8, "little"))


HARMLESS: dict[str, Callable[[Node], object]] = {
    "the quota region is unlinked": lambda node: quota(node).unlink(),
    "the usage region is unlinked": lambda node: usage(node).unlink(),
    "the token region is unlinked": lambda node: node.runtime.token_path(UUIDS[0]).unlink(),
    "the quota region's header is overwritten": lambda node: overwritten(quota(node)),
    "the usage region's header is overwritten": lambda node: overwritten(usage(node)),
    "the quota region is made unreadable": lambda node: quota(node).chmod(0),
    "the usage region is made unreadable": lambda node: usage(node).chmod(0),
    "the process table fills up": full,
    "the record's writer dies in the middle": stuck,
}


@pytest.mark.parametrize("policy", ["refuse", "pass"])
@pytest.mark.parametrize("change", HARMLESS)
def test_what_takes_nothing_away_changes_nothing(node: Node, change: str, policy: str) -> None:
    """A running program goes on under its limits, silently."""
    tenant = running(node, policy)
    HARMLESS[change](node)
    assert tenant("alloc", "q", LIMIT) == [OUT_OF_MEMORY]
    assert tenant("alloc", "q", LIMIT - MIB) == tenant("launch") == [0]
    assert tenant("free", "q") == tenant("free", "p") == [0]
    assert tenant.close() == ""
    assert tenant.process.returncode == 0


def test_a_record_that_vanishes_is_told_once(node: Node) -> None:
    """Every call after it is refused, one line says so, and the program ends normally."""
    tenant = running(node, "refuse")
    node.clear("a")
    for _ in range(2):
        assert tenant("alloc", "q", 1) == tenant("launch") == [NOT_PERMITTED]
    assert tenant("free", "p") == [0]
    assert one_line(tenant) == f"mica: slice a: refused: device {UUIDS[0]}: the slice's record is gone"


def test_a_record_that_vanishes_leaves_its_limits_if_that_is_the_policy(node: Node) -> None:
    """With MICA_ON_FAULT=pass a running process goes on under the limits that it had, not without any."""
    tenant = running(node, "pass")
    node.clear("a")
    assert tenant("alloc", "q", LIMIT - MIB) == [0]
    assert tenant("alloc", "r", MIB) == [OUT_OF_MEMORY]
    assert tenant("launch") == [0]
    assert one_line(tenant) == f"mica: slice a: goes on under its last limits: device {UUIDS[0]}: the slice's record is gone"


def lose_slot(node: Node) -> None:
    with usage(node).open("r+b") as file:
        file.seek(USAGE_SLOTS)
        file.write(bytes(8))


@pytest.mark.parametrize("policy", ["refuse", "pass"])
def test_a_slot_that_was_taken_away(node: Node, policy: str) -> None:
    """Memory in a slot that is not held would not count: it is refused, or goes uncounted, and that is told once."""
    tenant = running(node, policy)
    lose_slot(node)
    for name in ("q", "r"):
        assert tenant("alloc", name, 2 * MIB) == [NOT_PERMITTED if policy == "refuse" else 0]
    assert tenant("free", "p") == [0]
    what = "refused" if policy == "refuse" else "not enforced"
    assert one_line(tenant) == (
        f"mica: slice a: {what}: device {UUIDS[0]}: this process's slot was taken away, or its usage region damaged"
    )


@pytest.mark.parametrize("policy", ["refuse", "pass"])
@pytest.mark.parametrize("kind", ["usage", "quota"])
def test_a_file_that_is_truncated_under_its_process(node: Node, kind: str, policy: str) -> None:
    """The call that meets it has whatever answer; after it everything is refused, or passes, and the program goes on."""
    tenant = running(node, policy)
    os.truncate(usage(node) if kind == "usage" else quota(node), 0)
    tenant("alloc", "q", MIB)
    if policy == "refuse":
        assert tenant("alloc", "r", MIB) == tenant("launch") == [NOT_PERMITTED]
    else:
        assert tenant("alloc", "r", 2 * GIB) == tenant("launch") == [0]
    assert tenant("free", "p") == [0]
    what = "refused from now on" if policy == "refuse" else "not enforced any more"
    assert one_line(tenant) == f"mica: slice a: {what}: its {kind} region was truncated under it: device: {UUIDS[0]}"
    if kind == "quota":
        node.quotas.pop(UUIDS[0])  # its mapping is of a file that is empty now


@pytest.mark.parametrize("policy", ["refuse", "pass"])
@pytest.mark.parametrize("kind", ["usage", "quota"])
def test_a_file_that_is_truncated_under_who_only_looks(node: Node, kind: str, policy: str) -> None:
    """The same of a program that is no process of the slice, and looks at it through NVML."""
    node.place("a")
    tenant = node.start("a", MICA_ON_FAULT=policy)
    assert tenant("nvml")["uuids"] == [UUIDS[0]]
    os.truncate(usage(node) if kind == "usage" else quota(node), 0)
    tenant("nvml")
    seen = tenant("nvml")
    if policy == "refuse":
        assert "NVMLError_NoPermission" in seen
    else:
        assert seen["uuids"] == UUIDS
    what = "refused from now on" if policy == "refuse" else "not enforced any more"
    assert one_line(tenant) == f"mica: slice a: nvml {what}: its {kind} region was truncated under it: device: {UUIDS[0]}"
    if kind == "quota":
        node.quotas.pop(UUIDS[0])  # as above


@pytest.mark.parametrize("policy", ["refuse", "pass"])
def test_a_token_that_is_truncated_takes_the_order_away_and_nothing_else(node: Node, policy: str) -> None:
    """Any slice of the device can do that to all others: they stay in their limits, and are held by their rates alone."""
    tenant = running(node, policy)
    os.truncate(node.runtime.token_path(UUIDS[0]), 0)
    assert tenant("launch", 20) == tenant("sync") == [0]
    assert tenant("alloc", "q", LIMIT) == [OUT_OF_MEMORY]
    assert node.usage("a").launches == 21
    said = one_line(tenant)
    assert said == f"mica: slice a: held by its rate alone: its token region was truncated under it: device: {UUIDS[0]}"


@pytest.mark.parametrize("policy", ["refuse", "pass"])
@pytest.mark.parametrize(
    "fault",
    [
        "no quota region",
        "a full process table",
        "a usage region that may not be written",
        "a usage region that is cut in its header",
    ],
)
def test_a_child_of_a_running_process_is_a_start(node: Node, fault: str, policy: str) -> None:
    """A forked child attaches anew, and meets what came since: its own line, its own answer; its parent goes on."""
    tenant = running(node, policy)
    broken = AT_START[fault](node)
    seen, _ = tenant("fork")
    assert seen == (NOT_PERMITTED if policy == "refuse" else NOT_INITIALIZED)  # the driver itself does not outlive a fork
    assert tenant("reap") == 0
    assert tenant("alloc", "q", LIMIT) == [OUT_OF_MEMORY]
    assert tenant("free", "p") == [0]
    what = "attach refused" if policy == "refuse" else "not enforced"
    assert one_line(tenant) == f"mica: slice a: {what}: {broken.text}"
