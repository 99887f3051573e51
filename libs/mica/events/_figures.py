"""Facts that are figures: what was measured of devices, slices and promises, and what followed from it.

Invariant: as of all facts: unknown fields are tolerated, and a new field has a default.
"""

from msgspec import field

from mica.events._facts import Fact
from mica.events._vocabulary import (
    BreakerState,
    Bytes,
    Control,
    DeviceId,
    Nanoseconds,
    NodeName,
    SharePpm,
    SliceId,
    TenantName,
)


class DeviceSampled(Fact, tag="telemetry.device", frozen=True, kw_only=True):
    """One reading of a device's own counters.

    Of a time-sliced device also what the change from one slice's window to the next costs, as the shims saw it so far:
    ``switch_ns`` after its window opened the first work of a slice began that waited for it, ``switch_late_ns`` after its end
    the last of a slice's work was still there (both means over the last few), and ``switches`` were timed.
    """

    node: NodeName
    device_id: DeviceId
    vram_used_bytes: Bytes
    vram_total_bytes: Bytes
    utilisation_ppm: int
    power_mw: int = 0
    temperature_c: int = 0
    switches: int = 0
    switch_ns: Nanoseconds = 0
    switch_late_ns: Nanoseconds = 0


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
    were being answered when the window ended, ``overdue`` of the latter for longer than was promised already. ``source``: who
    measured, such as ``gate``; empty: the workload itself.
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
    overdue: int = 0
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
    evidence: dict[str, float] = field(default_factory=dict)
    expected: str = ""
    dry_run: bool = False


class SloTripped(Fact, tag="slo.tripped", frozen=True, kw_only=True):
    """The circuit breaker before slice ``id`` is ``state`` from now on, because of ``reason``.

    Of the ``requests`` that ended in the ``window_s`` before, ``errors`` failed; ``crowded`` more found the queue full or waited
    in it for too long. ``queued`` wait and ``inflight`` are being answered now. ``source``: whose breaker it is.
    """

    id: SliceId
    state: BreakerState
    reason: str = ""
    window_s: float = 0.0
    requests: int = 0
    errors: int = 0
    crowded: int = 0
    queued: int = 0
    inflight: int = 0
    source: str = "gate"


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


class SloIgnored(Fact, tag="slo.ignored", frozen=True, kw_only=True):
    """Reports that the guard did not look at, for one ``reason``, within the last ``seconds``. The subject ends in ``reason``.

    ``slices``: how many of them named which slice, of those that did so most; ``example``: what one of them held.
    """

    reason: str
    count: int
    seconds: float = 0.0
    slices: dict[str, int] = field(default_factory=dict)
    example: str = ""
