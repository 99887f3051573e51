"""When the processes of a slice that must go are asked to end, and when they are made to. Invariant: pure; time is handed in."""

import signal
from typing import Final

from msgspec import Struct

from mica.events import Ledger

KILL_AFTER_S: Final = 1.0
"""How long a process has between SIGTERM and SIGKILL."""

DEFAULT_GRACE_S: Final = 5.0
"""For what must go without a departure that says how: a leftover found after a restart, or a slice that was moved."""


class Drain(Struct, frozen=True):
    """A slice on its way out: since when (monotonic ns), and the last signal that was sent."""

    since_ns: int
    sent: int = 0


def grace_of(ledger: Ledger, slice_id: str) -> float:
    """How long the processes of a slice may take to end by themselves, in seconds."""
    departure = ledger.departures.get(slice_id)
    return departure.grace_s if departure is not None else DEFAULT_GRACE_S


def due_signal(drain: Drain, grace_s: float, now_ns: int) -> int:
    """The signal that must be sent now, or 0. SIGKILL is sent again and again: a process may attach in the last moment."""
    elapsed_s = (now_ns - drain.since_ns) / 1e9
    if elapsed_s >= grace_s + KILL_AFTER_S:
        return signal.SIGKILL
    if elapsed_s >= grace_s and drain.sent == 0:
        return signal.SIGTERM
    return 0
