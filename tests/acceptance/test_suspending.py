"""A running system suspends slices and brings them back: with real processes under the shim, on the simulated driver."""

import subprocess
import sys
from pathlib import Path

import pytest
from acceptance_stack import GIB, Client, Stack, soon, wait_for

from mica.events import Mode, RequestSlice

NODE = 'name = "one"\n[[device]]\nmodel = "L4"\ncount = 1\n'
SIZE = 192 << 20


@pytest.fixture
def one(house: Stack, tmp_path: Path) -> Stack:
    """A system with one L4."""
    node = tmp_path / "one.toml"
    node.write_text(NODE)
    house.start("--port", "0", "--node", str(node))
    return house


def start(stack: Stack, slice_id: str) -> "subprocess.Popen[str]":
    """A program inside a slice that can hold a pattern, on its way."""
    script = str(Path(__file__).with_name("pattern_client.py"))
    command = [sys.executable, "-m", "mica.cli", "run", slice_id, "--", sys.executable, script]
    return subprocess.Popen(command, env=stack.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def client(stack: Stack, slice_id: str) -> Client:
    """The same, ready."""
    made = Client(start(stack, slice_id))
    stack.clients.append(made)
    return made


def spent(stack: Stack) -> int:
    return stack.books().devices[0].spent_bytes


def state(stack: Stack, slice_id: str) -> str:
    return str(stack.json("show", slice_id)["state"])


def test_a_slice_gives_up_its_device_and_comes_back_byte_for_byte(one: Stack) -> None:
    """Two processes of it; a neighbour fills the room meanwhile, and the slice waits until that has gone."""
    one.request("s", "20GiB", "--mode", "fcsp")
    programs = [client(one, "s") for _ in range(2)]
    for program in programs:
        assert program.ask("fill", SIZE)["result"] == "CUDA_SUCCESS"
    before = spent(one)
    assert "is suspended" in one.mica("suspend", "s")
    assert (spent(one), state(one, "s")) == (0, "suspended")
    assert one.json("ls")[0]["away_bytes"] >= 2 * SIZE
    one.audit()
    programs[0].send("check")
    one.request("neighbour", "20GiB", "--mode", "fcsp")
    other = client(one, "neighbour")
    assert other.ask("fill", GIB)["result"] == "CUDA_SUCCESS"
    assert "waits for room" in one.mica("resume", "s")
    assert "comes back as soon as there is room for vram_bytes" in one.mica("show", "s")
    assert other.ask("check") == {"same": True}
    other.kill()
    one.mica("release", "neighbour")
    wait_for(lambda: state(one, "s") == "ready")
    assert programs[0].answer() == {"same": True}
    assert programs[1].ask("check") == {"same": True}
    assert spent(one) == before
    one.audit_recovered()


def test_a_program_that_starts_in_a_suspended_slice_waits_for_its_memory(one: Stack) -> None:
    """It holds nothing of the device, and gets what it asked for once the slice is back."""
    one.request("s", "4GiB", "--mode", "fcsp")
    one.mica("suspend", "s")
    process = start(one, "s")
    wait_for(lambda: one.json("show", "s")["observed"] and one.books().processes)
    assert spent(one) == 0
    one.mica("resume", "s")
    late = Client(process)
    one.clients.append(late)
    assert late.ask("fill", SIZE)["result"] == "CUDA_SUCCESS"
    assert late.ask("check") == {"same": True}


@pytest.mark.parametrize("killed", ["", "planner", "enforcer"])
async def test_a_spot_slice_yields_the_device_and_comes_back_by_itself(one: Stack, killed: str) -> None:
    """A guaranteed request takes its room; once that is released its program goes on, whoever was killed meanwhile."""
    one.request("cheap", "20GiB", "--mode", "fcsp", "--tier", "spot")
    program = client(one, "cheap")
    assert program.ask("fill", SIZE)["result"] == "CUDA_SUCCESS"
    bus = await one.bus()
    await bus.publish(RequestSlice(tenant="tester", id="dear", vram_bytes=20 * GIB, mode=Mode.FCSP, queue_s=120))
    await bus.close()
    await soon(lambda: one.json("show", "dear")["waits_for"].get("victims") == ["cheap"])
    if killed:
        one.kill(killed)
    await soon(lambda: state(one, "dear") == "ready")
    assert state(one, "cheap") == "suspended"
    assert spent(one) == 0
    if killed:
        one.kill(killed)
    one.mica("release", "dear")
    await soon(lambda: state(one, "cheap") == "ready")
    assert program.ask("check") == {"same": True}
    one.audit_recovered()


def test_a_suspended_slice_is_released_with_its_programs(one: Stack) -> None:
    """They end without ever coming back to the device, and everything is clean."""
    one.request("s", "4GiB", "--mode", "fcsp")
    program = client(one, "s")
    assert program.ask("fill", SIZE)["result"] == "CUDA_SUCCESS"
    one.mica("suspend", "s")
    one.mica("release", "s", "--grace", "1s")
    assert program.process.wait(20) != 0
    assert spent(one) == 0
    one.audit_recovered()
