"""Where a slice is and why: the parts that facts and state documents share."""

from typing import Annotated

from msgspec import Meta, Struct, field

from mica.events._vocabulary import (
    PPM,
    Bytes,
    CpuMilli,
    DeviceId,
    HostBytes,
    Mode,
    Nanoseconds,
    NodeName,
    SharePpm,
    UnixNs,
    Vendor,
)


class WorkLimits(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What a slice may do at most on each of its devices, beside memory and share. A software mode enforces it.

    Left out: nothing is said (in ``slice.resize``: it stays). 0: no limit; of ``burst_ns``, the node's own. ``pinned_bytes`` is
    pinned host memory, ``inflight_max`` launches submitted and not finished, ``burst_ns`` how far it may run ahead of its share.
    ``ceiling_ppm``: what it may use of the device while others leave it idle, where that is more than its share.
    """

    pinned_bytes: Annotated[int, Meta(ge=0, le=(1 << 48) - 1)] | None = None
    launch_rate_hz: Annotated[int, Meta(ge=0, le=10_000_000)] | None = None
    inflight_max: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    copy_bytes_per_s: Annotated[int, Meta(ge=0, le=1 << 50)] | None = None
    burst_ns: Annotated[int, Meta(ge=0, le=1_000_000_000)] | None = None
    ceiling_ppm: Annotated[int, Meta(ge=0, le=PPM)] | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """The names of those that something is said about."""
        return tuple([name for name in self.__struct_fields__ if getattr(self, name) is not None])

    def changed_by(self, change: "WorkLimits") -> "WorkLimits":
        """These, with what ``change`` says put in their place."""
        given = change.given
        if not given and type(self) is WorkLimits:
            return self
        return WorkLimits(**{name: getattr(change if name in given else self, name) for name in self.__struct_fields__})


NO_LIMITS = WorkLimits()
"""Nothing is said."""


class AskedLimits(WorkLimits, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``WorkLimits`` in a command, where a typo must not pass in silence."""


NOTHING_ASKED = AskedLimits()
"""A command that says nothing about limits."""


class Partition(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A hardware partition: a catalogue profile over slots [start, start + size).

    ``uuid`` is the vendor's name of the living instance, empty until the enforcer has made it. ``layout``: it is there as long as
    the whole device is laid out so (``PartitionProfile.layout``), and is neither made nor destroyed by itself.
    """

    profile: str
    profile_id: int
    start: int
    size: int
    uuid: str = ""
    layout: str = ""


class Window(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A time slice: [offset, offset + length) of every period of CLOCK_MONOTONIC."""

    offset_ns: Nanoseconds
    length_ns: Nanoseconds
    period_ns: Nanoseconds


class Placement(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What one device gives to a slice: what was granted, which is never less than what was asked.

    ``cpu_milli`` and ``host_memory_bytes`` are what its node gives beside that.
    """

    node: NodeName
    device_id: DeviceId
    model: str
    vendor: Vendor
    mode: Mode
    vram_bytes: Bytes
    share_ppm: SharePpm
    partition: Partition | None = None
    window: Window | None = None
    limits: WorkLimits = NO_LIMITS
    cpu_milli: CpuMilli = 0
    host_memory_bytes: HostBytes = 0


class Alternative(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A device or a mode that was looked at and not taken, and why. ``terms``: as in ``Decision``, of one that fits."""

    node: NodeName
    device_id: DeviceId
    reason: str
    mode: Mode | None = None
    terms: dict[str, float] = field(default_factory=dict)


class Candidate(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A device in one mode, as a dry run sees it: what it would give, or why it would not.

    ``rank`` counts those that fit, the best first, from 1; ``waste`` is what of the device would be left unused beside, from 0
    on, by which those of one mode are told apart. ``switches``: the device would first be partitioned, or made whole.
    ``terms``: as in ``Decision``.
    """

    node: NodeName
    device_id: DeviceId
    model: str
    vendor: Vendor
    mode: Mode | None = None
    fits: bool = False
    chosen: bool = False
    rank: int = 0
    waste: float = 0.0
    vram_bytes: Bytes = 0
    share_ppm: int = 0
    partition: Partition | None = None
    window: Window | None = None
    switches: bool = False
    terms: dict[str, float] = field(default_factory=dict)
    reason: str = ""


class Decision(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The planner's reasoning: why this mode, why this device, and what else was looked at (at most 16).

    ``terms`` is what the place was weighed by. In software: ``useless_milli``, thousandths of a device that the requests to come
    can use no more; ``kept`` 1 where the place was kept for such requests, ``beside`` 1 where it was kept free of the places
    that are kept for others; ``left``, the parts of the device's memory and compute that stay free, added up. In hardware:
    ``unused``, the part of the device that the partition has too much; ``futures``, how many partitions stay possible.
    ``price`` where the pool has prices: an hour of it. ``size`` says what the size rests on where it was not simply asked for,
    ``stronger`` why the device does not hold the slice in a stronger mode. Of what is refused, the nearest come first.
    """

    summary: str
    size: str = ""
    stronger: str = ""
    terms: dict[str, float] = field(default_factory=dict)
    rejected: tuple[Alternative, ...] = ()


class WaitsFor(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What a queued request waits for.

    ``position`` of ``length`` is its place in the queue, 1 for the first; 0: not looked at yet. ``field`` is what stands in the
    way, ``asked`` what was asked of it and ``free_now`` what would have passed. ``victims`` are the slices that are evicted for
    it. ``change`` counts how often this was told anew.
    """

    position: int = 0
    length: int = 0
    field: str = ""
    asked: str = ""
    free_now: str = ""
    victims: tuple[str, ...] = ()
    change: int = 0


class Resizing(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A resize that may have to be given up. ``before``: where the slice stands again then; ``sequence``: of the command.

    ``until``: until when its processes may hold more than the new size, ``grace_s`` from the command on. ``allowed`` is why
    it was given up, and ``given`` what was asked; both empty as long as it was not.
    """

    before: tuple[Placement, ...]
    sequence: int
    grace_s: float = 30.0
    until: UnixNs = 0
    given: str = ""
    allowed: str = ""


class Loss(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A slice that was ready was taken off a node that is lost: why, and the last generation that it had there."""

    message: str
    generation: int
