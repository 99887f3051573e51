"""The demo's checks. Invariant: a check says what was expected and what was seen, whether it holds or not."""

from msgspec import Struct
from rich.console import Console


class Check(Struct, frozen=True):
    """One of them."""

    holds: bool
    what: str


class Checks:
    """All of them, as they are made."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.made: list[Check] = []

    def expect(self, holds: bool, what: str) -> None:  # noqa: FBT001 - reads as a sentence
        """Make a check and show it."""
        self.made.append(Check(holds, what))
        mark = "[green]✓[/green]" if holds else "[bold red]✗[/bold red]"
        self._console.print(f"  {mark} {what}", highlight=False)

    @property
    def failed(self) -> int:
        """How many do not hold."""
        return sum(not check.holds for check in self.made)

    def closing_line(self) -> str:
        """``demo: 21 checks passed, 0 failed``."""
        return f"demo: {len(self.made) - self.failed} checks passed, {self.failed} failed"
