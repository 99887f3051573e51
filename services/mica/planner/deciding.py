"""One decision on what is known now: placing, and the tenant's quota. Invariant: nothing is written or reserved."""

from collections.abc import Set as AbstractSet

from msgspec.structs import replace

from mica.events import Decision, RequestSlice, SliceRecord
from mica.planner.desk import Desk
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


def ask_of(desk: Desk, record: SliceRecord, size: Size, excluded: AbstractSet[str] = frozenset()) -> Ask:
    """What a request asks for under the policies in force; ``excluded`` are devices that failed to hold it."""
    request = record.request
    pins = pins_of(desk, request.tenant)
    return Ask(id=record.id, request=request, size=size, pins=pins, members=request.devices, excluded=excluded)


def decided(desk: Desk, ask: Ask) -> Placed | Unplaced:
    """Where it would go, unless its tenant may not have that. What was assumed for the size is said either way."""
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
