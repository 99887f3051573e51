"""Policy documents: the values in the ``policy`` bucket, which operators write.

Invariant: what a policy leaves out has the default of its kind.
"""

from typing import Annotated

from msgspec import Meta, field

from mica.events._guarding import Guarding
from mica.events._overruns import Overruns
from mica.events._repacking import Repacking
from mica.events._rightsizing import Rightsizing
from mica.events._state import Document, TenantQuota
from mica.events._vocabulary import (
    DeviceId,
    IntruderAction,
    Mode,
    NodeLoss,
    Preemption,
    Seconds,
    Service,
    Severity,
    SpatialChoice,
    Switching,
    Tier,
    UnixNs,
)


class PoolPolicy(Document, frozen=True, kw_only=True):
    """``pool.<name>`` in the ``policy`` bucket. ``modes`` is what may be used there, all of them when empty.

    ``intruders`` is what becomes of processes without a slice. ``switching``: when idle devices are partitioned and made
    whole again. ``drain_at``: a device as sick as that gets no new slices and loses those it has, by tier. ``spatial`` is by
    which mechanism slices get a part of a device to themselves; MPS lets the fatal fault of one end its neighbours, so that
    slices of several tenants share a device by it only with ``mps_across_tenants``. ``preemption``: whose slices may be evicted
    there for a request that does not fit; with ``suspend`` those that can be are suspended instead, and come back.
    ``repacking``: whether, and which, slices are moved so that they need fewer devices. ``on_node_loss``: whose slices are placed
    elsewhere when their node is lost; ``loss_queue_s``: how long they may wait there.
    ``prices``: of an hour of a whole device, by model, in any currency; of places that are otherwise as good, the cheapest is
    taken. A model without one costs nothing. ``guard``: what the SLO guard may do there. ``overruns``: what becomes of work that
    stays on a device beyond its time.
    ``borrowers``: the tiers whose slices may use the windows that others leave idle on a time-sliced device.
    """

    modes: tuple[Mode, ...] = ()
    intruders: IntruderAction = IntruderAction.REPORT
    spatial: SpatialChoice = SpatialChoice.AUTO
    mps_across_tenants: bool = False
    switching: Switching = Switching.AUTO
    drain_at: Severity = Severity.FATAL
    preemption: Preemption = Preemption.SPOT
    on_node_loss: NodeLoss = NodeLoss.GUARANTEED
    loss_queue_s: Seconds = 60.0
    suspend: bool = True
    repacking: Repacking = Repacking()
    guard: Guarding = Guarding()
    prices: dict[str, Annotated[float, Meta(ge=0)]] = field(default_factory=dict)
    overruns: Overruns = Overruns()
    borrowers: tuple[Tier, ...] = (Tier.BURST, Tier.SPOT)


class NodePolicy(Document, frozen=True, kw_only=True):
    """``node.<name>`` in the ``policy`` bucket: what is given there holds on that node in place of its pool's policy.

    ``service``: whether the node takes slices; ``devices``: the same of single devices, of which the stricter of both holds.
    ``drain_grace_s``: how long programs may take to end when the node or device is drained; left out: by their slice's tier.
    """

    intruders: IntruderAction | None = None
    spatial: SpatialChoice | None = None
    mps_across_tenants: bool | None = None
    switching: Switching | None = None
    drain_at: Severity | None = None
    overruns: Overruns | None = None
    borrowers: tuple[Tier, ...] | None = None
    service: Service = Service.OPEN
    devices: dict[DeviceId, Service] = field(default_factory=dict)
    drain_grace_s: Seconds | None = None


class TenantPolicy(Document, frozen=True, kw_only=True):
    """``tenant.<t>`` in the ``policy`` bucket (``tenant._default`` for those without one).

    ``weight``: of two tenants that wait, the one with twice the weight gets twice as much of the fleet. ``rightsizing``: whether
    its slices are resized to what they use.
    """

    quota: TenantQuota = TenantQuota()
    mode: Mode | None = None
    commands_per_s: Annotated[int, Meta(ge=1)] | None = None
    weight: Annotated[float, Meta(gt=0, le=1000)] = 1.0
    rightsizing: Rightsizing = Rightsizing()


class GatePolicy(Document, frozen=True, kw_only=True):
    """``gate.<slice>`` in the ``policy`` bucket: the guardrails of the gates before that slice, each for itself.

    What is left out is as a gate was started. ``rate_hz``: requests a second, ``burst`` of them at once. ``concurrency``: so many
    are answered at a time; ``queue`` more wait, each for at most ``queue_timeout_s``. ``breaker``: whether there is one.
    """

    rate_hz: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    burst: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    concurrency: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    queue: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    queue_timeout_s: Seconds | None = None
    breaker: bool | None = None


class Clearances(Document, frozen=True, kw_only=True):
    """``health.<node>`` in the ``policy`` bucket: by device, up to when (``Trouble.at``) operators have settled its troubles."""

    cleared: dict[str, UnixNs] = field(default_factory=dict)
