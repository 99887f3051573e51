"""The node's processes, held by pidfds: the ``Processes`` port over /proc.

Invariant: a process is checked after its descriptor was opened, so that no later process is taken for it.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from mica.enforcer.places import Place
from mica.enforcer.ports import Identity
from mica.region import RegionError, RuntimeDir, find_process, owner_of

DAEMONS: Final = frozenset({"nvidia-cuda-mps-control", "nvidia-cuda-mps-server", "nvidia-persistenced", "nv-hostengine"})
"""Programs of the vendors' that hold a device for the node itself."""
PROC: Final = Path("/proc")


class _Stat(NamedTuple):
    parent: int
    started: int


def _stat(pid: int) -> _Stat:
    """Raises OSError when it is gone."""
    fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return _Stat(int(fields[1]), int(fields[19]))


def _ancestors(pid: int) -> Iterator[int]:
    """The pids of its parent, its parent's parent, and so on, as far as they live."""
    seen = {pid}
    with suppress(OSError):
        while (pid := _stat(pid).parent) > 0 and pid not in seen:
            seen.add(pid)
            yield pid


def _is_daemon(pid: int) -> bool:
    """Whether it is a vendor's daemon: by its program's file, which must be root's, outside of every container.

    A process can call itself as it likes; it can't make its program's file root's.
    """
    program = PROC / str(pid) / "exe"
    with suppress(OSError):
        if program.readlink().name not in DAEMONS or program.stat().st_uid != 0:
            return False
        return _mounts(pid) in {_mounts(1), _mounts(os.getpid())}
    return False


def _mounts(pid: int) -> int:
    """Its mount namespace."""
    return (PROC / str(pid) / "ns" / "mnt").stat().st_ino


class PidfdProcess:
    """One process and the descriptor that stands for it."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self._pidfd = pidfd

    def on_exit(self, callback: Callable[[], None]) -> None:
        """Call back once, from the running loop."""
        asyncio.get_running_loop().add_reader(self._pidfd, self._ended, callback)

    def signal(self, number: int) -> bool:
        """Send a signal; a process that is gone, or that is out of reach, is left alone."""
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def close(self) -> None:
        """Let go of the descriptor; a second call does nothing."""
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _ended(self, callback: Callable[[], None]) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        callback()


class NodeProcesses:
    """The processes in the enforcer's pid namespace and below."""

    def __init__(self, runtime: RuntimeDir) -> None:
        self._runtime = runtime

    def open_owner(self, place: Place, owner: int, hint: int) -> PidfdProcess | None:
        """The process behind an owner word; see the port."""
        process = self._open_if(hint, owner) if hint > 0 else None
        if process is not None:
            return process
        try:
            pid = find_process(owner, self._runtime.usage_path(place.slice_id, place.device_id))
        except RegionError:
            return None
        return self._open_if(pid, owner) if pid is not None else None

    def identify(self, pid: int) -> Identity | None:
        """Who has that pid; see the port."""
        ancestors = tuple(_ancestors(pid))
        try:
            started = _stat(pid).started
        except OSError:
            return None
        own = os.getpid()
        of_node = pid in (1, own) or pid in set(_ancestors(own)) or _is_daemon(pid)
        return Identity(started, ancestors, of_node)

    def open_pid(self, pid: int) -> PidfdProcess | None:
        """The process with that pid; see the port."""
        if pid <= 0:
            return None
        try:
            return PidfdProcess(pid, os.pidfd_open(pid))
        except ProcessLookupError:
            return None

    def _open_if(self, pid: int, owner: int) -> PidfdProcess | None:
        process = self.open_pid(pid)
        if process is None:
            return None
        with suppress(ProcessLookupError):
            if owner_of(pid) == owner:
                return process
        process.close()
        return None
