"""The node's processes, held by pidfds: the ``Processes`` port over /proc.

Invariant: a process is checked after its descriptor was opened, so that no later process is taken for it.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress

from mica.enforcer.places import Place
from mica.region import RegionError, RuntimeDir, find_process, owner_of


class PidfdProcess:
    """One process and the descriptor that stands for it."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self._pidfd = pidfd

    def on_exit(self, callback: Callable[[], None]) -> None:
        """Call back once, from the running loop."""
        asyncio.get_running_loop().add_reader(self._pidfd, self._ended, callback)

    def signal(self, number: int) -> None:
        """Send a signal; a process that is gone, or that is out of reach, is left alone."""
        with suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(self._pidfd, number)

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
