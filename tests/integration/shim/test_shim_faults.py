"""What a shim answers when its slice's limits cannot be known: every fault, by either policy, at the start.

One line on stderr says what and where; `refuse` then refuses what is enforced, `pass` lets it go to the driver; the program is
never crashed. While running: test_shim_faults_running.py. docs/guides/modes.md
"""

import signal
import subprocess
import sys

import pytest
from shim_faults import AT_START, NOT_PERMITTED, SPOILT, forbidden, missing, one_line, spoilt, without_override
from shim_node import GIB, UUIDS, Node, Tenant

from mica.events import Control


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
@pytest.mark.parametrize("how", ["missing", "forbidden", *SPOILT])
def test_without_a_token(node: Node, how: str, policy: str) -> None:
    """A device token that cannot be used refuses nobody and frees nobody: the slice is held by its rate, and that is told."""
    node.place("a", quantum_ns=2_000_000)
    path = node.runtime.token_path(UUIDS[0])
    change, text = SPOILT.get(how, (None, ""))
    broken = missing(path) if how == "missing" else forbidden(path) if change is None else spoilt(path, change, text)
    tenant = node.start("a", before=without_override, MICA_ON_FAULT=policy).started()
    assert tenant("total") == [0, GIB]
    assert tenant("launch", 10) == [0]
    assert node.usage("a").launches == 10
    assert one_line(tenant) == f"mica: slice a: no device token, held by its rate alone: {broken.text}"


@pytest.mark.parametrize("policy", ["refuse", "pass"])
def test_without_a_driver(node: Node, policy: str) -> None:
    """No driver below the shim is one line, and to the client a driver without functions, in the client's own words: there is
    nothing that a call could be passed to."""
    node.place("a")
    tenant = node.start("a", MICA_CUDA_DRIVER="/nonexistent/libcuda.so.1", MICA_ON_FAULT=policy)
    assert "cuInit is not found" in tenant("init")
    assert "MICA_CUDA_DRIVER: /nonexistent/libcuda.so.1: " in one_line(tenant)


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
