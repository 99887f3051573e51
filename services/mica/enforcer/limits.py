"""From a ledger entry to the limits in a record. Invariant: pure; the same entry always gives the same limits."""

from typing import Final

from msgspec.structs import replace

from mica.enforcer.places import Held
from mica.enforcer.placing import NO_PART, Part
from mica.events import PPM, Control, LedgerEntry, Mode, Tier, Window
from mica.region import Limits, SliceState

BURST_NS: Final = 10_000_000
"""How far a slice's virtual time may run ahead of the clock.

Long enough that a shim which sleeps and wakes a millisecond late loses nothing of its share; short enough that over any second a
slice gets at most one point (1 %) more than its share, and that a neighbour never waits longer than 10 ms for it.
"""

QUANTUM_NS: Final = 2_000_000
"""The longest turn of a slice on a device that it shares by time.

Long beside a wake-up (0.1 ms), so that the device does not wait between turns; short beside what a person or a p99 notices.
"""

_NO_WINDOW: Final = Window(offset_ns=0, length_ns=0, period_ns=0)
_FENCE: Final = {Tier.GUARANTEED: Control.PAUSE, Tier.BURST: Control.PAUSE, Tier.SPOT: Control.KILL}


def fenced(control: Control, tier: Tier) -> Control:
    """What a slice may do once the node's lease has run out: nothing. A spot slice is ended, the others stand still."""
    return Control.KILL if control is Control.KILL else _FENCE[tier]


def base_ceiling(entry: LedgerEntry) -> int:
    """The ceiling while nobody's idle time is lent. A window is a limit of its own, so no rate binds inside it."""
    return PPM if entry.window is not None or entry.mode is not Mode.FCSP else entry.share_ppm or entry.away_share_ppm


def quantum_ns(entry: LedgerEntry, part: Part = NO_PART) -> int:
    """The turn on the device token; 0 where a window says when the slice runs, or a part or hardware keeps it apart."""
    return QUANTUM_NS if entry.mode is Mode.FCSP and entry.window is None and part == NO_PART else 0


def limits_of(
    slice_id: str, entry: LedgerEntry, part: Part = NO_PART, *, ceiling_ppm: int | None = None, fence: bool = False
) -> Limits:
    """The record that the entry asks for. ``ceiling_ppm`` is what is lent on top of the share, if anything.

    To a slice with a part of its own nothing is lent: it could not use more of the device than its part. A suspended slice has
    the limits that it comes back to; until then its word has everything wait.
    """
    window, own = entry.window or _NO_WINDOW, entry.limits
    control = fenced(entry.control, entry.tier) if fence else entry.control
    if entry.suspended and control is not Control.KILL:
        control = Control.SUSPEND
    return Limits(
        slice_id=slice_id,
        generation=entry.generation,
        tier=entry.tier,
        control=control,
        priority=entry.priority,
        vram_limit_bytes=entry.vram_bytes or entry.away_vram_bytes,
        share_ppm=entry.share_ppm or entry.away_share_ppm,
        ceiling_ppm=max(base_ceiling(entry), ceiling_ppm or 0) if part == NO_PART else base_ceiling(entry),
        burst_ns=own.burst_ns or BURST_NS,
        pinned_limit_bytes=own.pinned_bytes or 0,
        launch_rate_hz=own.launch_rate_hz or 0,
        inflight_max=own.inflight_max or 0,
        copy_bytes_per_s=own.copy_bytes_per_s or 0,
        quantum_ns=quantum_ns(entry, part),
        spatial_kind=part.kind,
        spatial_ppm=part.ppm,
        spatial_offset_ppm=part.offset_ppm,
        window_offset_ns=window.offset_ns,
        window_length_ns=window.length_ns,
        window_period_ns=window.period_ns,
    )


def draining(slice_id: str, held: Held, *, fence: bool = False) -> Limits:
    """The record of a slice that is to go: no new memory, no new attach. What has no record gets one that allows nothing."""
    was = held.limits or Limits(slice_id=slice_id, generation=0, vram_limit_bytes=0, share_ppm=0, ceiling_ppm=0, burst_ns=0)
    control = fenced(was.control, was.tier) if fence or was.control is Control.KILL else Control.DRAIN
    return replace(was, state=SliceState.DRAINING, control=control)
