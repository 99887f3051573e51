"""Containers that `mica run --image` starts in slices, from the host, as a tenant would: the checks of the launcher."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.acceptance.compose import _images as images
from tests.acceptance.compose._bus import FINAL, Outsider
from tests.acceptance.compose._report import Report, say
from tests.acceptance.compose._shell import ROOT, wait_for
from tests.acceptance.compose._stack import HOST_DIR, PROJECT, Stack, free_port

GIB = 1 << 30
NODE = "compose-node"
SLICE = "launched"
UID = 20_002
TAKEN_BYTES = 1 * GIB
CPU_MILLI, MEMORY_BYTES = 500, 512 << 20
NAME = "mica-launched"
GONE_STATUS = 69
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Launcher:
    """A running `mica run`; what its container says, one JSON object a line, is in `output`."""

    process: subprocess.Popen[bytes]
    output: Path
    errors: Path

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.read_text().splitlines() if line.startswith("{") and line.endswith("}")]

    def said(self, key: str, life: int = 0) -> dict[str, Any]:
        """The line with `key` of that life; waits for it."""

        def found() -> dict[str, Any] | None:
            with_key = [line for line in self.lines() if key in line]
            return with_key[life] if len(with_key) > life else None

        return wait_for(f"{key!r} in the output of life {life}", found, TIMEOUT_S)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "mica.cli", "run", *words]


def environment(stack: Stack) -> dict[str, str]:
    return {**os.environ, **stack.env, "MICA_RUNTIME_DIR": str(HOST_DIR / "run"), "MICA_NATS_URL": stack.nats_url}


@contextmanager
def launched(stack: Stack, *words: str) -> Iterator[Launcher]:
    """A launcher, ended at the end of the block."""
    output, errors = HOST_DIR / "launched.out", HOST_DIR / "launched.err"
    with output.open("wb") as to, errors.open("wb") as about:
        process = subprocess.Popen(command(*words), cwd=ROOT, env=environment(stack), stdout=to, stderr=about)
    try:
        yield Launcher(process, output, errors)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(TIMEOUT_S)


def run_once(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), cwd=ROOT, env=environment(stack), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


async def containers_are_launched(stack: Stack, bus: Outsider, report: Report) -> None:
    """A slice with limits of its node's own, and a launcher that follows it from device to device to its end."""
    body = {"tenant": "compose", "id": SLICE, "vram_bytes": 4 * GIB, "mode": "fcsp", "uid": UID}
    await bus.command("slice.request", body | {"cpu_milli": CPU_MILLI, "host_memory_bytes": MEMORY_BYTES})
    ready = await bus.fact(SLICE, *FINAL)
    report.check("a slice for `mica run --image` is ready", ready.kind == "slice.ready", ready.body)
    await asyncio.to_thread(what_does_not_go_is_one_line, stack, report)
    await asyncio.to_thread(one_container_ends_with_its_status, stack, report)
    await asyncio.to_thread(one_is_detached, stack, report)
    options = ("--restart", "on-move", "--stop-timeout", "20s", "--init", "--rm", "--network", "none", "--read-only")
    words = (*options, "--name", NAME, "--env", "GREETING=hello", "--image", images.TENANT, SLICE, "--", str(TAKEN_BYTES))
    with launched(stack, *words) as launcher:
        await asyncio.to_thread(it_dies, stack, launcher, report)
    with launched(stack, *words) as launcher:
        await asyncio.to_thread(it_sees_its_slice, stack, launcher, report)
        await it_follows_its_slice(stack, bus, launcher, report)
        await bus.command("slice.release", {"id": SLICE})
        await bus.fact(SLICE, "slice.released", timeout_s=30)
        status = await asyncio.to_thread(launcher.process.wait, TIMEOUT_S)
        ending = launcher.errors.read_text()
        report.check(
            "the launcher ends with its slice, and says so", (status, "it is released" in ending) == (GONE_STATUS, True), ending
        )
    left = await asyncio.to_thread(stack.docker, "ps", "--all", "--quiet", "--filter", f"label=mica.slice={SLICE}")
    report.check("none of its containers is left", not left.strip(), left)


def what_does_not_go_is_one_line(stack: Stack, report: Report) -> None:
    tries = {
        "another user than the slice's": (("--user", "0", "--image", images.TENANT), "allowed: 20002"),
        "an image that is not there": (
            ("--pull", "never", "--image", "mica-no-such"),
            "mica-no-such: the engine does not have it",
        ),
        "an image without a C library": (("--image", images.STATIC), "static programs load no shim"),
        "a volume whose source is not there": (("-v", "/no/such:/data", "--image", images.TENANT), "/no/such is not here"),
    }
    for what, (words, message) in tries.items():
        done = run_once(stack, *words, SLICE)
        lines = done.stderr.splitlines()
        report.check(f"{what} is one clear line", done.returncode == 1 and len(lines) == 1 and message in lines[0], done.stderr)
    done = subprocess.run(
        command("--image", images.TENANT, SLICE), cwd=ROOT, env=environment(stack) | {"DOCKER_HOST": "unix:///no/such"},
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    holds = done.returncode == 1 and "no container engine answers at unix:///no/such" in done.stderr
    report.check("no engine is one clear line", holds and len(done.stderr.splitlines()) == 1, done.stderr)


def one_container_ends_with_its_status(stack: Stack, report: Report) -> None:
    program = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"
    words = ("--rm", "--entrypoint", "/opt/tenant/bin/python", "--image", images.TENANT, SLICE, "--", "-c", program)
    done = run_once(stack, *words)
    seen = (done.returncode, done.stdout, done.stderr)
    report.check("exit status and both outputs are the container's", seen == (7, "out\n", "err\n"), seen)


def one_is_detached(stack: Stack, report: Report) -> None:
    port = free_port()
    network = ("--network", f"{PROJECT}_default", "--publish", f"127.0.0.1:{port}:8000/udp")
    done = run_once(stack, "--detach", "--init", *network, "--image", images.TENANT, SLICE, "--", str(TAKEN_BYTES))
    container = done.stdout.strip()
    printed = wait_for("the detached container's output", lambda: stack.docker("logs", container), TIMEOUT_S)
    report.check("a detached container runs without its launcher", done.returncode == 0 and stack.runs(container), printed)
    published = stack.docker("port", container).strip()
    report.check("its port is published here", published == f"8000/udp -> 127.0.0.1:{port}", published)
    stack.docker("rm", "--force", "--volumes", container)


def it_dies(stack: Stack, launcher: Launcher, report: Report) -> None:
    """SIGKILL of the launcher leaves its container; the next launcher, which wants the same name, removes it first."""
    launcher.said("allocation")
    launcher.process.kill()
    launcher.process.wait()
    report.check("the container of a killed launcher runs on", stack.runs(NAME), NAME)


def it_sees_its_slice(stack: Stack, launcher: Launcher, report: Report) -> None:
    sees = launcher.said("total_bytes")
    report.check(
        "it runs as the slice's user, with the variables it was given", (sees["user"], sees["greeting"]) == (UID, "hello"), sees
    )
    report.check("it sees one device, with its own memory", (sees["devices"], sees["total_bytes"]) == (1, 4 * GIB), sees)
    report.check(
        "it can't write the quota region", bool(sees["quota_writes"]) and set(sees["quota_writes"]) <= {"EROFS", "EACCES"}, sees
    )
    report.check("it sees no other slice's usage", sees["usage_files"] == 1, sees)
    removed = launcher.errors.read_text()
    report.check("what a killed launcher has left is removed first", "whose launcher is gone" in removed, removed)
    taken = launcher.said("allocation")
    report.check("it takes what is its own", taken["allocation"] == "CUDA_SUCCESS", taken)
    config = json.loads(stack.docker("inspect", NAME))[0]["HostConfig"]
    asked = (config["NanoCpus"], config["Memory"])
    report.check("its limits are what the slice asked of its node", asked == (CPU_MILLI * 10**6, MEMORY_BYTES), asked)
    say(f"        in its control group: memory {sees['memory_max'] or 'unknown'}, processors {sees['cpu_max'] or 'unknown'}")


async def it_follows_its_slice(stack: Stack, bus: Outsider, launcher: Launcher, report: Report) -> None:
    here = await device_of(bus)
    inventory = await bus.state(f"inventory.{NODE}")
    there = next(each["id"] for each in inventory["devices"] if each["model"] == "NVIDIA L4" and each["id"] != here)
    await bus.command("slice.move", {"id": SLICE, "device_id": there, "grace_s": 60})
    again = await asyncio.to_thread(launcher.said, "allocation", 1)
    report.check("moved, it is started again and takes its memory there", again["allocation"] == "CUDA_SUCCESS", again)
    sees = await asyncio.to_thread(launcher.said, "total_bytes", 1)
    report.check("it has the same memory there", sees["total_bytes"] == 4 * GIB, sees)
    mounts = json.loads(await asyncio.to_thread(stack.docker, "inspect", NAME))[0]["Mounts"]
    devices = {Path(mount["Source"]).parent.name for mount in mounts if mount["Source"].endswith("/quota")}
    report.check("its regions are those of the new device alone", devices == {there} and here != there, (devices, here, there))
    running = await asyncio.to_thread(stack.docker, "ps", "--all", "--quiet", "--filter", f"label=mica.slice={SLICE}")
    report.check("one container is there, not two", len(running.split()) == 1, running)


async def device_of(bus: Outsider) -> str:
    record = await bus.state(f"slice.{SLICE}")
    return str(record["placements"][0]["device_id"])
