"""Where a system keeps its files. Invariant: one ``mica up`` per directory, and that one can write there."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mica.cli._errors import CliError
from mica.cli._runtime import LONGEST, filesystem_of

LOCK: Final = "up.lock"
ENDING_S: Final = 15.0
POLL_S: Final = 0.05


def default_data_dir() -> Path:
    """Where the streams are stored: /var/lib/mica for root, else below XDG_DATA_HOME."""
    if os.geteuid() == 0:
        return Path("/var/lib/mica")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "mica"


def check_runtime_dir(runtime_dir: Path) -> None:
    """See that the attach socket's address will fit.

    Raises:
        CliError: the name is too long.
    """
    length = len(os.fsencode(runtime_dir))
    if length > LONGEST:
        raise CliError(f"runtime dir {runtime_dir}: {length} characters, allowed: at most {LONGEST}")


@contextmanager
def claimed(directory: Path, what: str) -> Iterator[int]:
    """Make ``directory``, and keep every other ``mica up`` out of it while the block runs.

    Yields the descriptor that holds the claim. Children inherit it: while one of them still lives, nobody else comes in.

    Raises:
        CliError: it can't be written, or another one is using it.
    """
    make_writable(directory, what)
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _lock(descriptor, directory, what)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield descriptor
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, directory: Path, what: str) -> None:
    """Take the lock; wait where its holder is dead and only its children are still ending."""
    deadline = time.monotonic() + ENDING_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 64, 0).decode(errors="replace") or "unknown"
            if time.monotonic() >= deadline or Path(f"/proc/{holder}").exists():
                raise CliError(
                    f"{what} {directory}: in use by mica up, process {holder}; choose another with {option(what)}"
                ) from None
            time.sleep(POLL_S)
        else:
            return


def option(what: str) -> str:
    """The option that sets ``what``."""
    return "--" + what.replace(" ", "-")


def make_writable(directory: Path, what: str) -> None:
    """Make ``directory`` and see that files can be made in it.

    Raises:
        CliError: they can't.
    """
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        probe = directory / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CliError(f"{what} {directory}: {error.strerror}; choose another with {option(what)}") from None


def tmpfs_warning(runtime_dir: Path) -> str:
    """What to say when the regions would be written to a disk; empty when they are not."""
    kind = filesystem_of(runtime_dir)
    if kind in ("tmpfs", "ramfs"):
        return ""
    return f"runtime dir {runtime_dir} is on {kind}, not on a tmpfs: the kernel will write the regions to it again and again"
