"""In which order places that fit are preferred.

Invariant: the lowest rank is taken, and a place is told to be worse by the first part of the rank in which it is.
"""

from collections.abc import Iterable
from typing import Final

from mica.events import Mode
from mica.packing import Why
from mica.planner.domain.affinity import Cost
from mica.planner.domain.asks import Ask
from mica.planner.domain.blaming import Candidate
from mica.planner.domain.claims import DeviceClaims
from mica.planner.domain.modes import has_stronger, would_switch
from mica.planner.domain.nodes import NodeState
from mica.planner.domain.packing import PPM, Fit
from mica.planner.domain.sorts import usable

STRENGTH: Final = {mode: rank for rank, mode in enumerate(Mode)}
ALIKE: Final = "fits as well; comes later in the fleet"
LAST: Final = 5
"""The part of the rank that boards may overrule: what is left."""
Rank = tuple[int, Cost, bool, bool, float, tuple[float, ...]]


def rank(node: NodeState, claims: DeviceClaims, result: Fit, ask: Ask) -> Rank:
    """The lowest is taken.

    The strongest mode, what is wished, no stronger mode to lose, a device as it is, the price, the least waste.
    """
    device = claims.device
    cost = ask.affinity.cost(node, device) if ask.affinity.wished and device is not None else ()
    stronger = device is not None and has_stronger(device, result.mode)
    switches = would_switch(claims, result.mode)
    return STRENGTH[result.mode], cost, stronger, switches, price_of(ask, node, claims, result), result.waste


def rank_of(candidate: Candidate, ask: Ask) -> Rank:
    """That of a candidate that fits."""
    assert isinstance(candidate.result, Fit)
    return rank(candidate.node, candidate.claims, candidate.result, ask)


def price_of(ask: Ask, node: NodeState, claims: DeviceClaims, result: Fit) -> float:
    """What a place costs an hour by its pool's prices: the larger part of the device's memory and compute, of its price."""
    device = claims.device
    price = ask.pins.pool(node.pool).prices.get(device.model, 0.0) if device is not None else 0.0
    return price * max(result.vram_bytes / usable(device), result.share_ppm / PPM) if device is not None and price else 0.0


def preference(candidate: Candidate, ask: Ask) -> tuple[object, ...]:
    """The order in which people are told of places that fit: as ``rank``, with what boards say before the tightness."""
    *before, waste = rank_of(candidate, ask)
    useless = candidate.useless_milli
    return (*before, float("inf") if useless is None else useless, waste)


def best_first(ask: Ask, candidates: Iterable[Candidate]) -> list[Candidate]:
    """Those that fit by preference, then the others as they were."""
    fitting: list[Candidate] = []
    others: list[Candidate] = []
    for each in candidates:
        (fitting if isinstance(each.result, Fit) else others).append(each)
    return [*sorted(fitting, key=lambda each: preference(each, ask)), *others]


def worse(ask: Ask, each: Candidate, chosen: Candidate, theirs: Rank) -> str:
    """What speaks against a place that fits: the first part of the rank in which it differs from ``theirs``, the chosen one's."""
    ours = rank_of(each, ask)
    part = next((at for at, (mine, other) in enumerate(zip(ours, theirs, strict=True)) if mine != other), LAST)
    if part == LAST:
        return _leaves(each, chosen)
    if ours < theirs:
        return ALIKE
    partitioned = each.result.mode is Mode.HARDWARE
    return (
        f"fits, but only in {each.result.mode}, which is weaker than {chosen.result.mode}",
        f"fits, but {_wishes(ask)}",
        "fits, but would be carved in time, and it can be carved in space",
        f"fits, but would first have to be {'partitioned' if partitioned else 'made whole'}",
        f"fits, and costs {ours[4]:.4g} an hour in place of {theirs[4]:.4g}",
    )[part]


def _wishes(ask: Ask) -> str:
    """What of its wishes a request would get less of."""
    affinity = ask.affinity
    near = [f"is further from slice {affinity.near_id}"] if affinity.near else []
    return " or ".join([*near, *([f"has more of group {affinity.apart} beside it"] if affinity.apart else [])])


def _leaves(each: Candidate, chosen: Candidate) -> str:
    """Of places that are otherwise alike: what they would leave."""
    if each.useless_milli is not None and chosen.useless_milli is not None:
        return _makes_useless(each.useless_milli - chosen.useless_milli, chosen)
    ours, theirs = _waste(each), _waste(chosen)
    if ours <= theirs:
        return ALIKE
    if each.result.mode is not Mode.HARDWARE:
        return "fits less tightly"
    if ours[0] > theirs[0]:
        return f"fits, but {100 * (ours[0] - theirs[0]):.1f}% more of the device would be in the partition and not asked for"
    return "fits, but is the emptier device: more partitions stay possible there"


def _makes_useless(more_milli: float, chosen: Candidate) -> str:
    if more_milli >= 1:
        return f"fits, but leaves {more_milli / 1000:.3f} of a device more that is of no use to the requests to come"
    if more_milli > 0:
        return "fits, but leaves slightly more that is of no use to the requests to come"
    if chosen.why is Why.KEPT:
        return "fits, but another place was kept for such requests"
    return "fits, and is kept for other requests" if chosen.why is Why.BESIDE else ALIKE


def _waste(candidate: Candidate) -> tuple[float, ...]:
    return candidate.result.waste if isinstance(candidate.result, Fit) else ()
