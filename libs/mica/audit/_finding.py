"""What a check says. Invariant: every comparison is counted, the passed ones too."""

from collections.abc import Iterable

from msgspec import Struct


class Finding(Struct, frozen=True, order=True):
    """A disagreement. ``subject`` names it so closely that the same subject in two readings is the same disagreement."""

    check: str
    subject: str
    message: str

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the same in another reading."""
        return self.check, self.subject

    def __str__(self) -> str:
        return f"{self.check} {self.subject}: {self.message}"


class Tally:
    """Comparisons as they are made."""

    def __init__(self) -> None:
        self.checks = 0
        self.findings: list[Finding] = []

    def expect(self, holds: bool, check: str, subject: str, message: str) -> bool:  # noqa: FBT001 - reads as a sentence
        """Count one comparison; note a finding unless it ``holds``. Returns ``holds``."""
        self.checks += 1
        if not holds:
            self.findings.append(Finding(check, subject, message))
        return holds

    def all_of(self, findings: Iterable[Finding]) -> None:
        """Count one comparison that may find several things."""
        self.checks += 1
        self.findings.extend(findings)

    def same(self, check: str, subject: str, one: tuple[str, object], other: tuple[str, object]) -> bool:
        """Count the comparison of two named values."""
        message = f"{one[0]} says {one[1]}, {other[0]} says {other[1]}"
        return self.expect(one[1] == other[1], check, subject, message)
