"""What a slice was seen to use, made of cumulative counters. Pure.

Invariant: only readings of one size count, and a counter that went back (a region that started over) adds nothing.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from msgspec import Struct

from mica.events import PPM, SliceSampled

MOST: Final = 0.95
"""What was used this part of the time at most: the rest are peaks that a limit may cut."""


class Seen(Struct, frozen=True, kw_only=True):
    """The use of a slice over ``seconds``.

    The most memory held, the compute that it stayed within 95 % of the time, the part of the time for which it was throttled,
    allocations refused, and whether any program was there.
    """

    seconds: float = 0.0
    samples: int = 0
    used_bytes: int = 0
    used_ppm: int = 0
    throttled: float = 0.0
    refusals: int = 0
    busy: bool = False


def seen(samples: Iterable[SliceSampled], *, since: int, vram_bytes: int, share_ppm: int) -> Seen:
    """What readings since then (Unix ns) say of a slice while it had that size."""
    fitting = [each for each in samples if each.at > since and (each.vram_limit_bytes, each.share_ppm) == (vram_bytes, share_ppm)]
    fitting.sort(key=lambda each: each.at)
    if len(fitting) < 2:
        return Seen(samples=len(fitting))
    steps = [(one, other, other.at - one.at) for one, other in pairwise(fitting) if other.at > one.at]
    span_ns = sum(ns for _, _, ns in steps)
    rates = sorted((_grown(one.gpu_ns, other.gpu_ns) * PPM // ns, ns) for one, other, ns in steps)
    throttled = sum(min(ns, _grown(one.throttled_ns, other.throttled_ns)) for one, other, ns in steps)
    return Seen(
        seconds=span_ns / 1e9,
        samples=len(fitting),
        used_bytes=max([each.vram_used_bytes for each in fitting] + _new_peaks(fitting)),
        used_ppm=_quantile(rates, span_ns),
        throttled=throttled / max(1, span_ns),
        refusals=sum(_grown(one.refusals, other.refusals) for one, other, _ in steps),
        busy=any(each.processes for each in fitting),
    )


def _grown(before: int, after: int) -> int:
    return max(0, after - before)


def _new_peaks(samples: Sequence[SliceSampled]) -> list[int]:
    """Peaks that were reached between two readings."""
    return [other.vram_peak_bytes for one, other in pairwise(samples) if other.vram_peak_bytes > one.vram_peak_bytes]


def _quantile(rates: Sequence[tuple[int, int]], span_ns: int) -> int:
    """The rate that was not exceeded for ``MOST`` of the time."""
    passed = 0
    for rate, ns in rates:
        passed += ns
        if passed >= MOST * span_ns:
            return rate
    return 0
