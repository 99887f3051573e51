"""Real, unmodified clients in slices of every mode, measured in the driver's own books."""

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from acceptance_stack import EXAMPLES, GIB, Stack, wait_for

NUMBERS = count(1)
MODES = ("hardware", "fcsp", "timeslice")


@pytest.fixture(params=MODES)
def slice_id(request: Any, shared_stack: Stack) -> Iterator[str]:
    """A slice of each mode. Ids are not given out again for a day."""
    name = f"{request.param}-{next(NUMBERS)}"
    shared_stack.request(name, "4GiB", "--mode", request.param)
    yield name
    shared_stack.mica("release", name)


def requested_bytes(stack: Stack, pid: int) -> int:
    """What the driver has booked for a process."""
    process = stack.books().process(pid)
    return sum(account.requested_bytes for account in process.accounts) if process else 0


def used_bytes(stack: Stack, slice_id: str) -> int:
    """What the enforcer says that a slice holds."""
    return int(next(row["vram_used_bytes"] for row in stack.json("ls") if row["id"] == slice_id))


def test_a_client_sees_exactly_its_slice_and_gets_no_more(shared_stack: Stack, slice_id: str) -> None:
    """Total, free and NVML show the slice; the last byte can be had, and one more is out of memory."""
    granted = shared_stack.json("show", slice_id)["placements"][0]["vram_bytes"]
    command = [sys.executable, "-m", "mica.cli", "run", slice_id, "--", sys.executable, str(EXAMPLES / "nvml_client.py")]
    watched = json.loads(subprocess.run(command, env=shared_stack.environment, capture_output=True, text=True, check=True).stdout)
    client = shared_stack.client(slice_id)
    assert (client.first["total_bytes"], client.first["device_bytes"], client.first["free_bytes"]) == (granted, granted, granted)
    assert watched["total_bytes"] == granted
    assert client.ask("allocate", granted)["result"] == "CUDA_SUCCESS"
    assert client.ask("allocate", 1)["result"] == "CUDA_ERROR_OUT_OF_MEMORY"
    assert requested_bytes(shared_stack, client.pid) == granted
    shared_stack.audit()
    assert client.ask("free")["free_bytes"] == granted
    client.kill()


def test_what_a_killed_client_held_comes_back(shared_stack: Stack, slice_id: str) -> None:
    """SIGKILL in the middle of its work: all of the slice can be had again by the next process."""
    client = shared_stack.client(slice_id)
    granted = client.first["total_bytes"]
    assert client.ask("allocate", granted)["result"] == "CUDA_SUCCESS"
    client.send("flood", 60)
    client.kill()
    successor = shared_stack.client(slice_id)

    def all_free() -> bool:
        return bool(successor.ask("look")["free_bytes"] == granted)

    wait_for(all_free)
    assert successor.ask("allocate", granted)["result"] == "CUDA_SUCCESS"
    successor.kill()
    wait_for(lambda: shared_stack.books().process(successor.pid) is None)
    shared_stack.audit()


def test_neighbours_notice_nothing(shared_stack: Stack) -> None:
    """On one device, a neighbour that overreaches, floods and is killed takes nothing from the other."""
    for slice_id in ("quiet", "loud"):
        shared_stack.request(slice_id, "6GiB", "--mode", "fcsp", "--share", "50%")
    quiet, loud = shared_stack.client("quiet"), shared_stack.client("loud")
    before = quiet.ask("look")
    assert loud.ask("allocate", 5 * GIB)["result"] == "CUDA_SUCCESS"
    assert loud.ask("allocate", 5 * GIB)["result"] == "CUDA_ERROR_OUT_OF_MEMORY"
    loud.send("flood", 60)
    assert quiet.ask("look") == before
    assert quiet.ask("allocate", 6 * GIB)["result"] == "CUDA_SUCCESS"
    assert quiet.ask("flood", 0.2)["launches"] > 0
    loud.kill()
    assert quiet.ask("look")["free_bytes"] == 0
    shared_stack.audit()
    quiet.kill()
    for slice_id in ("quiet", "loud"):
        shared_stack.mica("release", slice_id)


def test_a_live_resize_needs_no_restart(shared_stack: Stack) -> None:
    """The same process sees more and gets it; a shrink below what it holds waits for it, and is not sold meanwhile."""
    shared_stack.request("elastic", "4GiB", "--mode", "fcsp", "--share", "40%")
    client = shared_stack.client("elastic")
    assert client.ask("allocate", 5 * GIB)["result"] == "CUDA_ERROR_OUT_OF_MEMORY"
    assert "resized (generation 2)" in shared_stack.mica("resize", "elastic", "--vram", "6GiB")
    assert client.ask("look")["total_bytes"] == 6 * GIB
    assert client.ask("allocate", 5 * GIB)["result"] == "CUDA_SUCCESS"
    assert "no outcome in 0.5 s" in shared_stack.mica("resize", "elastic", "--vram", "1GiB", "--timeout", "500ms", status=1)
    wait_for(lambda: used_bytes(shared_stack, "elastic") == 5 * GIB)
    assert client.ask("allocate", 1)["result"] == "CUDA_ERROR_OUT_OF_MEMORY"
    client.ask("free")
    wait_for(lambda: shared_stack.json("show", "elastic")["observed"].popitem()[1]["vram_bytes"] == GIB)
    assert client.ask("look")["total_bytes"] == GIB
    client.kill()
    shared_stack.mica("release", "elastic")
    shared_stack.audit()


def test_a_release_ends_what_does_not_end_itself(shared_stack: Stack) -> None:
    """Processes are terminated after the grace, and the slice is released only when every byte is free."""
    for mode in MODES:
        shared_stack.request(f"end-{mode}", "2GiB", "--mode", mode)
        client = shared_stack.client(f"end-{mode}")
        assert client.ask("allocate", GIB)["result"] == "CUDA_SUCCESS"
        assert "released" in shared_stack.mica("release", f"end-{mode}", "--grace", "0s")
        assert client.process.wait(10) != 0
        assert requested_bytes(shared_stack, client.pid) == 0
    wait_for(lambda: shared_stack.json("ls") == [])
    shared_stack.audit()


def test_a_slice_that_is_gone_takes_no_more_programs(shared_stack: Stack) -> None:
    """``mica run`` says so in one line."""
    shared_stack.request("brief", "1GiB")
    shared_stack.mica("release", "brief")
    said = shared_stack.mica("run", "brief", "--", "true", status=1)
    assert "slice brief: not on this node" in said
    assert said.count("\n") == 1
