"""A program of this machine as work in a slice, with everything that it starts.

Invariant: when it has ended, nothing of it is left: we are the reaper of its orphans, and end what it leaves behind. Should we be
killed, the kernel sends it SIGTERM.

At a terminal it stays in our process group, so that Ctrl-C and Ctrl-Z reach it as without us; elsewhere it has a group of its
own, so that what is sent to ours reaches it once, through us.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from mica.cli._errors import CliError
from mica.cli.launch.attach import HARDWARE, NO_RANK, Attach, Rank, environment_of, near_cpus, require_shims, tell_enforcer

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
PARENT_FIELD: Final = 1
"""Index of the parent among the fields that follow the name in /proc/<pid>/stat."""
_libc: Final = ctypes.CDLL(None, use_errno=True)


class Entrance(Struct, frozen=True, kw_only=True):
    """How programs enter slices here, whoever they are."""

    root: Path
    rank: Rank = NO_RANK
    bind_cpus: bool = False

    def environment(self, attach: Attach, inherited: Mapping[str, str]) -> dict[str, str]:
        """The program's environment.

        Raises:
            CliError: it could not be held to the slice.
        """
        require_shims(attach)
        return environment_of(attach, inherited, self.rank)

    def cpus(self, attach: Attach) -> set[int]:
        """To which processors it is bound, none for no others than we. Raises CliError where there are none."""
        return near_cpus(attach, os.sched_getaffinity(0)) if self.bind_cpus else set()

    def enter(self, attach: Attach, cpus: set[int]) -> None:
        """What the process itself does before it becomes the program; it says that it is there where no shim will."""
        if cpus:
            os.sched_setaffinity(0, cpus)
        if attach.mode == HARDWARE:
            tell_enforcer(self.root, attach)


def become(command: list[str], attach: Attach, entrance: Entrance) -> None:
    """Become the program: it keeps our pid, our terminal and our signals, and nothing of mica stays beside it.

    Raises:
        CliError: it can't be started.
    """
    environment = entrance.environment(attach, os.environ)
    entrance.enter(attach, entrance.cpus(attach))
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - starting the user's program is the purpose
    except OSError as error:
        raise CliError(f"run: {command[0]}: {error.strerror}") from None


class Program:
    """One program, started again in the slice's new place."""

    def __init__(self, command: Sequence[str], entrance: Entrance, mask: Iterable[int]) -> None:
        """``mask``: the signals that it is started with blocked."""
        self._command = command
        self._entrance = entrance
        self._mask = set(mask)
        self._process: subprocess.Popen[bytes] | None = None
        self._status: int | None = None
        self.shares_terminal = sys.stdin is not None and sys.stdin.isatty()
        if _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise CliError(f"run: can't reap what a program leaves behind: {os.strerror(ctypes.get_errno())}")

    def start(self, attach: Attach) -> None:
        """Start it; see the port."""
        entrance, parent = self._entrance, os.getpid()
        cpus = entrance.cpus(attach)

        def prepare() -> None:
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)
            entrance.enter(attach, cpus)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

        try:
            self._process = subprocess.Popen(
                self._command, env=entrance.environment(attach, os.environ), preexec_fn=prepare,  # noqa: PLW1509 - one thread
                process_group=None if self.shares_terminal else 0,
            )  # fmt: skip
        except OSError as error:
            raise CliError(f"run: {self._command[0]}: {error.strerror}") from None
        self._status = None

    def ended(self) -> int | None:
        """Its status once all of it is gone; see the port. What it left behind is killed."""
        self._reap()
        if self._status is None:
            return None
        left = descendants(os.getpid())
        _send(left, signal.SIGKILL)
        if left:
            return None
        self._reap()  # what has died since it was reaped is no more among the living
        return self._status

    def stop(self) -> None:
        """Ask all of it to end, as a terminal would; see the port."""
        _send(descendants(os.getpid()), signal.SIGTERM)

    def kill(self) -> None:
        """See the port."""
        _send(descendants(os.getpid()), signal.SIGKILL)

    def forward(self, number: int) -> None:
        """Those that ask for an end go to all of it, others are for the program itself; see the port."""
        whole = number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
        _send(descendants(os.getpid()) if whole else self._main(), number)

    def close(self) -> None:
        """See the port."""
        while self._process is not None and (left := descendants(os.getpid())):
            _send(left, signal.SIGKILL)
            with suppress(ChildProcessError):
                self._take(*os.waitpid(-1, 0))

    def _main(self) -> list[int]:
        return [self._process.pid] if self._process is not None and self._process.returncode is None else []

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while (taken := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                self._take(*taken)

    def _take(self, pid: int, wait_status: int) -> None:
        if self._process is not None and pid == self._process.pid:
            code = os.waitstatus_to_exitcode(wait_status)
            self._process.returncode = code
            self._status = code if code >= 0 else 128 - code


def descendants(pid: int) -> list[int]:
    """The living processes below one, nearest first; zombies are not among them."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                state, parent = _state_and_parent((entry / "stat").read_bytes())
                if state != b"Z":
                    children.setdefault(parent, []).append(int(entry.name))
    found = list(children.get(pid, ()))
    for each in found:
        found += children.get(each, ())
    return found


def _state_and_parent(stat: bytes) -> tuple[bytes, int]:
    fields = stat[stat.rindex(b")") + 2 :].split()
    return fields[0], int(fields[PARENT_FIELD])


def _send(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
