"""When a slice's limits cannot be known: one line says what and where, the policy decides, and the program never crashes."""

import ctypes
import os
import signal
import subprocess
import sys

import pytest
from shim_node import GIB, MIB, UUIDS, Node, Tenant

from mica.events import Control
from mica.native import LIB_DIR
from mica.region import SLOTS_MAX, Owner

NOT_PERMITTED = 800


def one_line(tenant: Tenant) -> str:
    """What a program that ends normally has on stderr."""
    (line,) = tenant.close().splitlines()
    assert tenant.process.returncode == 0
    return line


def free_everything(node: Node, tenant: Tenant) -> None:
    """The program works on the whole device."""
    assert tenant.started()("total")[1] > 20 * GIB
    assert tenant("alloc", "p", 2 * GIB) == [0]
    assert tenant("launch") == [0]
    assert tenant("free", "p") == [0]


def test_a_process_that_cannot_attach_passes_through_if_that_is_the_policy(node: Node) -> None:
    """With MICA_ON_FAULT=pass the calls go to the driver untouched, and the line says that nothing is enforced."""
    node.place("a")
    path = node.runtime.quota_path(UUIDS[0])
    path.unlink()
    tenant = node.start("a", MICA_ON_FAULT="pass")
    free_everything(node, tenant)
    assert one_line(tenant) == f"mica: slice a: not enforced: {path}: No such file or directory"


def test_a_full_process_table_passes_through_if_that_is_the_policy(node: Node) -> None:
    """The process after the last slot works uncounted; nobody's slot is touched."""
    node.place("a")
    with node.runtime.usage_path("a", UUIDS[0]).open("r+b") as file:
        for slot in range(SLOTS_MAX):
            file.seek(512 + 128 * slot)
            file.write(Owner(4_000_000 + slot, 1).word.to_bytes(8, "little"))
    tenant = node.start("a", MICA_ON_FAULT="pass")
    free_everything(node, tenant)
    assert one_line(tenant) == f"mica: slice a: not enforced: device {UUIDS[0]}: all {SLOTS_MAX} process slots are taken"
    assert len(node.usage("a").processes) == SLOTS_MAX


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


def without_override() -> None:
    """Make even root keep to a file's mode: drop CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH before the program starts."""
    library = ctypes.CDLL(None)
    for capability in (1, 2):
        library.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; others than root lack them anyway


@pytest.mark.parametrize("kind", ["quota", "usage"])
def test_a_region_without_permission_is_refused(node: Node, kind: str) -> None:
    """A region that may not be opened is named, with the system's reason."""
    node.place("a")
    path = node.runtime.quota_path(UUIDS[0]) if kind == "quota" else node.runtime.usage_path("a", UUIDS[0])
    path.chmod(0)
    done = subprocess.run(
        [LIB_DIR / "bench" / "call_cost", "init", "-1"],
        env=node.environment("a"),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=without_override,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"mica: slice a: attach refused: {path}: Permission denied",
        "call_cost: cuInit failed",
    ]


def test_without_a_driver_the_line_says_where_it_was_looked_for(node: Node) -> None:
    """No driver below the shim is one line, and to the client a driver without functions, in the client's own words."""
    node.place("a")
    tenant = node.start("a", MICA_CUDA_DRIVER="/nonexistent/libcuda.so.1")
    assert "cuInit is not found" in tenant("init")
    assert "MICA_CUDA_DRIVER: /nonexistent/libcuda.so.1: " in one_line(tenant)


def test_a_record_that_vanishes_is_told_once(node: Node) -> None:
    """Every call after it is refused, one line says so, and the program ends normally."""
    node.place("a")
    tenant = node.start("a").started()
    node.clear("a")
    assert tenant("alloc", "p", 1) == [NOT_PERMITTED]
    assert tenant("launch") == [NOT_PERMITTED]
    assert one_line(tenant) == f"mica: slice a: refused: device {UUIDS[0]}: the slice's record is gone"


def test_a_record_that_vanishes_leaves_its_limits_if_that_is_the_policy(node: Node) -> None:
    """With MICA_ON_FAULT=pass a running process goes on under the limits that it had, not without any."""
    node.place("a", vram_limit_bytes=10 * MIB)
    tenant = node.start("a", MICA_ON_FAULT="pass").started()
    node.clear("a")
    assert tenant("alloc", "p", 8 * MIB) == [0]
    assert tenant("alloc", "q", 8 * MIB) == [2]
    assert tenant("launch") == [0]
    assert one_line(tenant) == f"mica: slice a: goes on under its last limits: device {UUIDS[0]}: the slice's record is gone"


def test_a_truncated_usage_file_does_not_crash_its_process(node: Node) -> None:
    """A tenant may truncate its own file: its next calls are refused, and its program goes on."""
    node.place("a")
    tenant = node.start("a").started()
    assert tenant("alloc", "p", MIB) == [0]
    os.truncate(node.runtime.usage_path("a", UUIDS[0]), 0)
    tenant("alloc", "q", MIB)  # the call that meets it has whatever answer
    assert tenant("alloc", "r", MIB) == [NOT_PERMITTED]
    assert tenant("launch") == [NOT_PERMITTED]
    assert tenant("free", "p") == [0]
    assert f"usage region was truncated under it: device: {UUIDS[0]}" in one_line(tenant)


def test_a_truncated_usage_file_ends_the_enforcement_if_that_is_the_policy(node: Node) -> None:
    """With MICA_ON_FAULT=pass the program goes on, on the whole device."""
    node.place("a")
    tenant = node.start("a", MICA_ON_FAULT="pass").started()
    os.truncate(node.runtime.usage_path("a", UUIDS[0]), 0)
    tenant("alloc", "q", MIB)
    assert tenant("alloc", "r", 2 * GIB) == [0]
    assert "not enforced any more: its usage region was truncated" in one_line(tenant)


def test_a_slot_that_was_taken_away_gets_nothing_more(node: Node) -> None:
    """Memory in a slot that is not held would not count: it is refused, and told once."""
    node.place("a")
    tenant = node.start("a").started()
    with node.runtime.usage_path("a", UUIDS[0]).open("r+b") as file:
        file.seek(512)
        file.write(bytes(8))
    assert tenant("alloc", "p", MIB) == [NOT_PERMITTED]
    assert tenant("alloc", "p", MIB) == [NOT_PERMITTED]
    assert "this process's slot was taken away" in one_line(tenant)


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
