"""The operator's commands on a running system: one slice's life, events live, and an audit that finds what is broken."""

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from acceptance_stack import EXAMPLES, GIB, Client, Stack
from msgspec.structs import replace

from mica.events import RequestSlice, SliceRejected, encode
from mica.region import QuotaRegion, RuntimeDir, create_usage


def test_a_slice_through_the_command_line(stack: Stack) -> None:
    """Asked for, listed, shown with reasons, changed, watched and released; every step in JSON."""
    watching = subprocess.Popen(
        [sys.executable, "-m", "mica.cli", "watch", "chat", "--json", "--count", "4"],
        env=stack.environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    ready = stack.request("chat", "4GiB", "--share", "25%", "--mode", "fcsp", "--name", "a chat model")
    assert (ready["answer"], ready["placements"][0]["vram_bytes"], ready["placements"][0]["share_ppm"]) == (
        "slice.ready",
        4 * GIB,
        250_000,
    )
    assert {other["reason"] for other in ready["decision"]["rejected"]}
    assert stack.json("ls") == stack.json("ls", "--tenant", "tester")
    assert stack.json("ls", "--tenant", "nobody") == []
    assert stack.json("show", "chat")["state"] == "ready"
    free = {device["model"]: device["vram_free_bytes"] for device in stack.json("devices")}
    assert stack.json("nodes")[0]["slices"] == 1
    assert stack.json("resize", "chat", "--share", "50%")["placements"][0]["share_ppm"] == 500_000
    assert stack.json("control", "chat", "--to", "pause")["generation"] == 3
    assert stack.json("ls")[0]["state"] == "pause"
    assert "refused: vram_bytes: got 1099511627776" in stack.mica("resize", "chat", "--vram", "1TiB", status=1)
    assert stack.json("release", "chat")["type"] == "slice.released"
    after = {device["model"]: device["vram_free_bytes"] for device in stack.json("devices")}
    assert after["NVIDIA L4"] == free["NVIDIA L4"] + 4 * GIB
    assert "already released" in stack.mica("resize", "chat", "--vram", "1GiB", status=1)
    assert "no such slice" in stack.mica("release", "nobody", status=1)
    out, _ = watching.communicate(timeout=30)
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 4
    # Four events in a row of this slice's life; at which of them the watching began is the machine's business.
    assert {line["subject"] for line in lines} <= {
        "slice.request",
        "slice.placed.chat",
        "slice.ready.chat",
        "slice.resize",
        "slice.resized.chat",
        "slice.control",
        "slice.release",
        "slice.released.chat",
    }


def test_requests_are_the_same_from_a_file_and_from_stdin(stack: Stack) -> None:
    """``--file -`` takes the JSON body of ``slice.request``."""
    body = encode(RequestSlice(tenant="t", id="piped", vram_bytes=GIB)).decode()
    command = [sys.executable, "-m", "mica.cli", "request", "--file", "-"]
    done = subprocess.run(command, input=body, env=stack.environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("slice piped is ready")


def rogue_record(stack: Stack, device_id: str) -> str:
    """Somebody writes a quota record that no ledger knows."""
    path = RuntimeDir(stack.runtime_dir).quota_path(device_id)
    with QuotaRegion(path, writable=True) as region:
        limits = region.records()[region.find("soft") or 0]
        region.write(100, replace(limits, slice_id="ghost"))
    return "quota-ledger slice ghost"


def raised_limit(stack: Stack, device_id: str) -> str:
    """Somebody gives a slice more memory than the ledger does."""
    with QuotaRegion(RuntimeDir(stack.runtime_dir).quota_path(device_id), writable=True) as region:
        index = region.find("soft") or 0
        region.write(index, replace(region.records()[index], vram_limit_bytes=20 * GIB))
    return "ledger-quota slice soft"


def forgotten_usage(stack: Stack, device_id: str) -> str:
    """A usage region is left behind."""
    runtime = RuntimeDir(stack.runtime_dir)
    runtime.ensure_slice("left")
    create_usage(runtime.usage_path("left", device_id), device_id, "left", os.getuid())
    return "usage-ledger slice left"


def around_the_shim(stack: Stack, device_id: str) -> str:
    """A program uses the device past every slice."""
    command = [sys.executable, "-m", "mica.cli", "sim", "run", "--", sys.executable, str(EXAMPLES / "cuda_client.py")]
    process = subprocess.Popen(
        command,
        env=stack.environment | {"CUDA_VISIBLE_DEVICES": device_id},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    client = Client(process)
    stack.clients.append(client)
    assert client.ask("allocate", GIB)["result"] == "CUDA_SUCCESS"
    return f"driver-slice process {process.pid}"


@pytest.mark.parametrize("tamper", [rogue_record, raised_limit, forgotten_usage, around_the_shim])
def test_the_audit_finds_what_somebody_broke(stack: Stack, tamper: Callable[[Stack, str], str]) -> None:
    """One disagreement, named, and status 1; before that there was none."""
    device_id = stack.request("soft", "2GiB", "--mode", "fcsp")["placements"][0]["device_id"]
    stack.audit()
    expected = tamper(stack, device_id)
    said = stack.mica("audit", status=1)
    assert expected in said


async def test_the_audit_finds_a_contradiction(stack: Stack) -> None:
    """A slice that was ready can't be rejected too, whoever says so."""
    stack.request("soft", "2GiB")
    bus = await stack.bus()
    await bus.publish(SliceRejected(at=1, id="soft", field="f", given="g", allowed="a", message="m"))
    await bus.close()
    found = stack.json("audit", status=1)["disagreements"]
    assert [finding["check"] for finding in found] == ["I6"]
    assert "contradict each other" in found[0]["message"]
