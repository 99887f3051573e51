"""What a shim answers when its slice's limits cannot be known: every fault, at the start and while running, by either policy.

One line on stderr says what and where; `refuse` then refuses what is enforced, `pass` lets it go to the driver; the program is
never crashed. Faults that are met while running and take nothing away (a file that is unlinked, a header that is overwritten)
change nothing, by either policy. docs/guides/modes.md
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from shim_node import GIB, MIB, UUIDS, Node, Tenant

from mica.events import Control
from mica.region import SLOTS_MAX, Owner

NOT_PERMITTED = 800
OUT_OF_MEMORY = 2
NOT_INITIALIZED = 3
LIMIT = 16 * MIB
HEADER_BYTES = 256
USAGE_SLOTS = 512
SLOT_BYTES = 128
MS = 1_000_000


@dataclass(frozen=True)
class Fault:
    """What was broken: what the line says of it, and what else the program's environment has."""

    text: str
    environment: dict[str, str] = field(default_factory=dict)


def without_override() -> None:
    """Make even root keep to a file's mode: drop CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH before the program starts."""
    library = ctypes.CDLL(None)
    for capability in (1, 2):
        library.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; others than root lack them anyway


def quota(node: Node) -> Path:
    return node.runtime.quota_path(UUIDS[0])


def usage(node: Node) -> Path:
    return node.runtime.usage_path("a", UUIDS[0])


def missing(path: Path) -> Fault:
    path.unlink()
    return Fault(f"{path}: No such file or directory")


def no_usage(node: Node) -> Fault:
    usage(node).unlink()
    return Fault(f"{node.runtime.root}/slices/a: no usage region of any device")


def no_directory(node: Node) -> Fault:
    elsewhere = {"MICA_RUNTIME_DIR": "/nonexistent/mica"}
    return Fault("/nonexistent/mica/slices/a: No such file or directory", elsewhere)


def spoilt(path: Path, change: Callable[[bytearray], None], text: str) -> Fault:
    """The region in a new file: live files are never truncated, and the test keeps its own mapping of the old one."""
    content = bytearray(path.read_bytes())
    change(content)
    path.unlink()
    path.write_bytes(content)
    return Fault(f"{path}: {text}")


def cut(content: bytearray) -> None:
    del content[100:]


def halve(content: bytearray) -> None:
    del content[len(content) // 2 :]


def make_foreign(content: bytearray) -> None:
    content[0:8] = b"\x7fELF\0\0\0\0"


def set_version(version: int) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        content[8:16] = version.to_bytes(8, "little")

    return change


def another_boot(content: bytearray) -> None:
    content[160:161] = b"x"


SHORT = "the file is shorter than its region"
SPOILT: dict[str, tuple[Callable[[bytearray], None], str]] = {
    "empty": (bytearray.clear, SHORT),
    "cut in its header": (cut, SHORT),
    "cut behind its header": (halve, SHORT),
    "foreign": (make_foreign, "not a region of mica, or a damaged one"),
    "of the future": (set_version(99), "a layout newer than this build knows"),
    "of the past": (set_version(1), "a layout older than this build knows: its slice was made by an older mica"),
    "of another boot": (another_boot, "left over from another boot"),
}


def another_slices(node: Node) -> Fault:
    node.place("b")
    usage(node).unlink()
    usage(node).symlink_to(node.runtime.usage_path("b", UUIDS[0]))
    return Fault(f"{usage(node)}: not a region of mica, or a damaged one")


def without_record(node: Node) -> Fault:
    node.clear("a")
    return Fault(f"{quota(node)}: no live record of this slice")


def full(node: Node) -> Fault:
    with usage(node).open("r+b") as file:
        for slot in range(SLOTS_MAX):
            file.seek(USAGE_SLOTS + SLOT_BYTES * slot)
            word = int.from_bytes(file.read(8), "little")
            if not word >> 56:
                file.seek(USAGE_SLOTS + SLOT_BYTES * slot)
                file.write(Owner(4_000_000 + slot, 1).word.to_bytes(8, "little"))
    return Fault(f"device {UUIDS[0]}: all {SLOTS_MAX} process slots are taken")


def forbidden(path: Path) -> Fault:
    path.chmod(0)
    return Fault(f"{path}: Permission denied")


def pipe(path: Path) -> Fault:
    """Opening it must not wait for a writer."""
    path.unlink()
    os.mkfifo(path)
    return Fault(f"{path}: not a region of mica, or a damaged one")


Break = Callable[[Node], Fault]
AT_START: dict[str, Break] = {
    "no runtime directory": no_directory,
    "no quota region": lambda node: missing(quota(node)),
    "no usage region": no_usage,
    "another slice's usage region": another_slices,
    "no record": without_record,
    "a full process table": full,
    "a quota region that may not be read": lambda node: forbidden(quota(node)),
    "a usage region that may not be written": lambda node: forbidden(usage(node)),
    "a pipe in place of the quota region": lambda node: pipe(quota(node)),
}
AT_START |= {
    f"a {kind} region that is {how}": lambda node, of=of, change=change, text=text: spoilt(of(node), change, text)
    for kind, of in (("quota", quota), ("usage", usage))
    for how, (change, text) in SPOILT.items()
    if (kind, how) != ("quota", "of another boot")  # that is told from a clock that was set: test_shim_attach.py
}


def one_line(tenant: Tenant) -> str:
    """What a program that ends normally has on stderr."""
    (line,) = tenant.close().splitlines()
    assert tenant.process.returncode == 0
    return line


def refused_everything(tenant: Tenant) -> None:
    """Nothing that is enforced works, whatever order it is tried in."""
    assert tenant("init") == [NOT_PERMITTED]
    assert tenant("primary")[0] in (NOT_PERMITTED, 3)
    assert tenant("info")[0] in (NOT_PERMITTED, 3)
    assert tenant("alloc", "p", 1)[0] in (NOT_PERMITTED, 3)


def free_everything(tenant: Tenant) -> None:
    """The program works on the whole device."""
    assert tenant.started()("total")[1] > 20 * GIB
    assert tenant("alloc", "p", 2 * GIB) == [0]
    assert tenant("launch") == [0]
    assert tenant("free", "p") == [0]


@pytest.mark.parametrize("policy", ["refuse", "pass"])
@pytest.mark.parametrize("fault", AT_START)
def test_at_the_start(node: Node, fault: str, policy: str) -> None:
    """A program that cannot attach is told why and where in one line, and has nothing, or, if that is the policy, everything."""
    node.place("a")
    broken = AT_START[fault](node)
    tenant = node.start("a", before=without_override, MICA_ON_FAULT=policy, **broken.environment)
    if policy == "refuse":
        refused_everything(tenant)
        assert one_line(tenant) == f"mica: slice a: attach refused: {broken.text}"
    else:
        free_everything(tenant)
        assert one_line(tenant) == f"mica: slice a: not enforced: {broken.text}"


@pytest.mark.parametrize("policy", ["refuse", "pass"])
def test_without_a_driver(node: Node, policy: str) -> None:
    """No driver below the shim is one line, and to the client a driver without functions, in the client's own words: there is
    nothing that a call could be passed to."""
    node.place("a")
    tenant = node.start("a", MICA_CUDA_DRIVER="/nonexistent/libcuda.so.1", MICA_ON_FAULT=policy)
    assert "cuInit is not found" in tenant("init")
    assert "MICA_CUDA_DRIVER: /nonexistent/libcuda.so.1: " in one_line(tenant)


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


def test_a_slice_that_empties_is_no_fault(node: Node) -> None:
    """Drain is an answer: no policy lets a process in."""
    node.place("a", control=Control.DRAIN)
    tenant = node.start("a", MICA_ON_FAULT="pass")
    assert tenant("init") == [NOT_PERMITTED]
    assert one_line(tenant) == f"mica: slice a: attach refused: device {UUIDS[0]}: control is drain"


def test_a_policy_that_is_none_is_refused(node: Node) -> None:
    """A mistyped policy is one clear error, also where nothing else is wrong."""
    node.place("a")
    tenant = node.start("a", MICA_ON_FAULT="ignore")
    assert tenant("init") == [NOT_PERMITTED]
    assert one_line(tenant) == 'mica: slice a: attach refused: MICA_ON_FAULT: "ignore" is neither refuse nor pass'
    assert node.usage("a").processes == ()


OWN_BUS_ERROR = """
import ctypes, mmap, os, sys, tempfile
assert ctypes.CDLL("libcuda.so.1").cuInit(0) == 0
with tempfile.TemporaryFile() as file:
    file.truncate(4096)
    view = mmap.mmap(file.fileno(), 4096)
    file.truncate(0)
    view[0]
"""


def test_a_bus_error_of_the_programs_own_ends_it_as_ever(node: Node) -> None:
    """The shim takes over its own mappings' faults only."""
    node.place("a")
    done = subprocess.run(
        [sys.executable, "-c", OWN_BUS_ERROR], env=node.environment("a"), capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGBUS
    assert done.stderr == ""
