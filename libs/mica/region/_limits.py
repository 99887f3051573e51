"""The limits of one slice on one device, as services write and read them.

Owns the translation between ``Limits`` and ``struct mica_slice_limits``. Invariant: whatever is written is read back equal.
"""

from enum import IntEnum
from typing import Any, TypeVar

from msgspec import Struct

from mica.events import Control, Tier
from mica.region._binding import ffi, lib, unpack_id
from mica.region._errors import LimitsError
from mica.region._names import check_slice_id

_T = TypeVar("_T")
_WORD_MAX = (1 << 64) - 1


class SliceState(IntEnum):
    """What a quota record holds."""

    FREE = lib.MICA_SLICE_FREE
    LIVE = lib.MICA_SLICE_LIVE
    DRAINING = lib.MICA_SLICE_DRAINING


class Spatial(IntEnum):
    """By which mechanism of the driver's a slice has a part of the device to itself."""

    NONE = lib.MICA_SPATIAL_NONE
    MPS = lib.MICA_SPATIAL_MPS
    GREEN = lib.MICA_SPATIAL_GREEN
    SUBDEVICE = lib.MICA_SPATIAL_SUBDEVICE


_TIERS = {tier: getattr(lib, f"MICA_TIER_{tier.name}") for tier in Tier}
_CONTROLS = {control: getattr(lib, f"MICA_CONTROL_{control.name}") for control in Control}
_TIER_OF = {value: tier for tier, value in _TIERS.items()}
_CONTROL_OF = {value: control for control, value in _CONTROLS.items()}


class Limits(Struct, frozen=True, kw_only=True):
    """What one slice may use of one device. Zero means "no limit" from ``window_period_ns`` on.

    ``ceiling_ppm`` is what it may use now and is at least ``share_ppm``, what it is guaranteed. ``burst_ns`` is how far its
    virtual time may run ahead of the clock. Launches start only in [window_offset_ns, window_offset_ns +
    window_length_ns) of every ``window_period_ns`` of CLOCK_MONOTONIC. ``quantum_ns`` is the longest turn of a slice that
    shares the device by time (0: it needs no device token), ``spatial_ppm`` the part that ``spatial_kind`` gives it,
    from ``spatial_offset_ppm`` on. ``borrows`` 1: it may also launch in windows that their owners leave idle.
    """

    slice_id: str
    generation: int
    vram_limit_bytes: int
    share_ppm: int
    ceiling_ppm: int
    burst_ns: int
    state: SliceState = SliceState.LIVE
    tier: Tier = Tier.GUARANTEED
    control: Control = Control.RUN
    priority: int = 50
    pinned_limit_bytes: int = 0
    window_offset_ns: int = 0
    window_length_ns: int = 0
    window_period_ns: int = 0
    launch_rate_hz: int = 0
    inflight_max: int = 0
    copy_bytes_per_s: int = 0
    quantum_ns: int = 0
    spatial_kind: Spatial = Spatial.NONE
    spatial_ppm: int = 0
    spatial_offset_ppm: int = 0
    borrows: int = 0


def _numeric_fields() -> tuple[str, ...]:
    """Name the fields of the C structure that are plain numbers in ``Limits`` too."""
    translated = {"slice_id", "state", "tier", "control", "spatial_kind"}
    fields = [name for name, _ in ffi.typeof("struct mica_slice_limits").fields]
    return tuple(name for name in fields if name not in translated)


_NUMBERS = _numeric_fields()


def encode_limits(limits: Limits) -> Any:
    """Return ``limits`` as a C structure.

    Raises:
        LimitsError: a number is no unsigned 64-bit word, or the id is none.
    """
    out = ffi.new("struct mica_slice_limits *")
    lib.mica_id_pack(check_slice_id(limits.slice_id).encode(), out.slice_id)
    out.state = limits.state
    out.tier = _TIERS[limits.tier]
    out.control = _CONTROLS[limits.control]
    out.spatial_kind = limits.spatial_kind
    for name in _NUMBERS:
        value = getattr(limits, name)
        if not 0 <= value <= _WORD_MAX:
            raise LimitsError(f"slice {limits.slice_id}: {name} is {value}, allowed are 0 to {_WORD_MAX}")
        setattr(out, name, value)
    if limits.ceiling_ppm < limits.share_ppm:
        raise LimitsError(
            f"slice {limits.slice_id}: ceiling_ppm is {limits.ceiling_ppm}, allowed is share_ppm {limits.share_ppm} or more"
        )
    return out


def decode_limits(stored: Any, where: str) -> Limits | None:
    """Return what a C structure says, or None when it is FREE.

    Raises:
        LimitsError: it carries a state, tier, control or spatial kind unknown to this build. ``where`` starts the message.
    """
    if stored.state == lib.MICA_SLICE_FREE:
        return None
    return Limits(
        slice_id=unpack_id(stored.slice_id),
        state=_known("state", stored.state, {int(state): state for state in SliceState}, where),
        tier=_known("tier", stored.tier, _TIER_OF, where),
        control=_known("control", stored.control, _CONTROL_OF, where),
        spatial_kind=_known("spatial_kind", stored.spatial_kind, {int(kind): kind for kind in Spatial}, where),
        **{name: getattr(stored, name) for name in _NUMBERS},
    )


def _known(field: str, value: int, allowed: dict[int, _T], where: str) -> _T:
    if value not in allowed:
        raise LimitsError(f"{where}: {field} is {value}, allowed are {sorted(allowed)}")
    return allowed[value]
