"""State documents: the values under the keys of the ``mica`` KV bucket, each with one writer.

Invariant: a document is replaced whole, by compare-and-set, and only by the service named in its docstring.
"""

from typing import Annotated

from msgspec import Meta, Struct, field

from mica.events._commands import Profile, RequestSlice
from mica.events._placement import NO_LIMITS, Decision, Loss, Partition, Placement, Resizing, WaitsFor, Window, WorkLimits
from mica.events._vocabulary import (
    Bytes,
    Control,
    CpuMilli,
    DeviceId,
    Health,
    HostBytes,
    LinkKind,
    Mode,
    Nanoseconds,
    NodeName,
    ObservedState,
    Phase,
    PoolName,
    Reach,
    Runtime,
    Severity,
    SliceId,
    TenantName,
    Tier,
    UnixNs,
    Vendor,
)


class Document(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Base of all state documents."""


class PartitionProfile(Document, frozen=True, kw_only=True):
    """A hardware profile that a device offers, with the slots at which it may start.

    ``multiprocessors`` are the vendor's compute units. ``needs``: what it takes of the device's ``budgets``, beside slots and
    compute slices. Partitions of different ``layout`` are never on one device at a time: all those of a layout but ``""``
    come and go together, as the device is laid out (AMD's compute partitions, Intel's virtual functions). ``shared``: devices
    of one ``group`` that are partitioned at the same time have the same (AMD's memory mode in a hive, Ascend's template
    family on a server).
    """

    name: str
    profile_id: int
    size: int
    starts: tuple[int, ...]
    vram_bytes: Bytes
    compute_slices: int
    multiprocessors: int
    max_instances: int
    layout: str = ""
    shared: str = ""
    needs: dict[str, int] = field(default_factory=dict)


class Trouble(Document, frozen=True, kw_only=True):
    """Something that is wrong with a device. ``kind`` and ``code``: as in ``NodeHealthChanged``; ``at``: when it was found.

    ``lasting``: it is over when the device's library no longer says it. Else it has happened, and stays until the device is
    reset, the machine starts anew or an operator clears it.
    """

    kind: str
    severity: Severity
    message: str
    code: int = 0
    lasting: bool = False
    at: UnixNs = 0


class Device(Document, frozen=True, kw_only=True):
    """One accelerator, as its vendor's library describes it.

    ``vram_bytes`` is what tenants can use in all; ``reserve_bytes`` of it is kept back for the driver. ``mps_pipe`` is the
    directory at which an MPS control daemon answers, empty without one; ``green_contexts``: the driver and the device have
    them. ``opencl_id`` is what OpenCL's layer calls it, where that is another name than ``id``. ``subdevices_max``: into how
    many sub-devices of any number of its units OpenCL divides it at once, 0 where it does not; ``subdevices_whole``: they can
    do all that the device can. ``partitioned``: it is carved in hardware now and can't be used whole. ``profiles`` are what
    it offers when it is (also while it is not, where that is known). ``switchable``: while nobody uses it, it can be
    partitioned, and made whole again; ``hardware_refusal`` says why it can't. ``budgets``: what partitions share beside slots
    and compute slices. ``group``: devices with which it has something in common that holds for all
    (``PartitionProfile.shared``). ``pcie_path``: the PCI addresses of the bridges above it, the root port first.
    ``suspends``: its driver can take the memory of processes off it and bring it back (``suspend_refusal``: why not).
    ``warnings``: what is odd about it, such as a library that contradicts the catalogue. ``message``: why it is not in
    health; ``troubles``: all that is wrong with it.
    """

    id: DeviceId
    index: int
    vendor: Vendor
    model: str
    vram_bytes: Bytes
    reserve_bytes: Bytes = 0
    multiprocessors: int = 0
    compute_capability: tuple[int, int] | None = None
    partitioned: bool = False
    profiles: tuple[PartitionProfile, ...] = ()
    compute_slices: int = 0
    runtimes: tuple[Runtime, ...] = ()
    pci_bus_id: str = ""
    numa_node: int = -1
    health: Health = Health.HEALTHY
    simulated: bool = False
    mps_pipe: str = ""
    green_contexts: bool = False
    opencl_id: str = ""
    subdevices_max: int = 0
    subdevices_whole: bool = False
    switchable: bool = False
    hardware_refusal: str = ""
    budgets: dict[str, int] = field(default_factory=dict)
    group: str = ""
    pcie_path: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    suspends: bool = False
    suspend_refusal: str = ""
    message: str = ""
    troubles: tuple[Trouble, ...] = ()


class Link(Document, frozen=True, kw_only=True):
    """Two devices of a node reach each other over ``lanes`` links, with ``bytes_per_s`` each way in all (0: not known)."""

    a: DeviceId
    b: DeviceId
    kind: LinkKind
    lanes: int = 1
    bytes_per_s: Bytes = 0


class Site(Document, frozen=True, kw_only=True):
    """What a node is: a cloud's instance or somebody's own machine. All of it is found without the internet; empty: not known.

    ``cloud`` is ``aws``, ``azure``, ``gcp`` and the like, empty on-premises; ``source`` says where the rest was read.
    """

    cloud: str = ""
    instance_type: str = ""
    region: str = ""
    zone: str = ""
    product: str = ""
    air_gapped: bool = False
    source: str = ""


class Inventory(Document, frozen=True, kw_only=True):
    """``inventory.<node>``: the devices of a node. Writer: discovery. ``warnings`` are about the node; devices have their own.

    ``cpu_milli`` and ``host_memory_bytes`` are what slices may have in all of the node's own processors and memory; 0: not known,
    and not limited.
    """

    node: NodeName
    pool: PoolName
    boot_id: str
    devices: tuple[Device, ...]
    links: tuple[Link, ...] = ()
    site: Site = Site()
    warnings: tuple[str, ...] = ()
    cpu_milli: Annotated[int, Meta(ge=0)] = 0
    host_memory_bytes: Bytes = 0


class SliceRecord(Document, frozen=True, kw_only=True):
    """``slice.<id>``: the slice's one record. Writer: planner.

    ``sequence`` is the stream sequence of the last command applied, tombstones included: an older command is void.
    ``nominated`` is the place that slices are evicted for: while the request is queued, nothing else is placed on its devices.
    ``evicted``: it leaves because it was evicted; ``again``: and goes on elsewhere then. ``ready_generation`` is used for slices
    over several nodes only: the last generation that was in force on all of them. ``grace_s``: how long processes may stay on
    the device that the last move took the slice from; ``moved_generation``: the generation with which that began.
    ``control_sequence``, ``size_sequence``: the commands that have set its control word, and its size and limits, last; 0: none
    has. ``resizing``: the last resize, while it may be given up. ``vram_bytes``, ``share_ppm`` and ``own_limits``: what resizes
    have made of what was requested, 0 and None where nothing. ``lost``: it was ready, and lost its place, or has another.

    ``suspended``: it holds nothing of its placements' devices until it is back; its work may take ``lock_s`` to finish.
    ``resumes``: it comes back as soon as there is room; ``unsuspendable``: why it could not be suspended when last tried.
    """

    id: SliceId
    request: RequestSlice
    phase: Phase
    generation: int
    sequence: int
    request_sequence: int
    placements: tuple[Placement, ...] = ()
    decision: Decision | None = None
    control: Control = Control.RUN
    message: str = ""
    field: str = ""
    given: str = ""
    allowed: str = ""
    until: UnixNs = 0
    traceparent: str = ""
    updated_at: UnixNs = 0
    waits_for: WaitsFor = WaitsFor()
    nominated: tuple[Placement, ...] = ()
    evicted: bool = False
    again: bool = False
    ready_generation: int = 0
    grace_s: float = 5.0
    moved_generation: int = 0
    control_sequence: int = 0
    size_sequence: int = 0
    resizing: Resizing | None = None
    vram_bytes: Bytes = 0
    share_ppm: int = 0
    own_limits: WorkLimits | None = None
    lost: Loss | None = None
    suspended: bool = False
    resumes: bool = False
    lock_s: float = 5.0
    unsuspendable: str = ""


class Holding(Document, frozen=True, kw_only=True):
    """What one slice charges to its tenant, summed over its devices."""

    vram_bytes: Bytes
    share_ppm: int


class TenantQuota(Document, frozen=True, kw_only=True):
    """The most a tenant may hold across the fleet. ``None`` means no limit."""

    slices: Annotated[int, Meta(ge=0)] | None = None
    vram_bytes: Bytes | None = None
    share_ppm: Annotated[int, Meta(ge=0)] | None = None


class TenantHoldings(Document, frozen=True, kw_only=True):
    """``tenant.<t>``: what a tenant holds, by slice. Writer: planner."""

    tenant: TenantName
    holdings: dict[str, Holding] = field(default_factory=dict)


class LedgerEntry(Document, frozen=True, kw_only=True):
    """What one device is to give to one slice. ``generation`` is the slice's.

    ``nodes``: over how many nodes the slice is; of more than one the planner says when it is ready, resized and gone. ``apart``,
    ``apart_within`` and ``apart_strict`` are the request's. ``cpu_milli`` and ``host_memory_bytes``: what it has of
    the node's own beside the device. ``again``: it was ready before, on a node that was lost, so that it is not told ready
    a second time.

    ``away_vram_bytes`` and ``away_share_ppm``: of a suspended slice, which has nothing of the device, what it comes back to;
    ``host_memory_bytes`` has that memory in it.
    """

    id: SliceId
    tenant: TenantName
    generation: int
    tier: Tier
    mode: Mode
    vram_bytes: Bytes
    share_ppm: int
    priority: int = 50
    control: Control = Control.RUN
    partition: Partition | None = None
    window: Window | None = None
    limits: WorkLimits = NO_LIMITS
    runtime: Runtime = Runtime.CUDA
    uid: int | None = None
    traceparent: str = ""
    nodes: int = 1
    apart: str = ""
    apart_within: Reach = Reach.DEVICE
    apart_strict: bool = True
    cpu_milli: CpuMilli = 0
    host_memory_bytes: HostBytes = 0
    again: bool = False
    away_vram_bytes: Bytes = 0
    away_share_ppm: int = 0
    lock_s: float = 5.0

    @property
    def suspended(self) -> bool:
        """Whether it is to hold nothing of the device now."""
        return self.away_vram_bytes > 0


class Departure(Document, frozen=True, kw_only=True):
    """How a slice that is no longer in the ledger is to end: by ``slice.released`` or ``slice.evicted``.

    ``generation`` is the slice's; ``ledger_generation`` is that of the write that took it out. ``nodes``: see ``LedgerEntry``.
    ``again``: it is to be placed elsewhere, and the planner says what becomes of it, not the enforcer.
    """

    tenant: TenantName
    generation: int
    ledger_generation: int = 0
    grace_s: float = 5.0
    evicted: bool = False
    message: str = ""
    traceparent: str = ""
    nodes: int = 1
    again: bool = False


class Held(Document, frozen=True, kw_only=True):
    """What a slice had until ledger generation ``generation``: not sold again before the enforcer has applied that.

    Of several changes that are not confirmed it is the most that any of them left behind. ``grace_s``: where the slice was moved
    away, how long its processes may stay there; where it has less memory now, how long they may hold more:
    until ``until`` by the planner's clock (0: without an end).
    """

    entry: LedgerEntry
    generation: int
    grace_s: float = 5.0
    until: UnixNs = 0


class Ledger(Document, frozen=True, kw_only=True):
    """``ledger.<node>``: the desired state of a node's devices. Writer: planner.

    ``generation`` grows by one with every write. ``devices`` maps device id to slice id to entry. ``departures``
    holds the slices that were taken out and are still in ``observed``. ``held`` and ``fenced`` are the planner's own
    notes: by device and slice what was taken away and not yet confirmed (the enforcer reads there how long the processes of a
    slice that moved may stay), and by slice the generation up to which it may no longer be entered here.
    """

    node: NodeName
    generation: int = 0
    devices: dict[str, dict[str, LedgerEntry]] = field(default_factory=dict)
    departures: dict[str, Departure] = field(default_factory=dict)
    held: dict[str, dict[str, Held]] = field(default_factory=dict)
    fenced: dict[str, int] = field(default_factory=dict)


class ObservedSlice(Document, frozen=True, kw_only=True):
    """What one device really gives to one slice, and what the slice still holds of it.

    ``away_bytes``: of a suspended slice, what its processes have on the host instead. ``refused``: the generation that asked for
    it to be suspended, in vain; ``message`` says why.
    ``restraint``: it may do no more than that now, because a process of its overruns its time.
    """

    generation: int
    state: ObservedState
    mode: Mode
    vram_bytes: Bytes
    share_ppm: int
    vram_used_bytes: Bytes = 0
    partition: Partition | None = None
    window: Window | None = None
    message: str = ""
    away_bytes: Bytes = 0
    refused: int = 0
    restraint: Control = Control.RUN


class Observed(Document, frozen=True, kw_only=True):
    """``observed.<node>``: what is. Writer: the node's enforcer.

    ``generation`` is the last ledger generation that was applied whole. The node owns its slices until
    ``lease_until``; nobody places them elsewhere before that.
    """

    node: NodeName
    boot_id: str
    generation: int = 0
    lease_until: UnixNs = 0
    devices: dict[str, dict[str, ObservedSlice]] = field(default_factory=dict)


class Usage(Document, frozen=True, kw_only=True):
    """What a slice has used since it became live; the base of every bill.

    ``counters`` holds, by device, the cumulative GPU-ns last read there: what a restart goes on from.
    """

    tenant: TenantName
    gpu_ns: Nanoseconds = 0
    vram_byte_s: Annotated[float, Meta(ge=0)] = 0.0
    since: UnixNs = 0
    last_seen: UnixNs = 0
    counters: dict[str, Nanoseconds] = field(default_factory=dict)


class UsageLedger(Document, frozen=True, kw_only=True):
    """``usage.<node>``: by slice id, what was used on that node. Writer: telemetry."""

    node: NodeName
    slices: dict[str, Usage] = field(default_factory=dict)


class StoredProfile(Profile, Document, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """``profile.<name>`` in the policy bucket: a profile that requests name. Writer: whoever profiles, by compare-and-set.

    Its own ``name`` is not used.
    """
