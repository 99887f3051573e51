"""One decision on what is known now: placing, and the tenant's quota. Invariant: nothing is written or reserved."""

from collections.abc import Set as AbstractSet

from msgspec.structs import replace

from mica.events import Decision, Phase, Placement, RequestSlice, SliceRecord
from mica.planner.desk import Desk
from mica.planner.domain.affinity import affinity_of
from mica.planner.domain.misfits import Refusal
from mica.planner.domain.placing import Ask, Pins, Placed, Unplaced, decide
from mica.planner.domain.quotas import holding_of, over_quota
from mica.planner.domain.sizing import Size, size_of, with_stored


def pins_of(desk: Desk, tenant: str) -> Pins:
    """What policies and leases say now."""
    policies = desk.policies
    return Pins(now_ns=desk.now_ns(), tenant_mode=policies.tenant(tenant).mode, pools=policies.pools, nodes=policies.nodes)


def sized(desk: Desk, request: RequestSlice) -> Size | Refusal:
    """How much the request needs, by the profile that is stored now where it names one."""
    complete = with_stored(request, desk.policies.profiles)
    return complete if isinstance(complete, Refusal) else size_of(complete)


def sized_now(desk: Desk, record: SliceRecord) -> Size | Refusal:
    """How much it needs by its request and by what it was resized to since."""
    size = sized(desk, record.request)
    if isinstance(size, Refusal):
        return Size(record.vram_bytes, record.share_ppm or None) if record.vram_bytes else size
    if not record.vram_bytes and not record.share_ppm:
        return size
    vram_bytes, share_ppm = record.vram_bytes or size.vram_bytes, record.share_ppm or size.share_ppm
    return Size(vram_bytes, share_ppm, size.reason, {} if record.share_ppm else size.shares)


def ask_of(desk: Desk, record: SliceRecord, size: Size, excluded: AbstractSet[str] = frozenset()) -> Ask:
    """What a request asks for under the policies in force; ``excluded`` are devices that failed to hold it."""
    request = record.request
    pins = pins_of(desk, request.tenant)
    affinity = affinity_of(request, desk.fleet.group(request, but=record.id), _partner(desk, record))
    return Ask(
        id=record.id, request=request, size=size, pins=pins, members=request.devices, excluded=excluded, affinity=affinity,
        limits=record.own_limits,
    )  # fmt: skip


def _partner(desk: Desk, record: SliceRecord) -> tuple[Placement, ...]:
    """Where the slice is that the request wants to be near, as ``Desk.load_partner`` has read it."""
    entry = desk.records.cached(record.request.near) if record.request.near is not None else None
    if entry is None or entry.value.phase is not Phase.PLACED or entry.value.request.tenant != record.request.tenant:
        return ()
    return entry.value.placements


def decided(desk: Desk, ask: Ask) -> Placed | Unplaced:
    """Where it would go, unless its tenant may not have that or the request contradicts itself.

    What was assumed for the size is said either way.
    """
    refusal = malformed(ask)
    if refusal is not None:
        return Unplaced(refusal, Decision(summary=refusal.message), possible=False)
    outcome = decide(desk.fleet, ask)
    if isinstance(outcome, Placed):
        tenant = ask.request.tenant
        holdings, quota = desk.tenants.of(tenant).value, desk.policies.tenant(tenant).quota
        refusal = over_quota(holdings, ask.id, holding_of(outcome.placements), quota)
        if refusal is not None:
            return Unplaced(refusal, Decision(summary=refusal.message), possible=False)
    elif ask.size.reason:
        said = replace(outcome.decision, summary=f"{outcome.decision.summary}; {ask.size.reason}")
        return Unplaced(outcome.refusal, said, outcome.possible)
    return outcome


def malformed(ask: Ask) -> Refusal | None:
    """What the request's own fields say against each other, or of a slice that is not there."""
    request = ask.request
    if request.devices % request.nodes:
        return Refusal("nodes", str(request.nodes), f"a number that divides devices, {request.devices}")
    if request.near == ask.id:
        return Refusal("near", ask.id, "another slice")
    if request.near is not None and not ask.affinity.near:
        return Refusal("near", request.near, f"the id of a slice of tenant {request.tenant} that is placed")
    if request.near_within is not None and request.near is None:
        return Refusal("near_within", request.near_within, "nothing, where near names no slice")
    return None
