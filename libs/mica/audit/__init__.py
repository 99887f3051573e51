"""Checks mica from outside: streams, documents, regions and the drivers' own books side by side.

Owns the invariants I1 to I8 as checks. Invariant: it changes nothing and trusts no service's word about itself.
"""

from mica.audit._check import CHECKS, check_world
from mica.audit._collect import Sources, read_world
from mica.audit._finding import Finding, Tally
from mica.audit._settle import Report, settled
from mica.audit._world import AttachFile, Documents, Driver, DriverProcess, Regions, Slot, UsageFile, World
from mica.bus import Clock, SystemClock

__all__ = [
    "CHECKS",
    "AttachFile",
    "Documents",
    "Driver",
    "DriverProcess",
    "Finding",
    "Regions",
    "Report",
    "Slot",
    "Sources",
    "Tally",
    "UsageFile",
    "World",
    "audit",
    "check_world",
    "read_world",
    "settled",
]


async def audit(sources: Sources, clock: Clock | None = None) -> Report:
    """Check everything; what disagrees is read again for up to three seconds, so that a change in flight is no finding.

    Raises:
        BusError: the bus does not answer.
    """
    return await settled(lambda: read_world(sources), check_world, clock or SystemClock())
