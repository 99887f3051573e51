"""The words of mica: every enumeration and constrained scalar that appears in an event.

Owns the vocabulary of the wire. Invariant: a published member never changes its value.
"""

from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Final

from msgspec import Meta

PPM: Final = 1_000_000
"""Parts per million that make one whole device."""

ID_PATTERN: Final = r"^[A-Za-z0-9_-]{1,64}$"


class Mode(StrEnum):
    """How a device is carved, strongest first."""

    HARDWARE = "hardware"
    FCSP = "fcsp"
    TIMESLICE = "timeslice"


class Tier(StrEnum):
    """What a tenant was promised."""

    GUARANTEED = "guaranteed"
    BURST = "burst"
    SPOT = "spot"


class Vendor(StrEnum):
    """Who makes the device; ``cpu``: a processor that stands in for one, through OpenCL; ``other``: whoever has no name here."""

    NVIDIA = "nvidia"
    AMD = "amd"
    INTEL = "intel"
    HUAWEI = "huawei"
    QUALCOMM = "qualcomm"
    CPU = "cpu"
    OTHER = "other"


class Runtime(StrEnum):
    """The programming interface that a tenant's process uses to reach the device; ``native``: that of the device's maker."""

    NATIVE = "native"
    CUDA = "cuda"
    OPENCL = "opencl"
    HIP = "hip"
    LEVEL_ZERO = "level_zero"
    CANN = "cann"
    QAIC = "qaic"
    OTHER = "other"


NATIVE_RUNTIMES: Final = MappingProxyType(
    {
        Vendor.NVIDIA: Runtime.CUDA,
        Vendor.AMD: Runtime.HIP,
        Vendor.INTEL: Runtime.LEVEL_ZERO,
        Vendor.HUAWEI: Runtime.CANN,
        Vendor.QUALCOMM: Runtime.QAIC,
        Vendor.OTHER: Runtime.OTHER,
    }
)
"""What ``native`` means, by vendor. A processor has none: who wants to compute there says so."""


class Control(StrEnum):
    """The control word of a slice, as an operator or the guard sets it; ``suspend`` is the enforcer's own (``slice.suspend``)."""

    RUN = "run"
    THROTTLE = "throttle"
    PAUSE = "pause"
    DRAIN = "drain"
    KILL = "kill"
    SUSPEND = "suspend"


class Phase(StrEnum):
    """Where a slice stands in its life. Only the planner writes it, into ``slice.<id>``."""

    QUEUED = "queued"
    PLACED = "placed"
    RELEASING = "releasing"
    REJECTED = "rejected"
    FAILED = "failed"
    RELEASED = "released"
    EVICTED = "evicted"
    LOST = "lost"


TERMINAL_PHASES: Final = frozenset({Phase.REJECTED, Phase.FAILED, Phase.RELEASED, Phase.EVICTED, Phase.LOST})
"""Phases that a slice never leaves: its record is a tombstone."""


class ObservedState(StrEnum):
    """What the enforcer sees of one slice on one device; suspended, it holds nothing there: its memory is on the host."""

    LIVE = "live"
    SUSPENDED = "suspended"
    DRAINING = "draining"
    FAILED = "failed"


class WorkloadKind(StrEnum):
    """What a workload computes: whether it keeps a KV cache and what a request costs follow from it."""

    LLM = "llm"
    ENCODER = "encoder"
    EMBEDDING = "embedding"
    VISION = "vision"
    GUARDRAIL = "guardrail"
    OTHER = "other"


class Dtype(StrEnum):
    """How the weights of a model, or its KV cache, are kept."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    FP8 = "fp8"
    INT8 = "int8"
    INT4 = "int4"


class Health(StrEnum):
    """What discovery thinks of one device."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    FAILED = "failed"


class Severity(StrEnum):
    """How bad a finding about a device is: nothing lost, slower or at risk, or of no use until somebody mends it."""

    INFO = "info"
    WARNING = "warning"
    FATAL = "fatal"


class LinkKind(StrEnum):
    """By what two devices of a node reach each other without their host's memory."""

    NVLINK = "nvlink"
    NVSWITCH = "nvswitch"
    XGMI = "xgmi"
    HCCS = "hccs"
    XE_LINK = "xe_link"


class Switching(StrEnum):
    """When a device that nobody uses is switched between whole and partitioned: for any request, for one pinned to it, never."""

    AUTO = "auto"
    ASKED = "asked"
    NEVER = "never"


class Preemption(StrEnum):
    """Whose slices may be evicted for a request that does not fit: nobody's, spot ones, or those of lower tier and priority."""

    NEVER = "never"
    SPOT = "spot"
    PRIORITY = "priority"


class NodeLoss(StrEnum):
    """Whose slices are placed elsewhere when their node is lost: nobody's, guaranteed ones, or burst ones too."""

    LOST = "lost"
    GUARANTEED = "guaranteed"
    BURST = "burst"


class Service(StrEnum):
    """Whether a node or device takes slices: yes, no new ones, or none at all, so that those there are moved or evicted."""

    OPEN = "open"
    CORDONED = "cordoned"
    DRAINED = "drained"


class Automation(StrEnum):
    """How far the planner goes by itself: not at all, it says what it would do, or it does it."""

    OFF = "off"
    ADVISE = "advise"
    AUTO = "auto"


class GuardMode(StrEnum):
    """How far the SLO guard goes in a pool: it does nothing, tells what it would do, or does it."""

    OFF = "off"
    DRY_RUN = "dry_run"
    ACT = "act"


class GuardRung(StrEnum):
    """What the SLO guard can do about a breach, ``none``: there is nothing left to do.

    ``ceiling``: let the slice use what others leave; ``throttle``: hold a neighbour to its share; ``squeeze``: give it less
    than that, of what it takes most of; ``pause``, ``move``, ``evict``; ``resize``: a larger share for the slice.
    """

    CEILING = "ceiling"
    THROTTLE = "throttle"
    SQUEEZE = "squeeze"
    PAUSE = "pause"
    RESIZE = "resize"
    MOVE = "move"
    EVICT = "evict"
    NONE = "none"


class StepPhase(StrEnum):
    """How far an action of the SLO guard is.

    ``decided``: its command may not be out yet; ``sent``: it is, and is to be measured; ``in_force``: it helped; ``undoing``: it
    is to be taken back. Then it is over: ``refused``, ``undone``, ``left`` (somebody else has spoken since), ``done`` (what can't
    be taken back), ``kept`` (for good), ``told`` (nothing was to be carried out).
    """

    DECIDED = "decided"
    SENT = "sent"
    IN_FORCE = "in_force"
    UNDOING = "undoing"
    REFUSED = "refused"
    UNDONE = "undone"
    LEFT = "left"
    DONE = "done"
    KEPT = "kept"
    TOLD = "told"


class Sizing(StrEnum):
    """What is advised for a slice; ``mixed``: more of one thing and less of another, ``unknown``: too little was seen to tell."""

    STAY = "stay"
    SHRINK = "shrink"
    GROW = "grow"
    MIXED = "mixed"
    IDLE = "idle"
    UNKNOWN = "unknown"


class BreakerState(StrEnum):
    """What a circuit breaker lets through: every request, a few to see how they fare, or none."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class StepState(StrEnum):
    """What became of a move of a plan; ``skipped``: it no longer was what was planned, and nothing was done."""

    WAITING = "waiting"
    SENT = "sent"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


class Reach(StrEnum):
    """How far two slices are from each other at most, or share something at least: one device, or one node."""

    DEVICE = "device"
    NODE = "node"


class IntruderAction(StrEnum):
    """What is done about a process that uses a device without a slice: tell of it, or end it too."""

    REPORT = "report"
    TERMINATE = "terminate"


class SpatialChoice(StrEnum):
    """How a slice gets a part of the device to itself, where the device runs slices side by side."""

    AUTO = "auto"
    NONE = "none"
    MPS = "mps"
    GREEN = "green"
    SUBDEVICE = "subdevice"


class OverrunStep(StrEnum):
    """What was done about a process whose work stays on a device beyond its time; each step after the one before."""

    NONE = "none"
    THROTTLED = "throttled"
    PAUSED = "paused"
    TERMINATED = "terminated"


SliceId = Annotated[str, Meta(pattern=ID_PATTERN, description="1 to 64 of A-Z a-z 0-9 _ -")]
TenantName = Annotated[str, Meta(pattern=ID_PATTERN, description="1 to 64 of A-Z a-z 0-9 _ -")]
NodeName = Annotated[str, Meta(pattern=ID_PATTERN, description="1 to 64 of A-Z a-z 0-9 _ -")]
ProfileName = Annotated[str, Meta(pattern=ID_PATTERN, description="1 to 64 of A-Z a-z 0-9 _ -")]
PoolName = Annotated[str, Meta(pattern=ID_PATTERN, description="1 to 64 of A-Z a-z 0-9 _ -")]
GroupName = Annotated[str, Meta(pattern=ID_PATTERN, description="1 to 64 of A-Z a-z 0-9 _ -")]
DeviceId = Annotated[str, Meta(min_length=1, max_length=64, description="the vendor's UUID")]
ShortText = Annotated[str, Meta(max_length=256)]
DeviceModel = Annotated[str, Meta(min_length=1, max_length=128)]
VramBytes = Annotated[int, Meta(ge=1, le=1 << 50, description="bytes of device memory")]
SharePpm = Annotated[int, Meta(ge=1, le=PPM, description="millionths of one device's compute")]
CpuMilli = Annotated[int, Meta(ge=0, le=8_192_000, description="thousandths of a processor")]
HostBytes = Annotated[int, Meta(ge=0, le=1 << 50, description="bytes of a node's own memory")]
Bytes = Annotated[int, Meta(ge=0)]
Nanoseconds = Annotated[int, Meta(ge=0)]
UnixNs = Annotated[int, Meta(ge=0, description="nanoseconds since 1970-01-01 UTC")]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Milliseconds = Annotated[float, Meta(gt=0)]
