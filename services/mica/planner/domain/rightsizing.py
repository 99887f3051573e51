"""Which size fits what a slice was seen to use. Pure.

Invariants: what is advised is never less than was used with headroom, nor less than the slice's promise needs; with the same use
the advice that follows an advice is to stay. The second holds because a size that was shrunk to leaves less to spare than
``SHRINK_AT`` asks for, and one that was grown to is not ``SPARE`` above what is used by more than one step of growth.
"""

from typing import Final

from msgspec import Struct

from mica.events import PPM, SizeAdvice, Sizing, Tier
from mica.planner.domain.misfits import size_text
from mica.planner.domain.observing import Seen

SPARE_BYTES: Final = 1.15
"""Memory above the most that was used; less than this is not left when a slice shrinks."""
SPARE_PPM: Final = 1.25
"""Compute above what was used 95 % of the time."""
SHRINK_AT: Final = 0.75
"""A slice shrinks only to less than this part of what it has: small gains are not worth a change."""
GROW: Final = 1.25
"""By so much a slice grows at a time."""
FULL: Final = 0.95
"""Memory is short where so much of it was used, or an allocation was refused."""
THROTTLED: Final = 0.10
"""Compute is short where work was held back for so much of the time; it shrinks only where it was for less than a tenth of it."""
GRAIN_BYTES: Final = 64 << 20
GRAIN_PPM: Final = 10_000
LEAST_BYTES: Final = 256 << 20
SAMPLES: Final = 10


class Standing(Struct, frozen=True, kw_only=True):
    """What bounds the size of a slice.

    ``floor_bytes`` and ``floor_ppm``: what its promise needs, or the size it has where nothing says how much that is.
    ``room_bytes`` and ``room_ppm``: the most that its device could give it. ``may_shrink`` and ``may_grow``: by its tier, by what
    its tenant agrees to, and by the SLO guard.
    """

    id: str
    tenant: str
    tier: Tier
    vram_bytes: int
    share_ppm: int
    floor_bytes: int = LEAST_BYTES
    floor_ppm: int = GRAIN_PPM
    room_bytes: int
    room_ppm: int
    may_shrink: str = ""
    """Why it may not; empty where it may."""
    may_grow: str = ""


def advise(standing: Standing, use: Seen, window_s: float) -> SizeAdvice:
    """What the slice should have."""
    if use.samples < SAMPLES or use.seconds < window_s:
        return _told(standing, use, Sizing.UNKNOWN, f"{use.seconds:.0f} s of {window_s:.0f} s were seen since its last change")
    if not use.busy:
        return _told(standing, use, Sizing.IDLE, "no program was in it; release it if none is to come")
    to_bytes, why_bytes = _memory(standing, use)
    to_ppm, why_ppm = _compute(standing, use)
    why = "; ".join(each for each in (why_bytes, why_ppm) if each)
    if (to_bytes, to_ppm) == (standing.vram_bytes, standing.share_ppm):
        return _told(standing, use, Sizing.STAY, why or "it fits")
    less = to_bytes < standing.vram_bytes or to_ppm < standing.share_ppm
    more = to_bytes > standing.vram_bytes or to_ppm > standing.share_ppm
    action = Sizing.MIXED if less and more else Sizing.GROW if more else Sizing.SHRINK
    return _told(standing, use, action, why, (to_bytes, to_ppm))


def _memory(standing: Standing, use: Seen) -> tuple[int, str]:
    """The memory that it should have, and why."""
    now = standing.vram_bytes
    if use.refusals or use.used_bytes >= FULL * now:
        short = (
            f"{use.refusals} allocations were refused" if use.refusals else f"{size_text(use.used_bytes)} of its memory were used"
        )
        return _grown(now, standing.room_bytes, GRAIN_BYTES, (short, standing.may_grow))
    wanted = max(_up(use.used_bytes * SPARE_BYTES, GRAIN_BYTES), standing.floor_bytes, LEAST_BYTES)
    return _shrunk(now, wanted, f"at most {size_text(use.used_bytes)} were used", standing.may_shrink)


def _compute(standing: Standing, use: Seen) -> tuple[int, str]:
    """The compute that it should have, and why."""
    now = standing.share_ppm
    if use.throttled > THROTTLED:
        return _grown(
            now, standing.room_ppm, GRAIN_PPM, (f"its work was held back {use.throttled:.0%} of the time", standing.may_grow)
        )
    if use.throttled > THROTTLED / 10:
        return now, ""
    wanted = max(_up(use.used_ppm * SPARE_PPM, GRAIN_PPM), standing.floor_ppm, GRAIN_PPM)
    return _shrunk(now, wanted, f"{use.used_ppm / PPM:.1%} of the device's compute was used", standing.may_shrink)


def _shrunk(now: int, wanted: int, because: str, barred: str) -> tuple[int, str]:
    if wanted >= SHRINK_AT * now:
        return now, ""
    return (now, f"{because}, but {barred}") if barred else (wanted, because)


def _grown(now: int, room: int, grain: int, words: tuple[str, str]) -> tuple[int, str]:
    because, barred = words
    wanted = min(_up(now * GROW, grain), room)
    if barred or wanted <= now:
        return now, f"{because}, but {barred or 'its device has no more to give'}"
    return wanted, because


def _up(amount: float, grain: int) -> int:
    """Rounded up to whole grains."""
    return -int(-amount // grain) * grain


def _told(standing: Standing, use: Seen, action: Sizing, why: str, to: tuple[int, int] | None = None) -> SizeAdvice:
    to_bytes, to_ppm = to or (standing.vram_bytes, standing.share_ppm)
    return SizeAdvice(
        id=standing.id, tenant=standing.tenant, tier=standing.tier, action=action, why=why,
        vram_bytes=standing.vram_bytes, share_ppm=standing.share_ppm, to_vram_bytes=to_bytes, to_share_ppm=to_ppm,
        used_bytes=use.used_bytes, used_ppm=use.used_ppm, throttled=round(use.throttled, 4), refusals=use.refusals,
        seconds=round(use.seconds, 1),
    )  # fmt: skip
