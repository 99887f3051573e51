"""Commands: what tenants, operators and the guard ask for. Only the planner consumes them.

Invariant: a command forbids unknown fields, so that a typo never passes in silence.
"""

from typing import Annotated

from msgspec import Meta, Struct

from mica.events._placement import NOTHING_ASKED, AskedLimits
from mica.events._vocabulary import (
    Control,
    CpuMilli,
    DeviceId,
    DeviceModel,
    Dtype,
    GroupName,
    HostBytes,
    Milliseconds,
    Mode,
    NodeName,
    PoolName,
    ProfileName,
    Reach,
    Runtime,
    Seconds,
    SharePpm,
    ShortText,
    SliceId,
    TenantName,
    Tier,
    Vendor,
    VramBytes,
    WorkloadKind,
)

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Tokens = Annotated[int, Meta(ge=1, le=100_000_000)]


class Slo(Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """What a workload was promised; every given bound must hold.

    A slice is sized so that each bound would hold with ``headroom_ppm`` of it (0.1 when left out) to spare.
    """

    p99_ms: Milliseconds | None = None
    ttft_ms: Milliseconds | None = None
    tpot_ms: Milliseconds | None = None
    rate_hz: Annotated[float, Meta(gt=0)] | None = None
    headroom_ppm: Annotated[int, Meta(ge=0, le=900_000)] = 100_000


class MeasuredPoint(Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """One measurement of the workload at one compute share, with ``batch`` requests at a time.

    ``rate_hz`` counts requests. ``vram_bytes`` is the most memory that was seen in use.
    """

    share_ppm: SharePpm
    p99_ms: Milliseconds
    rate_hz: Annotated[float, Meta(gt=0)]
    batch: Count = 1
    ttft_ms: Milliseconds | None = None
    tpot_ms: Milliseconds | None = None
    vram_bytes: VramBytes | None = None


class Profile(Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """What a workload is: what it was measured to do, or what it is made of. A slice is sized from it.

    ``name``: what is stored under ``profile.<name>``; fields given beside it stand in place of the stored ones. ``model``: a
    model that mica knows the shape of; else ``parameters``, with ``layers`` to ``vocabulary`` where they are known (of a model
    with ``kv_heads`` times ``head_dim`` keys a layer and token). ``context_tokens``: the longest sequence, prompt and output.
    ``concurrency``: how many sequences, or batches of ``batch`` requests, are computed at once. ``device``: the model of the
    device on which ``points`` were measured. ``source``: where all this is from.
    """

    name: ProfileName | None = None
    model: ShortText = ""
    kind: WorkloadKind | None = None
    vram_bytes: VramBytes | None = None
    concurrency: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    points: Annotated[tuple[MeasuredPoint, ...], Meta(max_length=64)] = ()
    parameters: Annotated[int, Meta(ge=1, le=1 << 48)] | None = None
    dtype: Dtype | None = None
    kv_dtype: Dtype | None = None
    layers: Annotated[int, Meta(ge=1, le=4096)] | None = None
    hidden: Count | None = None
    heads: Annotated[int, Meta(ge=1, le=4096)] | None = None
    kv_heads: Annotated[int, Meta(ge=1, le=4096)] | None = None
    head_dim: Annotated[int, Meta(ge=1, le=65_536)] | None = None
    vocabulary: Annotated[int, Meta(ge=1, le=10_000_000)] | None = None
    context_tokens: Tokens | None = None
    prompt_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    batch: Count | None = None
    device: ShortText = ""
    source: ShortText = ""


class Command(Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True, omit_defaults=True, tag_field="type"):
    """Base of all commands. The subject carries no id; identity is in the body."""


class RequestSlice(Command, tag="slice.request", frozen=True, kw_only=True):
    """Ask for a slice.

    ``id`` names it; without one the slice is called ``seq-<stream sequence>``. ``vram_bytes`` may be left out when ``profile``
    says it or what the model is. Without ``share_ppm`` the planner takes the smallest share that keeps ``slo`` by the profile's
    points or, where it knows the model, by an estimate; else the same part of the device's compute as of its memory. What was
    assumed stands in the decision. ``models`` are the models of device that will do, as inventories name them; any, without.
    ``queue_s`` is how long to wait for capacity before the answer is no. ``limits`` hold in software modes only: a request with
    some is not placed in hardware.

    ``devices`` > 1 asks for a gang, each member with the full size (a model that is sized by its shape is split over them), on
    the devices that are connected best: all of them inside one node, or the same number on each of ``nodes`` of one pool.
    ``near`` names another slice of the tenant by which this one is to be: on its device, else linked to it as well as can be,
    and within ``near_within`` if that is given. Slices of a tenant with one name in ``apart`` are on different devices, or
    nodes, by ``apart_within``; not ``apart_strict``: as far as there is room.

    ``cpu_milli`` and ``host_memory_bytes`` are what each member takes of its node beside its device. They are counted, so that a
    node is never promised more than it has; that a process keeps to them is its container's or its cgroup's business.
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
    models: Annotated[tuple[DeviceModel, ...], Meta(max_length=32)] = ()
    runtime: Runtime = Runtime.NATIVE
    uid: Annotated[int, Meta(ge=0, le=(1 << 32) - 2)] | None = None
    priority: Annotated[int, Meta(ge=0, le=100)] = 50
    queue_s: Seconds = 0.0
    profile: Profile | None = None
    slo: Slo | None = None
    limits: AskedLimits = NOTHING_ASKED
    nodes: Annotated[int, Meta(ge=1, le=64)] = 1
    near: SliceId | None = None
    near_within: Reach | None = None
    apart: GroupName | None = None
    apart_within: Reach = Reach.DEVICE
    apart_strict: bool = True
    cpu_milli: CpuMilli = 0
    host_memory_bytes: HostBytes = 0


class ReleaseSlice(Command, tag="slice.release", frozen=True, kw_only=True):
    """Give a slice back. Processes still attached after ``grace_s`` are terminated."""

    id: SliceId
    grace_s: Seconds = 5.0


class ResizeSlice(Command, tag="slice.resize", frozen=True, kw_only=True):
    """Change a slice in place, on the device where it is. What is left out stays, and so does what it has of its node's own.

    With less memory than its processes hold it is in force once they have let go of the rest. They are asked to
    (``slice.asked``). After ``grace_s`` those of a spot slice are terminated; for any other the resize is given up, and refused.
    ``may_move``: where its place can not have that size, it goes to another on its node that can, and processes that are still in
    the old one after ``grace_s`` are terminated. A later resize takes the place of one that still waits.
    """

    id: SliceId
    vram_bytes: VramBytes | None = None
    share_ppm: SharePpm | None = None
    limits: AskedLimits = NOTHING_ASKED
    reason: ShortText = ""
    grace_s: Seconds = 30.0
    may_move: bool = False


class ControlSlice(Command, tag="slice.control", frozen=True, kw_only=True):
    """Set the control word of a slice."""

    id: SliceId
    control: Control
    reason: ShortText = ""


class MoveSlice(Command, tag="slice.move", frozen=True, kw_only=True):
    """Place a slice on another device of its node. What processes hold is not moved.

    Without ``grace_s`` only a slice moves that is known to hold no memory. With it any does, hardware included: processes that
    are still on the old device after ``grace_s`` are terminated, and whatever starts them again finds the new one. ``start``:
    in hardware, the slot at which its partition, of the same profile, is to begin.
    """

    id: SliceId
    node: NodeName | None = None
    device_id: DeviceId | None = None
    reason: ShortText = ""
    grace_s: Seconds | None = None
    start: Annotated[int, Meta(ge=0, le=1024)] | None = None


class EvictSlice(Command, tag="slice.evict", frozen=True, kw_only=True):
    """Take a slice away from its tenant, with a reason; its end is ``slice.evicted``.

    With ``again`` it goes on elsewhere once nothing of it is left where it was, or waits for a place as one does that has lost
    its node; its programs do not come along. Not so a slice over several nodes, and a suspended one: these are evicted.
    """

    id: SliceId
    grace_s: Seconds = 5.0
    again: bool = False
    reason: ShortText = ""


class SuspendSlice(Command, tag="slice.suspend", frozen=True, kw_only=True):
    """Have a slice's programs stand still and their device memory on the host; what it had of the device is free for others.

    Their work under way may take ``lock_s`` to finish, else nothing is suspended. With ``resumes`` it comes back by itself as
    soon as there is room, in the queue's order; else by ``slice.resume``.
    """

    id: SliceId
    lock_s: Seconds = 5.0
    resumes: bool = False
    reason: ShortText = ""


class ResumeSlice(Command, tag="slice.resume", frozen=True, kw_only=True):
    """Bring a suspended slice back to the devices that it was on, now or as soon as there is room."""

    id: SliceId
    reason: ShortText = ""


class ExplainSlice(Command, tag="slice.explain", frozen=True, kw_only=True):
    """Tell what would become of a request now, device by device, and change nothing."""

    request: RequestSlice


class RepackPool(Command, tag="slice.repack", frozen=True, kw_only=True):
    """Tell which moves would make a pool need fewer devices, or leave larger pieces free; with ``apply`` carry them out.

    At most ``moves_max`` moves, of slices of ``tiers`` (left out: those of the pool's policy), with ``restarts`` also of slices
    that hold memory or are in hardware (left out: as the policy has it). A plan that brings less than ``min_gain`` devices beyond
    its cost is none. What the policy does not allow can be planned, and is not applied.
    """

    pool: PoolName
    apply: bool = False
    moves_max: Annotated[int, Meta(ge=1, le=1000)] = 16
    tiers: tuple[Tier, ...] | None = None
    restarts: bool | None = None
    min_gain: Annotated[float, Meta(ge=0, le=1000)] = 0.0


class RightsizeSlices(Command, tag="slice.rightsize", frozen=True, kw_only=True):
    """Tell which size would fit what slices were seen to use; with ``apply`` resize them.

    Of one slice, ``id``, or of all of a ``tenant``; of neither: of everybody. ``window_s``: how far to look back, else as the
    tenant's policy has it; telemetry is kept for 900 s.
    """

    id: SliceId | None = None
    tenant: TenantName | None = None
    window_s: Annotated[float, Meta(ge=10, le=900)] | None = None
    apply: bool = False


AnyCommand = (
    RequestSlice
    | ReleaseSlice
    | ResizeSlice
    | ControlSlice
    | MoveSlice
    | EvictSlice
    | SuspendSlice
    | ResumeSlice
    | ExplainSlice
    | RepackPool
    | RightsizeSlices
)
