"""Whether an MPS daemon answers."""

import os
import socket
from pathlib import Path

import pytest

from mica.vendors.nvidia._mps import mps_pipe


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the daemon's pipes would be."""
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    return tmp_path


def test_without_a_control_pipe_there_is_no_daemon(directory: Path) -> None:
    """An empty directory, or none."""
    assert mps_pipe() == ""
    directory.rmdir()
    assert mps_pipe() == ""


def test_a_pipe_that_somebody_reads_is_a_daemon(directory: Path) -> None:
    """Until its reader is gone."""
    os.mkfifo(directory / "control")
    assert mps_pipe() == ""
    reader = os.open(directory / "control", os.O_RDONLY | os.O_NONBLOCK)
    assert mps_pipe() == str(directory)
    os.close(reader)
    assert mps_pipe() == ""


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_a_socket_that_somebody_listens_at_is_a_daemon(directory: Path, kind: socket.SocketKind) -> None:
    """Whatever kind of messages it takes; the file that a dead one left is none."""
    with socket.socket(socket.AF_UNIX, kind) as server:
        server.bind(str(directory / "control"))
        server.listen()
        assert mps_pipe() == str(directory)
    assert mps_pipe() == ""


def test_a_file_in_its_place_is_no_daemon(directory: Path) -> None:
    """Nobody can answer there."""
    (directory / "control").touch()
    assert mps_pipe() == ""


@pytest.mark.parametrize(("line", "found"), [("mps 1", True), ("mps 0", False), ("name mps 1", False), ("", False)])
def test_a_simulated_nodes_description_says_whether_it_has_one(tmp_path: Path, line: str, found: bool) -> None:
    """The real node around it is not asked."""
    (tmp_path / "node.desc").write_text(f"node n\n{line}\n")
    assert mps_pipe(tmp_path) == (str(tmp_path) if found else "")


def test_a_daemon_that_says_its_pid_lives_as_long_as_that_process(directory: Path) -> None:
    """Its pipe is not touched; a pid that nobody has is a dead daemon's."""
    os.mkfifo(directory / "control")
    (directory / "nvidia-cuda-mps-control.pid").write_text(f"{os.getpid()}\n")
    assert mps_pipe() == str(directory)
    (directory / "nvidia-cuda-mps-control.pid").write_text(f"{1 << 22}\n")
    assert mps_pipe() == ""
