"""Time windows on a device that is used by one slice at a time. Invariant: windows of one device never overlap."""

from collections.abc import Iterable
from typing import Final

from mica.events import Window

PERIOD_NS: Final = 100_000_000
MIN_LENGTH_NS: Final = 1_000_000
"""Shorter windows would be eaten by the switch: a context switch of the device takes some 100 us."""
NS_PER_PPM: Final = PERIOD_NS // 1_000_000


def length_of(share_ppm: int) -> int:
    """The window (ns) that gives at least ``share_ppm`` of the period."""
    return max(MIN_LENGTH_NS, share_ppm * NS_PER_PPM)


def gaps(taken: Iterable[Window]) -> list[tuple[int, int]]:
    """The free stretches of a period as (offset, length) in ns, in order."""
    free, end = [], 0
    for window in sorted(taken, key=lambda each: each.offset_ns):
        if window.offset_ns > end:
            free.append((end, window.offset_ns - end))
        end = max(end, window.offset_ns + window.length_ns)
    if end < PERIOD_NS:
        free.append((end, PERIOD_NS - end))
    return free


def first_fit(taken: Iterable[Window], length_ns: int, *, prefer_ns: int = -1) -> Window | None:
    """The first window of that length that overlaps none of ``taken``; at ``prefer_ns`` if it is free there."""
    free = gaps(taken)
    for offset, length in free:
        if offset <= prefer_ns and prefer_ns + length_ns <= offset + length:
            return Window(offset_ns=prefer_ns, length_ns=length_ns, period_ns=PERIOD_NS)
    for offset, length in free:
        if length >= length_ns:
            return Window(offset_ns=offset, length_ns=length_ns, period_ns=PERIOD_NS)
    return None


def largest_share(taken: Iterable[Window]) -> int:
    """The largest share (ppm) for which a window is free."""
    return max((length for _, length in gaps(taken)), default=0) // NS_PER_PPM
