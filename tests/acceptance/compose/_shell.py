"""Runs the commands of the container test and keeps their output for the one line that explains a failure."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent
POLL_S = 0.1
T = TypeVar("T")


class CommandError(Exception):
    """A command did not exit with 0; carries the end of what it printed."""


class WaitError(Exception):
    """What was waited for did not come about in time."""


def run(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, timeout_s: float = 600, stdin: str = "") -> str:
    """Run in the repository's root and return standard output.

    Raises:
        CommandError: it exited with something else than 0, or took longer than timeout_s.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise CommandError(str(error)) from error
    if done.returncode != 0:
        tail = (done.stdout + done.stderr).strip()[-4000:]
        raise CommandError(f"{' '.join(words[:6])} … exited with {done.returncode}:\n{tail}")
    return done.stdout


def wait_for(what: str, probe: Callable[[], T | None], timeout_s: float) -> T:
    """Ask `probe` until it answers with something else than None or False, and return that.

    Raises:
        WaitError: timeout_s passed.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        found = probe()
        if found is not None and found is not False:
            return found
        if time.monotonic() > deadline:
            raise WaitError(f"waited {timeout_s:.0f} s in vain for {what}")
        time.sleep(POLL_S)
