"""When the processes of a slice that must go are asked to end, and when they are made to. Invariant: pure; time is handed in."""

import signal
from typing import Final

from msgspec import Struct

from mica.enforcer.places import Held, Place
from mica.enforcer.steps import same_slots
from mica.events import Ledger

KILL_AFTER_S: Final = 1.0
"""How long a process has between SIGTERM and SIGKILL."""

DEFAULT_GRACE_S: Final = 5.0
"""For what must go without anybody having said how: a leftover found after a restart."""


class Drain(Struct, frozen=True):
    """A slice on its way out: since when (monotonic ns), and the last signal that was sent."""

    since_ns: int
    sent: int = 0


def grace_of(ledger: Ledger, place: Place) -> float:
    """How long the processes of a slice may take to end on a device by themselves, in seconds."""
    departure = ledger.departures.get(place.slice_id)
    if departure is not None:
        return departure.grace_s
    held = ledger.held.get(place.device_id, {}).get(place.slice_id)
    return held.grace_s if held is not None else DEFAULT_GRACE_S


def is_known(ledger: Ledger, slice_id: str) -> bool:
    """Whether the slice is still this node's, wherever on it, or is to leave it in the ordinary way."""
    return slice_id in ledger.departures or any(slice_id in slices for slices in ledger.devices.values())


def is_replaced(held: Held, ledger: Ledger, place: Place) -> bool:
    """Whether the place is to get another partition than the one that its processes are in."""
    entry = ledger.devices.get(place.device_id, {}).get(place.slice_id)
    if held.partition is None or entry is None or entry.partition is None:
        return False
    return bool(held.guests) and not same_slots(held.partition, entry.partition)


def due_signal(drain: Drain, grace_s: float, now_ns: int) -> int:
    """The signal that must be sent now, or 0. SIGKILL is sent again and again: a process may attach in the last moment."""
    elapsed_s = (now_ns - drain.since_ns) / 1e9
    if elapsed_s >= grace_s + KILL_AFTER_S:
        return signal.SIGKILL
    if elapsed_s >= grace_s and drain.sent == 0:
        return signal.SIGTERM
    return 0
