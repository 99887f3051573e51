"""Which processes use a device without a slice. Invariant: pure; a process is accused once, and only after it was seen twice.

The vendor's own list of processes is compared with those that mica knows inside its slices. Between a context's creation and the
attach there is a moment in which a tenant's process looks like a stranger: that is what the second look is for.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

LOOK_S: Final = 5.0
"""How often the vendor is asked; it answers from the driver, which is too slow for every heartbeat."""
REPORTED: Final = "reported"
"""What is done about an intruder: it is told. Nothing is ended that mica did not start."""


class Stranger(Struct, frozen=True, order=True):
    """A process on a device, by the host's pid."""

    device_id: str
    pid: int


class Suspicion(Struct, frozen=True):
    """Who was seen once, and who was told of already."""

    seen: frozenset[Stranger] = frozenset()
    told: frozenset[Stranger] = frozenset()


def look(before: Suspicion, found: Mapping[Stranger, int], known: frozenset[int]) -> tuple[Suspicion, list[tuple[Stranger, int]]]:
    """Judge what was found now: the new suspicion, and the strangers to tell of with the VRAM (bytes) that each holds.

    Args:
        found: every process that the vendor lists on the node's devices.
        known: the host's pids of the processes inside slices.
    """
    strangers = frozenset(stranger for stranger in found if stranger.pid not in known)
    accused = (strangers & before.seen) - before.told
    told = (before.told & strangers) | accused
    return Suspicion(strangers, told), [(stranger, found[stranger]) for stranger in sorted(accused)]
