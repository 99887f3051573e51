"""Facts: what happened, in the past tense, each published by the one service that knows it.

Invariant: facts tolerate unknown fields, and a new field always has a default.
"""

from msgspec import Struct

from mica.events._placement import Candidate, Decision, Placement, WaitsFor
from mica.events._repacking import PlannedMove, PoolShape
from mica.events._rightsizing import SizeAdvice
from mica.events._vocabulary import (
    Bytes,
    Control,
    DeviceId,
    Health,
    Nanoseconds,
    NodeName,
    Severity,
    SharePpm,
    SliceId,
    TenantName,
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
    """A command other than ``slice.request`` was not carried out. The subject ends in ``sequence``."""

    sequence: int
    command: str
    id: str = ""
    field: str
    given: str
    allowed: str
    message: str


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


class DeviceSampled(Fact, tag="telemetry.device", frozen=True, kw_only=True):
    """One reading of a device's own counters."""

    node: NodeName
    device_id: DeviceId
    vram_used_bytes: Bytes
    vram_total_bytes: Bytes
    utilisation_ppm: int
    power_mw: int = 0
    temperature_c: int = 0


class SliceSampled(Fact, tag="telemetry.slice", frozen=True, kw_only=True):
    """One reading of a slice on one device. Counters are cumulative since the slice became live.

    ``inflight`` is how many launches were submitted and not known to be finished at that moment.
    """

    id: SliceId
    tenant: TenantName
    node: NodeName
    device_id: DeviceId
    vram_used_bytes: Bytes
    vram_peak_bytes: Bytes
    vram_limit_bytes: Bytes
    gpu_ns: Nanoseconds
    throttled_ns: Nanoseconds = 0
    launches: int = 0
    refusals: int = 0
    processes: int = 0
    share_ppm: int = 0
    source: str = "usage_region"
    copied_bytes: int = 0
    inflight: int = 0


class SloReported(Fact, tag="slo.report", frozen=True, kw_only=True):
    """What a workload, or whoever stands before it, measured over the last window.

    Latencies are those of the requests that ended in the window; ``ttft_ms`` and ``tpot_ms`` are their 99th percentiles.
    ``late``: so many of ``requests`` broke an objective of the slice's SLO; None: nobody counted. ``errors`` failed and
    ``refused`` were turned away before they began, neither of which is among ``requests``. ``queued`` waited and ``inflight``
    were being answered when the window ended. ``source``: who measured, such as ``gate``; empty: the workload itself.
    """

    id: SliceId
    window_s: float = 1.0
    requests: int = 0
    p99_ms: float | None = None
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    rate_hz: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    late: int | None = None
    errors: int = 0
    refused: int = 0
    queued: int = 0
    inflight: int = 0
    source: str = ""


class SloBreached(Fact, tag="slo.breached", frozen=True, kw_only=True):
    """A slice's promise is broken: ``observed`` against ``promised`` of ``objective``.

    ``burn_short`` and ``burn_long``: how many times faster than allowed the error budget was spent over ``short_s`` and
    ``long_s``; 0: not told.
    """

    id: SliceId
    objective: str
    observed: float
    promised: float
    burn_short: float = 0.0
    burn_long: float = 0.0
    short_s: float = 0.0
    long_s: float = 0.0


class SloActed(Fact, tag="slo.action", frozen=True, kw_only=True):
    """What the guard did about a breach of ``id``'s SLO, or in a dry run would have done.

    ``action_id`` names it, and what is measured of it later says it again. ``target``: the slice acted upon, ``id`` itself when
    empty. ``evidence`` is by what the target was found, each figure with its unit in its name; ``expected``: what it should
    bring.
    """

    id: SliceId
    action: str
    share_ppm: SharePpm | None = None
    control: Control | None = None
    message: str = ""
    action_id: str = ""
    target: str = ""
    evidence: dict[str, float] = {}
    expected: str = ""
    dry_run: bool = False


class SloMeasured(Fact, tag="slo.measured", frozen=True, kw_only=True):
    """What an action of the guard brought: ``objective`` of ``id`` was ``before`` and is ``after``.

    ``helped``: enough to keep it. ``undone``: what was done is taken back, because it did not help or is not needed any more.
    """

    id: SliceId
    action_id: str
    action: str
    target: str = ""
    objective: str = ""
    before: float = 0.0
    after: float = 0.0
    helped: bool = False
    undone: bool = False
    message: str = ""
