"""Which processes use a device without a slice, or more of it than they told theirs; and what becomes of them.

The vendor's own list of processes is compared with the processes that mica knows inside its slices and with what they have
charged there. Between a context's creation and the attach there is a moment in which a tenant's process looks like a stranger,
and between an allocation and our readings of it one in which it looks like a liar: that is what the second look is for.

Invariants: pure; a process is accused only after it was seen twice, and told of once for each thing that is done about it. Only a
stranger is ever ended: never a process inside a slice, and never one of the node's own.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from msgspec import Struct

from mica.events import IntruderAction

LOOK_S: Final = 5.0
"""How often the vendor is asked; it answers from the driver, which is too slow for every heartbeat."""

SLACK_BYTES: Final = 256 << 20
SLACK_PART: Final = 8
"""A driver counts its own footprint and whole pages: up to 256 MiB, and an eighth of what was charged, is no lie."""


class Action(IntEnum):
    """What was done about a process, one after the other."""

    SEEN = 0
    REPORTED = 1
    TERMINATED = 2
    KILLED = 3


class Stranger(Struct, frozen=True, order=True):
    """A process on a device, by the host's pid and when it started (clock ticks since boot)."""

    device_id: str
    pid: int
    started: int = 0


class Member(Struct, frozen=True):
    """What a process inside a slice has charged to it on one device (bytes)."""

    slice_id: str
    charged_bytes: int


class Sighting(Struct, frozen=True, kw_only=True):
    """What is held by a process that should not hold it.

    ``slice_id`` is its own slice or that of an ancestor, else empty. ``mortal``: it may be ended.
    """

    vram_bytes: int
    charged_bytes: int = 0
    slice_id: str = ""
    mortal: bool = False


class Verdict(Struct, frozen=True):
    """What is to be done now."""

    stranger: Stranger
    sighting: Sighting
    action: Action


Suspicion = Mapping[Stranger, Action]
"""Who was seen, and what was done about it last."""


def exceeds(vram_bytes: int, charged_bytes: int) -> bool:
    """Whether the driver says that a process holds clearly more than it has charged."""
    return vram_bytes > charged_bytes + max(SLACK_BYTES, charged_bytes // SLACK_PART)


def judge(
    before: Suspicion, found: Mapping[Stranger, Sighting], rule: IntruderAction
) -> tuple[dict[Stranger, Action], list[Verdict]]:
    """Judge what was found now: the new suspicion, and what is to be done.

    Args:
        found: every process that holds what it should not.
    """
    now: dict[Stranger, Action] = {}
    verdicts = []
    for stranger in sorted(found):
        last = before.get(stranger)
        now[stranger] = _next(last, ends=rule is IntruderAction.TERMINATE and found[stranger].mortal)
        if last is not None and now[stranger] is not last:
            verdicts.append(Verdict(stranger, found[stranger], now[stranger]))
    return now, verdicts


def _next(last: Action | None, *, ends: bool) -> Action:
    """Seen, then told of; or asked to end, then killed."""
    if last is None:
        return Action.SEEN
    if not ends:
        return max(last, Action.REPORTED)
    return Action.TERMINATED if last < Action.TERMINATED else Action.KILLED
