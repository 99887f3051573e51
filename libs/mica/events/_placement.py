"""Where a slice is and why: the parts that facts and state documents share."""

from msgspec import Struct

from mica.events._vocabulary import Bytes, DeviceId, Mode, Nanoseconds, NodeName, SharePpm, Vendor


class Partition(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A hardware partition: a catalogue profile over slots [start, start + size).

    ``uuid`` is the vendor's name of the living instance, empty until the enforcer has made it.
    """

    profile: str
    profile_id: int
    start: int
    size: int
    uuid: str = ""


class Window(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A time slice: [offset, offset + length) of every period of CLOCK_MONOTONIC."""

    offset_ns: Nanoseconds
    length_ns: Nanoseconds
    period_ns: Nanoseconds


class Placement(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one device gives to a slice: what was granted, which is never less than what was asked."""

    node: NodeName
    device_id: DeviceId
    model: str
    vendor: Vendor
    mode: Mode
    vram_bytes: Bytes
    share_ppm: SharePpm
    partition: Partition | None = None
    window: Window | None = None


class Alternative(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A device or a mode that was looked at and not taken, and why."""

    node: NodeName
    device_id: DeviceId
    reason: str
    mode: Mode | None = None


class Decision(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The planner's reasoning: why this mode, why this device, and what else was looked at (at most 16)."""

    summary: str
    rejected: tuple[Alternative, ...] = ()
