"""Tells a disagreement from a change in flight: what disagrees is read again.

Invariant: a finding that is reported was there in every reading over at least ``SETTLE_S``.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from msgspec import Struct

from mica.audit._finding import Finding, Tally
from mica.audit._world import World
from mica.bus import Clock

SETTLE_S: Final = 3.0
PAUSE_S: Final = 0.25


class Report(Struct, frozen=True, kw_only=True):
    """What came out: comparisons in the last reading, and what disagreed in all of them."""

    checks: int
    readings: int
    findings: tuple[Finding, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing disagrees."""
        return not self.findings


async def settled(read: Callable[[], Awaitable[World]], check: Callable[[World, Tally], None], clock: Clock) -> Report:
    """Read and check until nothing disagrees, or for ``SETTLE_S``."""
    begun = clock.monotonic_ns()
    standing: dict[tuple[str, str], Finding] | None = None
    readings = 0
    while True:
        tally = Tally()
        check(await read(), tally)
        readings += 1
        found = {finding.key: finding for finding in tally.findings}
        standing = found if standing is None else {key: found[key] for key in standing.keys() & found.keys()}
        elapsed_s = (clock.monotonic_ns() - begun) / 1e9
        if not standing or (elapsed_s >= SETTLE_S and readings > 1):
            return Report(checks=tally.checks, readings=readings, findings=tuple(sorted(standing.values())))
        await clock.sleep(PAUSE_S)
