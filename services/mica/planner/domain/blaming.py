"""Which field of a request stands in the way.

Invariant: what is blamed is what came nearest: a gang that is too large before a size, a size before a device's state; of the
sizes those first that a node is short of, since all else fits there.
"""

from collections.abc import Iterable

from msgspec import Struct

from mica.packing import Why
from mica.planner.domain.asks import Ask
from mica.planner.domain.claims import DeviceClaims
from mica.planner.domain.fleet import Fleet, NodeState
from mica.planner.domain.hosting import HOST_FIELDS
from mica.planner.domain.misfits import Misfit, Refusal
from mica.planner.domain.packing import Fit
from mica.sizing import promise_text

SIZES = (*HOST_FIELDS, "vram_bytes", "share_ppm")


class Candidate(Struct, frozen=True):
    """A device, how one member would sit on it or why not, and what speaks for it."""

    node: NodeState
    claims: DeviceClaims
    result: Fit | Misfit
    why: Why | None = None
    useless_milli: float | None = None
    """What of the fleet the work to come can use no more, in thousandths of a device; None where that was not worked out."""
    price: float = 0.0
    """An hour of it."""

    @property
    def place(self) -> tuple[NodeState, DeviceClaims]:
        """Where it is."""
        return self.node, self.claims

    @property
    def device_id(self) -> str:
        """The device's id, while the inventory has it."""
        return self.claims.device.id if self.claims.device is not None else ""


def alike(candidates: Iterable[Candidate]) -> dict[tuple[str, str, str], list[Candidate]]:
    """Those that fit, by what the members of a gang have in common on a node: the node, the model, the mode."""
    groups: dict[tuple[str, str, str], list[Candidate]] = {}
    for candidate in candidates:
        if isinstance(candidate.result, Fit) and candidate.claims.device is not None:
            key = (candidate.node.name, candidate.claims.device.model, candidate.result.mode)
            groups.setdefault(key, []).append(candidate)
    return groups


def blame(fleet: Fleet, ask: Ask, candidates: list[Candidate]) -> tuple[Refusal, bool]:
    """The field that stands in the way on the devices that came nearest, and whether it would fit if others left."""
    request = ask.request
    if request.pool is not None and request.pool not in fleet.pools():
        return Refusal("pool", request.pool, _one_of(fleet.pools(), "no pool has a node")), False
    misfits = [each.result for each in candidates if isinstance(each.result, Misfit)]
    fits = len(candidates) - len(misfits)
    if fits:
        return _blame_gang(ask, candidates)
    sized = [each for each in misfits if each.field in SIZES]
    if sized:
        return _blame_size(ask, sized, possible=_gang_possible(candidates, ask))
    for field in ("slo", "health", "node", "near", "apart", "device_id", "limits", "mode", "runtime"):
        blamed = [each for each in misfits if each.field == field]
        if blamed:
            possible = any(each.possible for each in blamed)
            return Refusal(field, _given(ask, field), _allowed(ask, field, blamed, fleet)), possible
    return _blame_make(fleet, ask), False


def _blame_make(fleet: Fleet, ask: Ask) -> Refusal:
    """No device is of the make that is asked for."""
    request = ask.request
    known = [each.device for node, each in fleet.devices() if each.device is not None and request.pool in (None, node.pool)]
    vendors = sorted({device.vendor for device in known})
    if request.vendor is not None and request.vendor not in vendors:
        return Refusal("vendor", request.vendor, _one_of(vendors, "no device is known"))
    if request.models and known:
        models = sorted({device.model for device in known if request.vendor in (None, device.vendor)})
        return Refusal("models", ", ".join(request.models), _one_of(models, "no device is known"))
    return Refusal("devices", str(request.devices), "no device is known")


def _blame_size(ask: Ask, sized: list[Misfit], *, possible: bool) -> tuple[Refusal, bool]:
    wanted = [each for each in sized if each.possible] if possible else sized
    about = wanted or sized
    field = next(each for each in SIZES if any(each == misfit.field for misfit in about))
    about = [each for each in about if each.field == field]
    if possible:
        return Refusal(field, _size_given(ask, field), f"at most {max(each.now for each in about)} now"), True
    return Refusal(field, _size_given(ask, field), f"at most {max(each.ever for each in about)}"), False


def _size_given(ask: Ask, field: str) -> str:
    request, share_ppm = ask.request, ask.size.share_ppm or "the same part as of the memory"
    sizes = (request.cpu_milli, request.host_memory_bytes, ask.size.vram_bytes, share_ppm)
    return str(dict(zip(SIZES, sizes, strict=True))[field])


def _blame_gang(ask: Ask, candidates: list[Candidate]) -> tuple[Refusal, bool]:
    """Members fit, but not enough of them beside each other."""
    groups = alike(candidates).values()
    possible = _gang_possible(candidates, ask)
    when = "now" if possible else "in all"
    each_has = ask.members // ask.nodes
    if ask.nodes > 1:
        enough = sum(len(group) >= each_has for group in groups)
        allowed = f"at most {enough} nodes with {each_has} devices alike {when}"
        return Refusal("nodes", str(ask.nodes), allowed), possible
    most = max(len(group) for group in groups)
    return Refusal("devices", str(ask.members), f"at most {most} alike on one node {when}"), possible


def _gang_possible(candidates: Iterable[Candidate], ask: Ask) -> bool:
    """Whether enough nodes have enough devices of one model that would hold a member if others left."""
    able: dict[tuple[str, str], set[str]] = {}
    for each in candidates:
        device = each.claims.device
        if device is not None and (isinstance(each.result, Fit) or each.result.possible):
            able.setdefault((each.node.name, device.model), set()).add(device.id)
    return len({node for (node, _), ids in able.items() if len(ids) >= ask.members // ask.nodes}) >= ask.nodes


def _given(ask: Ask, field: str) -> str:
    request = ask.request
    given = {
        "mode": request.mode or ask.pins.tenant_mode,
        "runtime": request.runtime,
        "limits": ", ".join(ask.own_limits.given),
        "slo": promise_text(request.slo) if request.slo is not None else None,
        "near": request.near,
        "apart": request.apart,
        "device_id": ask.device_id,
    }
    return str(given.get(field, ask.node) or "any")


def _allowed(ask: Ask, field: str, blamed: list[Misfit], fleet: Fleet) -> str:
    if field == "mode":
        pinned = [sorted(ask.modes(node.pool)) for node, _ in fleet.devices()]
        if not any(pinned):
            return "a mode that the policies of the pool and of the tenant leave"
        return f"what a device offers ({'; '.join(sorted({each.reason for each in blamed})[:4])})"
    return "; ".join(sorted({each.reason for each in blamed})[:4])


def _one_of(names: Iterable[str], otherwise: str) -> str:
    listed = ", ".join(names)
    return f"one of {listed}" if listed else otherwise
