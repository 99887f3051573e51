"""Commands: what tenants, operators and the guard ask for. Only the planner consumes them.

Invariant: a command forbids unknown fields, so that a typo never passes in silence.
"""

from typing import Annotated

from msgspec import Meta, Struct

from mica.events._placement import NOTHING_ASKED, AskedLimits
from mica.events._vocabulary import (
    Control,
    DeviceId,
    Milliseconds,
    Mode,
    NodeName,
    PoolName,
    Runtime,
    Seconds,
    SharePpm,
    ShortText,
    SliceId,
    TenantName,
    Tier,
    Vendor,
    VramBytes,
)


class Slo(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a workload was promised; every given bound must hold."""

    p99_ms: Milliseconds | None = None
    ttft_ms: Milliseconds | None = None
    tpot_ms: Milliseconds | None = None
    rate_hz: Annotated[float, Meta(gt=0)] | None = None


class MeasuredPoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One measurement of the workload at one compute share."""

    share_ppm: SharePpm
    p99_ms: Milliseconds
    rate_hz: Annotated[float, Meta(gt=0)]


class Profile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a workload is. Measured points let the planner size the slice from its SLO."""

    model: ShortText = ""
    vram_bytes: VramBytes | None = None
    concurrency: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    points: Annotated[tuple[MeasuredPoint, ...], Meta(max_length=64)] = ()


class Command(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="type"):
    """Base of all commands. The subject carries no id; identity is in the body."""


class RequestSlice(Command, tag="slice.request", frozen=True, kw_only=True):
    """Ask for a slice.

    ``id`` names it; without one the slice is called ``seq-<stream sequence>``. ``vram_bytes`` may be left out when
    ``profile.vram_bytes`` gives it. Without ``share_ppm`` the planner takes the smallest measured point that meets
    ``slo``, else the same part of the device's compute as of its memory. ``devices`` > 1 asks for a gang inside one
    node, each member with the full size. ``queue_s`` is how long to wait for capacity before the answer is no. ``limits``
    hold in software modes only: a request with some is not placed in hardware.
    """

    tenant: TenantName
    id: SliceId | None = None
    name: ShortText = ""
    vram_bytes: VramBytes | None = None
    share_ppm: SharePpm | None = None
    devices: Annotated[int, Meta(ge=1, le=64)] = 1
    tier: Tier = Tier.GUARANTEED
    mode: Mode | None = None
    pool: PoolName | None = None
    vendor: Vendor | None = None
    runtime: Runtime = Runtime.NATIVE
    uid: Annotated[int, Meta(ge=0, le=(1 << 32) - 2)] | None = None
    priority: Annotated[int, Meta(ge=0, le=100)] = 50
    queue_s: Seconds = 0.0
    profile: Profile | None = None
    slo: Slo | None = None
    limits: AskedLimits = NOTHING_ASKED


class ReleaseSlice(Command, tag="slice.release", frozen=True, kw_only=True):
    """Give a slice back. Processes still attached after ``grace_s`` are terminated."""

    id: SliceId
    grace_s: Seconds = 5.0


class ResizeSlice(Command, tag="slice.resize", frozen=True, kw_only=True):
    """Change a slice in place, on the device where it is. What is left out stays."""

    id: SliceId
    vram_bytes: VramBytes | None = None
    share_ppm: SharePpm | None = None
    limits: AskedLimits = NOTHING_ASKED
    reason: ShortText = ""


class ControlSlice(Command, tag="slice.control", frozen=True, kw_only=True):
    """Set the control word of a slice."""

    id: SliceId
    control: Control
    reason: ShortText = ""


class MoveSlice(Command, tag="slice.move", frozen=True, kw_only=True):
    """Place a slice on another device. Only a slice with no attached process can be moved."""

    id: SliceId
    node: NodeName | None = None
    device_id: DeviceId | None = None
    reason: ShortText = ""


class EvictSlice(Command, tag="slice.evict", frozen=True, kw_only=True):
    """Take a slice away from its tenant, with a reason; its end is ``slice.evicted``."""

    id: SliceId
    grace_s: Seconds = 5.0
    reason: ShortText = ""


class ExplainSlice(Command, tag="slice.explain", frozen=True, kw_only=True):
    """Tell what would become of a request now, device by device, and change nothing."""

    request: RequestSlice


AnyCommand = RequestSlice | ReleaseSlice | ResizeSlice | ControlSlice | MoveSlice | EvictSlice | ExplainSlice
