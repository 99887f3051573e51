"""From a ledger entry to the limits in a record. Invariant: pure; the same entry always gives the same limits."""

from collections.abc import Container
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
    """What a slice may do once the node's lease has run out: nothing. A spot slice is ended, the others stand still.

    What is suspended stands still already, and is known by its word.
    """
    if control is Control.KILL:
        return control
    return Control.SUSPEND if control is Control.SUSPEND and tier is not Tier.SPOT else _FENCE[tier]


def ceiling_ppm(entry: LedgerEntry, part: Part = NO_PART) -> int:
    """The most that the slice may use, while others leave it idle.

    A burst slice may use all of the device, and any other what it was given a ceiling for. Nobody has to lend it that, and take
    it back: the device token asks by share who comes next at every launch, so that whoever comes back has his share within a
    quantum. A slice with a part of its own could not use more than that. A window is a limit of its own, so no rate binds in it.
    """
    if entry.window is not None or entry.mode is not Mode.FCSP:
        return PPM
    most = entry.limits.ceiling_ppm or (PPM if entry.tier is Tier.BURST else 0)
    return max(entry.share_ppm or entry.away_share_ppm, most if part == NO_PART else 0)


BORROWERS: Final = (Tier.BURST, Tier.SPOT)


def quantum_ns(entry: LedgerEntry, part: Part = NO_PART) -> int:
    """The turn on the device token; 0 where a part or hardware keeps the slice apart.

    A slice with a window needs the token, too: it is by the device's clock that the last work of a window is known to end in it.
    """
    return QUANTUM_NS if entry.mode is not Mode.HARDWARE and part == NO_PART else 0


def restrained(limits: Limits, restraint: Control) -> Limits:
    """The limits with a control word that allows no more than ``restraint``."""
    order = list(Control)
    return replace(limits, control=max(limits.control, restraint, key=order.index))


def limits_of(
    slice_id: str,
    entry: LedgerEntry,
    part: Part = NO_PART,
    *,
    borrowers: Container[Tier] = BORROWERS,
) -> Limits:
    """The record that the entry asks for. ``borrowers``: whose slices may use idle windows.

    A suspended slice has the limits that it comes back to; until then its word has everything wait.
    """
    window, own = entry.window or _NO_WINDOW, entry.limits
    return Limits(
        slice_id=slice_id,
        generation=entry.generation,
        tier=entry.tier,
        control=Control.SUSPEND if entry.suspended and entry.control is not Control.KILL else entry.control,
        priority=entry.priority,
        vram_limit_bytes=entry.vram_bytes or entry.away_vram_bytes,
        share_ppm=entry.share_ppm or entry.away_share_ppm,
        ceiling_ppm=ceiling_ppm(entry, part),
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
        borrows=int(entry.window is not None and entry.tier in borrowers),
    )


def draining(slice_id: str, held: Held, *, fence: bool = False) -> Limits:
    """The record of a slice that is to go: no new memory, no new attach. What has no record gets one that allows nothing."""
    was = held.limits or Limits(slice_id=slice_id, generation=0, vram_limit_bytes=0, share_ppm=0, ceiling_ppm=0, burst_ns=0)
    control = fenced(was.control, was.tier) if fence or was.control is Control.KILL else Control.DRAIN
    return replace(was, state=SliceState.DRAINING, control=control)


def tightens(before: Limits | None, after: Limits) -> bool:
    """Whether processes may hold more than the new limits allow, so that what they hold must be looked at."""
    return before is not None and (after.state is SliceState.DRAINING or after.vram_limit_bytes < before.vram_limit_bytes)
