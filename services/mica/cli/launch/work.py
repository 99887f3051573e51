"""The port behind which work runs, and a fake of it.

Invariant: at most one life at a time, from ``start`` until ``ended`` answers.
"""

from typing import Protocol

from msgspec import Struct

from mica.cli._errors import CliError
from mica.cli.launch.attach import Attach


class PassingError(CliError):
    """It can't be started now, and may be later."""


class Work(Protocol):
    """Something that runs in a slice and is started again."""

    shares_terminal: bool
    """Whether the terminal's signals reach it without us."""

    def start(self, attach: Attach) -> None:
        """Start it inside the slice.

        Raises:
            PassingError: not now.
            CliError: it can't be started.
        """

    def ended(self) -> int | None:
        """Its exit status as a shell tells it, once nothing of it is left; None before."""

    def stop(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it and all that it started."""

    def forward(self, number: int) -> None:
        """Send it a signal."""

    def close(self) -> None:
        """Leave nothing behind."""


class Life(Struct):
    """One start of the fake: where, and the signals that it got."""

    place: str
    signals: list[str]


class FakeWork:
    """Work in memory: a test says when it ends. ``refusals`` are raised by the next starts, in turn."""

    def __init__(self, *, shares_terminal: bool = False) -> None:
        self.shares_terminal = shares_terminal
        self.lives: list[Life] = []
        self.refusals: list[CliError] = []
        self.status: int | None = None
        self.closed = False

    def start(self, attach: Attach) -> None:
        """See the port."""
        if self.refusals:
            raise self.refusals.pop(0)
        self.status = None
        self.lives.append(Life(attach.place, []))

    def ended(self) -> int | None:
        """See the port."""
        return self.status

    def stop(self) -> None:
        """See the port."""
        self.lives[-1].signals.append("stop")

    def kill(self) -> None:
        """See the port."""
        self.lives[-1].signals.append("kill")
        self.status = 137

    def forward(self, number: int) -> None:
        """See the port."""
        self.lives[-1].signals.append(str(number))

    def close(self) -> None:
        """See the port."""
        self.closed = True
