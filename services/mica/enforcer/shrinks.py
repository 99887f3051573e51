"""Slices whose processes hold more than they are to have: when that is told, and when those of a spot slice are ended.

Invariants: one shrink is told ever less often, so that a program which ignores it costs a bounded amount; a process is signalled
only where its slice is of the spot tier, and only after the grace of the command.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from mica.enforcer.drains import Drain, due_signal
from mica.enforcer.places import Held, Place
from mica.events import Held as Due
from mica.events import Ledger, LedgerEntry, Tier

FIRST_AGAIN_S: Final = 2.0
"""After so long a shrink is told a second time, then each time after twice as long."""
AGAIN_MAX_S: Final = 60.0


class Asked(Struct, frozen=True):
    """A shrink that waits: which (by the ledger), since when (monotonic ns), how often told, when next, the last signal."""

    change: tuple[int, int]
    since_ns: int
    times: int = 0
    next_ns: int = 0
    sent: int = 0


class Over(Struct, frozen=True):
    """A place that holds more than it is to have, as the ledger has it, and what there is to do now."""

    place: Place
    entry: LedgerEntry
    due: Due
    used_bytes: int
    times: int
    tell: bool
    signal: int


class Shrinks:
    """The shrinks of one node that wait for processes."""

    def __init__(self) -> None:
        self._asked: dict[Place, Asked] = {}

    def look(self, ledger: Ledger, held: Mapping[Place, Held], now_ns: int) -> list[Over]:
        """Whatever waits, and what is due about it; to be called about once a second. Says each thing once."""
        found = [self._judge(place, entry, due, used, now_ns) for place, entry, due, used in _waiting(ledger, held)]
        self._asked = {over.place: asked for over, asked in found}
        return [over for over, _ in found]

    def _judge(self, place: Place, entry: LedgerEntry, due: Due, used_bytes: int, now_ns: int) -> tuple[Over, Asked]:
        change = (due.generation, due.until)
        asked = self._asked.get(place)
        if asked is None or asked.change != change:
            asked = Asked(change, now_ns)
        number = due_signal(Drain(asked.since_ns, asked.sent), due.grace_s, now_ns) if entry.tier is Tier.SPOT else 0
        tell = now_ns >= asked.next_ns and not number
        if tell:
            pause_s = min(AGAIN_MAX_S, FIRST_AGAIN_S * 2**asked.times)
            asked = replace(asked, times=asked.times + 1, next_ns=now_ns + int(pause_s * 1e9))
        if number:
            asked = replace(asked, sent=number)
        return Over(place, entry, due, used_bytes, asked.times, tell, number), asked


def _waiting(ledger: Ledger, held: Mapping[Place, Held]) -> Iterator[tuple[Place, LedgerEntry, Due, int]]:
    """The slices that a resize has left less memory than they hold."""
    for device_id, slices in ledger.held.items():
        for slice_id, due in slices.items():
            place = Place(device_id, slice_id)
            entry, here = ledger.devices.get(device_id, {}).get(slice_id), held.get(place)
            if entry is None or here is None or here.draining or due.entry.vram_bytes <= entry.vram_bytes:
                continue
            if here.reading.vram_bytes > entry.vram_bytes:
                yield place, entry, due, here.reading.vram_bytes
