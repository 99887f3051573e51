"""What the container test prints: its stages with their seconds, its checks, and the closing lines."""

import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Report:
    """Counts checks; a stage that raises counts as one that failed."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Print what is under way, and how long it took."""
        say(f"compose-test: {name} …")
        start = time.monotonic()
        yield
        say(f"compose-test: {name}: {time.monotonic() - start:.1f} s")

    def check(self, what: str, holds: bool, observed: object = "") -> None:
        """Count one check; `observed` is shown when it fails."""
        if holds:
            self.passed += 1
            say(f"  ok    {what}")
        else:
            self.failed += 1
            say(f"  FAIL  {what}: observed {observed!r}")

    def fail(self, error: BaseException) -> None:
        """Count an error that ended the test early, and show where it arose."""
        self.failed += 1
        say("".join(traceback.format_tb(error.__traceback__)))
        say(f"  FAIL  {type(error).__name__}: {error}")

    def close(self) -> int:
        """Print the closing lines; the exit status."""
        say(f"compose-test: {self.passed} checks passed, {self.failed} failed")
        say(f"{self.passed} passed, {self.failed} failed")
        return 1 if self.failed or not self.passed else 0
