"""``mica run --restart``: a launcher looks after a program through moves, crashes and the end of its slice; real processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from acceptance_stack import EXAMPLES, GIB, Stack, wait_for

NODE = 'name = "two"\n[[device]]\nmodel = "L4"\ncount = 2\n'
GONE_STATUS = 69
WORKER = """
import json, os, signal, subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from cuda_client import Client

signal.signal(signal.SIGTERM, lambda *_: (print(json.dumps({"asked": os.getpid()}), flush=True), sys.exit(0)))
client = Client()
child = subprocess.Popen(["sleep", "1000"])
slice_ = os.environ["MICA_VISIBLE_DEVICES"]
print(json.dumps({"pid": os.getpid(), "child": child.pid, "device": slice_, **client.allocate(str(1 << 30))}), flush=True)
while True:
    time.sleep(0.1)
"""


class Launcher:
    """``mica run --restart`` over the worker, and what the worker says: one JSON object a line."""

    def __init__(self, house: Stack, slice_id: str, *options: str) -> None:
        worker = [sys.executable, "-c", WORKER, str(EXAMPLES)]
        command = [sys.executable, "-m", "mica.cli", "run", *options, slice_id, "--", *worker]
        self.errors = house.home / "launcher.err"
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(command, env=house.environment, stdout=subprocess.PIPE, stderr=errors, text=True)

    def says(self) -> dict[str, Any]:
        """The worker's next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it ended with {self.process.wait()}: {self.errors.read_text()}"
        return dict(json.loads(line))

    def end(self) -> int:
        """Wait for its end; the status."""
        return self.process.wait(30)


@pytest.fixture
def house(house: Stack, tmp_path: Path) -> Stack:
    """A node of two devices with a slice on one of them."""
    node = tmp_path / "two.toml"
    node.write_text(NODE)
    house.start("--port", "0", "--node", str(node))
    house.request("work", "4GiB", "--mode", "fcsp", "--share", "30%")
    return house


@pytest.fixture
def launchers() -> Iterator[list[Launcher]]:
    """Those that a test starts; none is left after it."""
    started: list[Launcher] = []
    yield started
    for launcher in started:
        if launcher.process.poll() is None:
            launcher.process.terminate()
            launcher.process.wait(20)
        if launcher.process.stdout is not None:
            launcher.process.stdout.close()


def is_gone(pid: int) -> bool:
    """Whether there is no such process, not even a zombie."""
    return not Path(f"/proc/{pid}").exists()


def where(house: Stack) -> str:
    return str(house.json("show", "work")["placements"][0]["device_id"])


def test_a_program_follows_its_slice(house: Stack, launchers: list[Launcher]) -> None:
    """At a move it is asked to end at once, ends in peace, and starts on the new device; nothing of the first life is left."""
    launchers.append(launcher := Launcher(house, "work", "--restart", "on-move"))
    first = launcher.says()
    assert (first["result"], first["device"]) == ("CUDA_SUCCESS", where(house))
    house.mica("move", "work", "--grace", "60s")
    assert launcher.says() == {"asked": first["pid"]}
    second = launcher.says()
    assert (second["result"], second["device"]) == ("CUDA_SUCCESS", where(house))
    assert second["device"] != first["device"]
    assert is_gone(first["pid"])
    assert is_gone(first["child"])
    house.audit_recovered()


def test_a_program_that_ignores_the_request_is_killed_in_time(house: Stack, launchers: list[Launcher]) -> None:
    """Stopped, it can't answer SIGTERM; after --stop-timeout it is ended, long before the grace is over, and starts anew."""
    launchers.append(launcher := Launcher(house, "work", "--restart", "on-move", "--stop-timeout", "500ms"))
    first = launcher.says()
    os.kill(first["pid"], signal.SIGSTOP)
    house.mica("move", "work", "--grace", "600s")
    assert launcher.says()["device"] == where(house) != first["device"]
    assert is_gone(first["pid"])


def test_a_program_that_is_killed_starts_again(house: Stack, launchers: list[Launcher]) -> None:
    """SIGKILL of the program is a failure: it starts again at the same place, until it was too often."""
    launchers.append(launcher := Launcher(house, "work", "--restart", "on-failure", "--restarts-max", "2"))
    lives = []
    for _ in range(3):
        lives.append(launcher.says())
        os.kill(lives[-1]["pid"], signal.SIGKILL)
    assert launcher.end() == 128 + signal.SIGKILL
    assert {life["device"] for life in lives} == {where(house)}
    assert all(is_gone(life["child"]) for life in lives)
    assert "3 times in a row; allowed by --restarts-max: 2" in launcher.errors.read_text()
    house.audit_recovered()


def test_without_a_failure_to_restart_on_the_program_ends_for_good(house: Stack, launchers: list[Launcher]) -> None:
    """The control: on-move does not restart what was killed."""
    launchers.append(launcher := Launcher(house, "work", "--restart", "on-move"))
    os.kill(launcher.says()["pid"], signal.SIGKILL)
    assert launcher.end() == 128 + signal.SIGKILL


def test_the_launcher_passes_on_what_asks_for_the_end(house: Stack, launchers: list[Launcher]) -> None:
    """SIGTERM to the launcher ends the program, whose status is the launcher's; nothing starts again."""
    launchers.append(launcher := Launcher(house, "work", "--restart", "always"))
    first = launcher.says()
    launcher.process.terminate()
    assert launcher.says() == {"asked": first["pid"]}
    assert launcher.end() == 0
    assert is_gone(first["pid"])
    assert is_gone(first["child"])


def test_a_killed_launcher_takes_its_program_along(house: Stack, launchers: list[Launcher]) -> None:
    """After SIGKILL of the launcher the program gets SIGTERM from the kernel; another launcher has the whole slice."""
    launchers.append(launcher := Launcher(house, "work", "--restart", "always"))
    first = launcher.says()
    launcher.process.kill()
    assert launcher.says() == {"asked": first["pid"]}
    wait_for(lambda: is_gone(first["pid"]))
    os.kill(first["child"], signal.SIGKILL)
    launchers.append(another := Launcher(house, "work", "--restart", "always"))
    assert another.says()["free_bytes"] == 3 * GIB


def test_the_launcher_ends_with_its_slice(house: Stack, launchers: list[Launcher]) -> None:
    """Evicted, the program is asked to end, and the launcher says why there is nothing more to do."""
    launchers.append(launcher := Launcher(house, "work", "--restart", "always"))
    first = launcher.says()
    house.mica("evict", "work", "--reason", "the node goes down")
    assert launcher.says() == {"asked": first["pid"]}
    assert launcher.end() == GONE_STATUS
    assert "slice work: it is evicted: the node goes down" in launcher.errors.read_text()
    house.audit_recovered()


def test_a_launcher_waits_for_a_slice_that_is_queued(house: Stack, launchers: list[Launcher]) -> None:
    """It starts the program as soon as the slice is here, however long that takes."""
    house.request("large", "18GiB", "--mode", "fcsp", "--share", "30%")
    house.request("other", "18GiB", "--mode", "fcsp", "--share", "30%")
    asking = [sys.executable, "-m", "mica.cli", "request", "--tenant", "t", "--id", "late", "--vram", "20GiB", "--queue", "60s"]
    with subprocess.Popen(asking, env=house.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as request:
        wait_for(lambda: "late" in house.mica("queue"))
        launchers.append(launcher := Launcher(house, "late", "--restart", "on-move", "--wait", "100ms"))
        wait_for(lambda: "waiting: it is queued" in launcher.errors.read_text())
        house.mica("release", "large")
        house.mica("release", "other")
        assert launcher.says()["result"] == "CUDA_SUCCESS"
        assert request.wait(30) == 0


def test_a_slice_that_nobody_knows_is_one_clear_error(house: Stack, launchers: list[Launcher]) -> None:
    """The bus knows that there is none: nobody waits."""
    launchers.append(launcher := Launcher(house, "no-such", "--restart", "always"))
    assert launcher.end() == GONE_STATUS
    assert "slice no-such: there is no such slice" in launcher.errors.read_text()
