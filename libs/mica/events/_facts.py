"""Facts: what happened, in the past tense, each published by the one service that knows it.

Invariant: facts tolerate unknown fields, and a new field always has a default.
"""

from msgspec import Struct

from mica.events._placement import Candidate, Decision, Placement, WaitsFor
from mica.events._repacking import PlannedMove, PoolShape
from mica.events._rightsizing import SizeAdvice
from mica.events._vocabulary import (
    Bytes,
    DeviceId,
    Health,
    Nanoseconds,
    NodeName,
    OverrunStep,
    Severity,
    SliceId,
    Tier,
    UnixNs,
)


class Fact(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type"):
    """Base of all facts. ``at`` is the publisher's clock."""

    at: UnixNs


class SliceFact(Fact, frozen=True, kw_only=True):
    """Base of the facts about one slice; the subject ends in ``id``."""

    id: SliceId
    tenant: str = ""
    generation: int = 0


class SlicePlaced(SliceFact, tag="slice.placed", frozen=True, kw_only=True):
    """The planner chose where the slice goes, and says why there and not elsewhere."""

    placements: tuple[Placement, ...]
    decision: Decision


class SliceExplained(Fact, tag="slice.explained", frozen=True, kw_only=True):
    """What would become of a request at this moment. ``sequence`` is the stream sequence of the ``slice.explain`` that asked.

    ``outcome`` is ``placed``, ``queued`` or ``rejected``. ``left_out``: so many more candidates there are. ``would_evict``: the
    slices that would be evicted for it. ``field``, ``given`` and ``allowed`` are what stands in the way;
    ``decision`` is the one that would be made, without the alternatives, which are candidates here.
    """

    sequence: int
    tenant: str
    outcome: str
    summary: str
    candidates: tuple[Candidate, ...] = ()
    left_out: int = 0
    would_evict: tuple[str, ...] = ()
    field: str = ""
    given: str = ""
    allowed: str = ""
    decision: Decision | None = None


class PoolRepacked(Fact, tag="slice.repacked", frozen=True, kw_only=True):
    """A plan of moves for a pool, in their order. The subject ends in ``about``.

    ``about`` is the stream sequence of the ``slice.repack`` that asked, or the pool whose policy wants such plans. ``outcome`` is
    ``planned``, ``applied`` (it is being carried out, move by move) or ``nothing`` (no plan is worth it). ``bound``: no plan of
    such moves leaves more than that ``after.value`` less cost; ``proven``: none is better. ``held_back``: why slices stay where
    they are, and how many for each reason.
    """

    about: str
    pool: str
    outcome: str
    summary: str
    moves: tuple[PlannedMove, ...] = ()
    before: PoolShape = PoolShape()
    after: PoolShape = PoolShape()
    bound: float = 0.0
    proven: bool = False
    held_back: dict[str, int] = {}


class SlicesRightsized(Fact, tag="slice.rightsized", frozen=True, kw_only=True):
    """Which sizes would fit what slices use. The subject ends in ``about``.

    ``about`` is the stream sequence of the ``slice.rightsize`` that asked, or the tenant whose policy wants to know. ``applied``:
    the slices whose resize is on its way.
    """

    about: str
    summary: str
    advices: tuple[SizeAdvice, ...] = ()
    applied: tuple[str, ...] = ()


class SliceReady(SliceFact, tag="slice.ready", frozen=True, kw_only=True):
    """The slice is live: a process may attach. Final answer."""

    placements: tuple[Placement, ...]


class SliceQueued(SliceFact, tag="slice.queued", frozen=True, kw_only=True):
    """Nothing fits now; the request waits until ``until``. Told anew when what it waits for has changed."""

    until: UnixNs
    decision: Decision
    waits_for: WaitsFor = WaitsFor()


class SliceRejected(SliceFact, tag="slice.rejected", frozen=True, kw_only=True):
    """The request can not be met as it stands. Final answer.

    ``field`` is the part of the request that stands in the way, ``given`` what it held (shortened) and ``allowed``
    what would have passed.
    """

    field: str
    given: str
    allowed: str
    message: str
    decision: Decision | None = None


class SliceFailed(SliceFact, tag="slice.failed", frozen=True, kw_only=True):
    """The request was placed, but no device could be made to hold it. Final answer."""

    message: str


class SliceLost(SliceFact, tag="slice.lost", frozen=True, kw_only=True):
    """A slice that was ready is gone without anybody having asked for it."""

    message: str


class SliceResized(SliceFact, tag="slice.resized", frozen=True, kw_only=True):
    """Generation ``generation`` of the slice is in force on every one of its devices."""

    placements: tuple[Placement, ...]


class SliceAsked(SliceFact, tag="slice.asked", frozen=True, kw_only=True):
    """The slice is to have less of a device than its processes hold, and they are asked to let go. Told again, ever less often.

    ``what`` is ``shrink``: the device's memory is to be ``vram_bytes`` and ``used_bytes`` of it are held. ``until`` is when that
    ends, by the planner's clock, and ``then`` what follows: ``terminated`` (the processes) or ``given_up`` (the shrink).
    ``times``: so often it was told of this generation, this time included.
    """

    node: NodeName
    device_id: DeviceId
    what: str
    vram_bytes: Bytes
    used_bytes: Bytes
    until: UnixNs = 0
    then: str = ""
    times: int = 1


class SliceSuspended(SliceFact, tag="slice.suspended", frozen=True, kw_only=True):
    """Nothing of the slice is on its devices any more: ``away_bytes`` of its programs' memory are on the host.

    ``lock_ns``: how long it took until nothing of it was under way, ``copy_ns``: until its memory was on the host after that.
    """

    away_bytes: Bytes = 0
    lock_ns: Nanoseconds = 0
    copy_ns: Nanoseconds = 0
    placements: tuple[Placement, ...] = ()


class SliceResumed(SliceFact, tag="slice.resumed", frozen=True, kw_only=True):
    """A slice that was suspended, or was to be, is in force on all of its devices, with every byte where it was.

    ``copy_ns``: how long its memory took to be back, ``unlock_ns``: until its programs could go on after that.
    """

    copy_ns: Nanoseconds = 0
    unlock_ns: Nanoseconds = 0
    placements: tuple[Placement, ...]


class SliceReleased(SliceFact, tag="slice.released", frozen=True, kw_only=True):
    """The slice is gone and every byte of it is free again."""


class SliceEvicted(SliceFact, tag="slice.evicted", frozen=True, kw_only=True):
    """The slice was taken away and every byte of it is free again."""

    message: str


class SliceAttached(SliceFact, tag="slice.attached", frozen=True, kw_only=True):
    """A process started inside the slice. ``pid`` is the host's."""

    node: NodeName
    device_id: DeviceId
    pid: int
    slot: int = -1


class SliceRefused(Fact, tag="slice.refused", frozen=True, kw_only=True):
    """A command other than ``slice.request`` was not carried out. The subject ends in ``sequence``.

    ``offer``: where a slice that can not have another size in its place could have it now; ``slice.resize`` with ``may_move``
    takes it there.
    """

    sequence: int
    command: str
    id: str = ""
    field: str
    given: str
    allowed: str
    message: str
    offer: tuple[Placement, ...] = ()


class SliceIntruder(Fact, tag="slice.intruder", frozen=True, kw_only=True):
    """A process uses a device without a slice, or more of it than it has charged to its slice. The subject ends in ``node``.

    ``id`` is its slice, or the one from whose processes a stranger descends; empty for one that comes from none. ``vram_bytes``
    is what the driver says that it holds, ``charged_bytes`` what its slice was told of that. ``action`` is ``reported``,
    ``terminated`` (it was asked to end) or ``killed``.
    """

    node: NodeName
    device_id: DeviceId
    pid: int
    vram_bytes: Bytes
    action: str
    id: str = ""
    charged_bytes: Bytes = 0


class SliceOverran(SliceFact, tag="slice.overran", frozen=True, kw_only=True):
    """A process's work stays on a device beyond its time, or has stopped to; what is done about it is now ``step``.

    ``before`` is the step before: a process that has behaved for a while climbs down. ``ran_ns`` is how long its oldest
    unfinished work has been on the device, ``allowed_ns`` how long it may be: the slice's window, where it has one (the last
    three fields), else a number of turns.
    """

    node: NodeName
    device_id: DeviceId
    pid: int
    step: OverrunStep
    before: OverrunStep = OverrunStep.NONE
    ran_ns: Nanoseconds = 0
    allowed_ns: Nanoseconds = 0
    tier: Tier = Tier.GUARANTEED
    message: str = ""
    window_offset_ns: Nanoseconds = 0
    window_length_ns: Nanoseconds = 0
    window_period_ns: Nanoseconds = 0


class NodeInventoryChanged(Fact, tag="node.inventory", frozen=True, kw_only=True):
    """The devices of a node were read anew; the state is in KV ``inventory.<node>``."""

    node: NodeName
    devices: tuple[DeviceId, ...]


class NodeHealthChanged(Fact, tag="node.health", frozen=True, kw_only=True):
    """A device's health is not what it was, or something happened on it that is worth telling.

    ``kind`` is what was found (``xid``, ``ecc``, ``thermal``, ``bus``, ``silent``, ``fault``), ``code`` the vendor's number
    of it.
    """

    node: NodeName
    device_id: DeviceId
    health: Health
    message: str = ""
    severity: Severity = Severity.INFO
    kind: str = ""
    code: int = 0
