"""Repacking: what a plan of moves says, and how far it is carried out.

Invariant: a plan is a list of single moves, each of which leaves a legal state; nothing but the planner writes its progress.
"""

from typing import Annotated

from msgspec import Meta, Struct, field

from mica.events._state import Document
from mica.events._vocabulary import (
    Automation,
    Bytes,
    DeviceId,
    Mode,
    NodeName,
    PoolName,
    SliceId,
    StepState,
    TenantName,
    Tier,
    UnixNs,
)


class PlannedMove(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One slice from a device to another, with what that costs and brings.

    ``moved_bytes`` is what its programs hold now; ``restarts``: they are ended on the old device after ``grace_s`` and start
    again on the new one. ``cost`` and ``gain`` are in devices: a whole device made free is worth one, beside its room. ``gain``
    is that of this move after those before it: one that only prepares another may bring nothing, or less. ``why`` says it.
    ``start`` is the slot of its partition there.
    """

    id: SliceId
    tenant: TenantName
    tier: Tier
    node: NodeName
    device_id: DeviceId
    to_device_id: DeviceId
    start: int | None = None
    mode: Mode
    vram_bytes: Bytes
    share_ppm: int
    moved_bytes: Bytes = 0
    restarts: bool = False
    grace_s: float = 0.0
    cost: float = 0.0
    gain: float = 0.0
    why: str = ""


class PoolShape(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """How a pool's devices are filled: those that can be used, those without a slice, and what is free on all of them.

    ``largest_bytes``: of each device the largest slice that it could still take, summed. ``fragmentation``: the part of the free
    memory that is not on devices without a slice. ``value``: devices without a slice, and the part of each device that its
    largest slice would be; what a plan is to raise.
    """

    devices: int = 0
    free_devices: int = 0
    free_bytes: Bytes = 0
    largest_bytes: Bytes = 0
    fragmentation: float = 0.0
    value: float = 0.0


class Repacking(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A pool's policy for moving slices so that they need fewer devices.

    ``mode``: ``off``, ``advise`` (tell of plans that are worth it) or ``auto`` (carry them out). At most ``moves_per_hour``, of
    slices of ``tiers``, none within ``rest_s`` of its last change. ``restarts``: those whose programs hold memory, or that
    are in hardware, too; their programs are ended, with the tier's grace, and start again on the new device. ``min_gain``, in
    devices, is what a plan must bring beyond its cost.
    """

    mode: Automation = Automation.OFF
    moves_per_hour: Annotated[int, Meta(ge=1, le=1000)] = 4
    tiers: tuple[Tier, ...] = (Tier.SPOT, Tier.BURST)
    restarts: bool = False
    min_gain: Annotated[float, Meta(ge=0, le=1000)] = 0.5
    rest_s: Annotated[float, Meta(ge=0, le=604_800)] = 3600.0


class RepackStep(Document, frozen=True, kw_only=True):
    """A move of a plan and what became of it. ``generation`` is the slice's before it, ``at`` when the state began."""

    move: PlannedMove
    state: StepState = StepState.WAITING
    generation: int = 0
    at: UnixNs = 0
    message: str = ""


class RepackState(Document, frozen=True, kw_only=True):
    """``repack.<pool>``: the pool's last plan, and how far it is carried out. Writer: planner.

    ``about`` names the plan. ``sent``: when moves of automatic plans were sent within the last hour. ``moved``: by slice when it
    was last moved. ``advised_at``: when the pool was last looked at by policy.
    """

    pool: PoolName
    about: str = ""
    steps: tuple[RepackStep, ...] = ()
    sent: tuple[UnixNs, ...] = ()
    moved: dict[str, UnixNs] = field(default_factory=dict)
    advised_at: UnixNs = 0
