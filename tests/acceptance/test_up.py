"""``mica up``: starts whole, stops whole, and says in one line why it can't."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from acceptance_stack import SERVICES, Stack, wait_for


def up(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """``mica up`` that is expected to fail."""
    command = [sys.executable, "-m", "mica.cli", "up", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, timeout=60, check=False)


def gone(pid: int) -> bool:
    """Whether no process of that pid runs any more."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_it_says_what_is_ready_and_where(house: Stack) -> None:
    """The ready line names server, node, devices and runtime directory; every service runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mica.cli", "up", "--port", "0", "--runtime-dir", house.runtime_dir, "--data-dir", house.data_dir],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert process.stdout.read() == "mica up: stopped\n"
    process.stdout.close()
    assert line.startswith("mica up: ready in ")
    assert f"node demo (simulated), 3 devices, runtime dir {house.runtime_dir}" in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_everything(stack: Stack, number: int) -> None:
    """All children are gone when it returns with status 0."""
    children = stack.pids()
    assert set(children) == {"nats-server", *SERVICES}
    assert stack.stop(number) == 0
    assert all(gone(pid) for pid in children.values())


def test_not_even_sigkill_leaves_a_process_behind(stack: Stack) -> None:
    """The kernel ends the children of a ``mica up`` that was killed."""
    children = stack.pids()
    assert stack.stop(signal.SIGKILL) == -signal.SIGKILL
    wait_for(lambda: all(gone(pid) for pid in children.values()))


@pytest.mark.parametrize("service", ["nats-server", *SERVICES])
def test_a_child_that_dies_is_started_again(stack: Stack, service: str) -> None:
    """Another process takes its place, a line says so, and requests are answered as before."""
    before = stack.pids()
    stack.kill(service)
    wait_for(lambda: stack.pids().get(service, before[service]) != before[service])
    assert stack.request("after", "1GiB")["answer"] == "slice.ready"
    assert f"{service} ended (SIGKILL); starting it again" in stack.log.read_text()
    unchanged = {name: pid for name, pid in stack.pids().items() if name != service}
    assert unchanged == {name: pid for name, pid in before.items() if name != service}
    stack.mica("release", "after")
    stack.audit()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_slices_outlive_the_system_that_made_them(stack: Stack, number: int) -> None:
    """After a stop or a crash of everything, the next start finds every slice where it was, with what its program holds."""
    for slice_id, vram in (("hard", "9GiB"), ("soft", "2GiB")):
        stack.request(slice_id, vram, *(("--mode", "fcsp") if slice_id == "soft" else ()))
    before = stack.json("ls")
    client = stack.client("soft")
    assert client.ask("allocate", 1 << 30)["result"] == "CUDA_SUCCESS"
    stack.stop(number)
    assert client.ask("allocate", 1 << 29)["result"] == "CUDA_SUCCESS"
    stack.start()
    after = stack.json("ls")
    assert [(row["id"], row["state"], row["devices"]) for row in after] == [
        (row["id"], row["state"], row["devices"]) for row in before
    ]
    held = (1 << 30) + (1 << 29)
    wait_for(lambda: {row["id"]: row["vram_used_bytes"] for row in stack.json("ls")}["soft"] == held)
    assert client.ask("allocate", 1 << 30)["result"] == "CUDA_ERROR_OUT_OF_MEMORY"
    stack.audit()


def test_a_used_port_is_one_clear_line(tmp_path: Path) -> None:
    """Nothing is started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = up("--port", port, "--runtime-dir", tmp_path / "run", "--data-dir", tmp_path / "data")
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr == f"mica: port {port} on 127.0.0.1: Address already in use; choose another with --port (0: any free one)\n"
    )


@pytest.mark.parametrize("option", ["--runtime-dir", "--data-dir"])
def test_a_directory_that_cannot_be_written_is_one_clear_line(tmp_path: Path, option: str) -> None:
    """Also for root, whom permission bits don't stop: a kernel file system takes no files."""
    places = {"--runtime-dir": tmp_path / "run", "--data-dir": tmp_path / "data", option: Path("/proc/mica")}
    done = up("--port", 0, *(word for pair in places.items() for word in pair))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"mica: {option[2:].replace('-', ' ')} /proc/mica: ")
    assert done.stderr.endswith(f"; choose another with {option}\n")
    assert done.stderr.count("\n") == 1


def test_a_second_one_is_kept_out(stack: Stack, tmp_path: Path) -> None:
    """Two systems never share a runtime or a data directory."""
    done = up("--port", 0, "--runtime-dir", stack.runtime_dir, "--data-dir", tmp_path / "data")
    assert done.returncode == 1
    assert f"in use by mica up, process {stack.process.pid}" in done.stderr
    done = up("--port", 0, "--runtime-dir", tmp_path / "run", "--data-dir", stack.data_dir)
    assert done.returncode == 1
    assert f"data dir {stack.data_dir}: in use by mica up" in done.stderr


def test_a_runtime_dir_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    """The attach socket's address has 108 bytes."""
    done = up("--runtime-dir", tmp_path / ("x" * 100))
    assert done.returncode == 1
    assert "allowed: at most 8" in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name = "n"\n[[device]]\nmodel = "RTX-9000"\n', "unknown model 'RTX-9000'; allowed: "),
        ('name = "n"\n', "missing required field `device`"),
        ('name = "a.b"\n[[device]]\nmodel = "L4"\n', "name: got a.b, allowed: 1 to 64 of A-Z a-z 0-9 _ -"),
        ("name = ", "node.toml"),
    ],
)
def test_a_bad_node_file_is_one_clear_line(tmp_path: Path, text: str, said: str) -> None:
    """It names the file, what was given and what is allowed."""
    node = tmp_path / "node.toml"
    node.write_text(text)
    done = up("--node", node, "--port", 0, "--runtime-dir", tmp_path / "run", "--data-dir", tmp_path / "data")
    assert done.returncode == 1
    assert str(node) in done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_missing_libraries_say_how_to_build_them(tmp_path: Path) -> None:
    """Without the native libraries, and without gcc to make them, one line names both."""
    code = (
        "import sys, pathlib, mica.native as native; native.LIB_DIR = pathlib.Path('/nowhere'); "
        "from mica.cli.__main__ import main; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "up", "--runtime-dir", str(tmp_path / "run"), "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": "/nowhere"}, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "not built; run `make native`" in done.stderr
    assert "gcc and make not found" in done.stderr


def test_another_node_file_brings_another_machine(house: Stack, tmp_path: Path) -> None:
    """A simulation never goes on with the hardware of the node that was simulated there before."""
    node = tmp_path / "node.toml"
    node.write_text('name = "one"\n[[device]]\nmodel = "L4"\n')
    assert house.start("--port", "0", "--node", str(node))["devices"] == 1
    house.stop()
    node.write_text('name = "two"\n[[device]]\nmodel = "T4"\ncount = 2\n')
    shutil.rmtree(house.data_dir)
    ready = house.start("--port", "0", "--node", str(node))
    assert (ready["node"], ready["devices"]) == ("two", 2)
    assert [device["model"] for device in house.json("devices")] == ["Tesla T4", "Tesla T4"]
