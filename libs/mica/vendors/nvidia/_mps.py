"""Whether an MPS control daemon answers on this node, and where.

Invariant: a directory that is returned holds a control pipe with somebody at its other end; a pipe that a dead daemon left
behind is none. A daemon that says its pid is not disturbed.
"""

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

PIPE_DIRECTORY: Final = "CUDA_MPS_PIPE_DIRECTORY"
USUAL_DIRECTORY: Final = "/tmp/nvidia-mps"  # noqa: S108 - where NVIDIA's daemon puts it
CONTROL: Final = "control"
PID_FILE: Final = "nvidia-cuda-mps-control.pid"
NODE_DESC: Final = "node.desc"
_LISTENS: Final = frozenset({0, errno.EPROTOTYPE, errno.EAGAIN, errno.EACCES, errno.EPERM})
"""Answers of a socket behind which somebody listens, though perhaps not to us or to this kind of message."""


def mps_pipe(simulated_in: Path | None = None) -> str:
    """The directory of the daemon's pipes, or an empty text when no daemon answers.

    Args:
        simulated_in: the directory of a simulated node, whose description says whether it has a daemon.
    """
    if simulated_in is not None:
        return str(simulated_in.absolute()) if _described(simulated_in / NODE_DESC) else ""
    directory = Path(os.environ.get(PIPE_DIRECTORY) or USUAL_DIRECTORY)
    alive = _lives(directory / PID_FILE)
    answers = (directory / CONTROL).exists() if alive else alive is None and _answers(directory / CONTROL)
    return str(directory) if answers else ""


def _described(description: Path) -> bool:
    with suppress(OSError):
        return any(line.split() == ["mps", "1"] for line in description.read_text().splitlines())
    return False


def _lives(pid_file: Path) -> bool | None:
    """Whether the daemon that wrote the file lives; None where there is no such file, or not for us to read."""
    try:
        pid = int(pid_file.read_text())
    except (OSError, ValueError):
        return None
    return Path(f"/proc/{pid}").exists()


def _answers(control: Path) -> bool:
    try:
        kind = stat.S_IFMT(control.stat().st_mode)
    except OSError:
        return False
    if kind == stat.S_IFIFO:
        return _has_reader(control)
    return kind == stat.S_IFSOCK and _listens(control)


def _has_reader(pipe: Path) -> bool:
    """Opening a pipe to write, without waiting, fails when nobody reads it."""
    try:
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.errno in (errno.EACCES, errno.EPERM)
    return True


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)  # noqa: FBT003 - the name of the call says what it is
        return client.connect_ex(str(path)) in _LISTENS
