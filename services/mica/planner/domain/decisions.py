"""What was decided, told: placements, why there, and why not elsewhere.

Invariant: what is told of a place is what it was weighed by.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

from mica.events import NO_LIMITS, Alternative, Decision, Mode, Placement
from mica.packing import Why
from mica.planner.domain.asks import Ask
from mica.planner.domain.blaming import Candidate, blame
from mica.planner.domain.claims import DeviceClaims
from mica.planner.domain.fleet import Fleet
from mica.planner.domain.gangs import why_not
from mica.planner.domain.hosting import host_words
from mica.planner.domain.misfits import Misfit, Refusal, size_text
from mica.planner.domain.packing import Fit
from mica.planner.domain.ranking import rank_of, worse

MAX_REJECTED: Final = 16
_HOW: Final = {
    Mode.HARDWARE: "a partition holds it in hardware",
    Mode.FCSP: "a shim enforces it and the device runs slices side by side",
    Mode.TIMESLICE: "the device runs one slice at a time",
}
_WHY_THERE: Final = {
    Why.KEPT: "a place that was kept for such requests",
    Why.BESIDE: "beside the places that are kept for other requests",
    Why.BEST: "where the rest stays most useful to others",
    None: "tightest fit",
}


class Placed(Struct, frozen=True):
    """Where it goes."""

    placements: tuple[Placement, ...]
    decision: Decision


class Unplaced(Struct, frozen=True):
    """Why it goes nowhere now. ``possible`` says that it would fit if others left."""

    refusal: Refusal
    decision: Decision
    possible: bool


def placement_of(node: str, claims: DeviceClaims, result: Fit, ask: Ask) -> Placement:
    """A fit as the events tell it, with the request's own limits and what a member takes of the node."""
    device = claims.device
    assert device is not None
    return Placement(
        node=node,
        device_id=device.id,
        model=device.model,
        vendor=device.vendor,
        mode=result.mode,
        vram_bytes=result.vram_bytes,
        share_ppm=result.share_ppm,
        partition=result.partition,
        window=result.window,
        limits=NO_LIMITS.changed_by(ask.own_limits),
        cpu_milli=ask.request.cpu_milli,
        host_memory_bytes=ask.request.host_memory_bytes,
    )


def placed(ask: Ask, chosen: list[Candidate], candidates: Iterable[Candidate], stronger: str) -> Placed:
    """The decision for ``chosen``.

    ``candidates`` are those that were looked at, the best first, the chosen ones among them or not; ``stronger`` says why it is
    not in a stronger mode there.
    """
    placements = tuple(
        placement_of(each.node.name, each.claims, each.result, ask) for each in chosen if isinstance(each.result, Fit)
    )
    taken = {(each.node.name, each.device_id) for each in chosen}
    others = (each for each in candidates if (each.node.name, each.device_id) not in taken)
    decision = Decision(
        summary=_summary(ask, chosen, placements),
        size=ask.size.reason,
        stronger=stronger,
        terms=terms_of(chosen[0]),
        rejected=tuple(_explain(ask, others, chosen)),
    )
    return Placed(placements, decision)


def terms_of(candidate: Candidate) -> dict[str, float]:
    """What a place that fits was weighed by, as ``Decision`` has it."""
    result = candidate.result
    if not isinstance(result, Fit):
        return {}
    terms = dict(zip(("unused", "futures") if result.mode is Mode.HARDWARE else ("left",), result.waste, strict=False))
    if candidate.useless_milli is not None and result.mode is not Mode.HARDWARE:
        terms["useless_milli"] = candidate.useless_milli
        terms |= {str(candidate.why): 1.0} if candidate.why in (Why.KEPT, Why.BESIDE) else {}
    if candidate.price:
        terms["price"] = candidate.price
    return {name: round(value, 4) for name, value in terms.items()}


def _summary(ask: Ask, chosen: list[Candidate], placements: tuple[Placement, ...]) -> str:
    first, winner = placements[0], chosen[0].result
    assert isinstance(winner, Fit)
    parts = [f"{first.mode} on {first.model} of node {first.node}: {_HOW[first.mode]}"]
    if winner.reason:
        parts.append(winner.reason)
    if len(placements) > 1:
        parts += _gang_words(chosen)
    if ask.affinity.wished:
        parts.append(ask.affinity.words(chosen[0].node, chosen[0].device_id))
    parts.append(f"{size_text(first.vram_bytes)} and {first.share_ppm} ppm granted, {_why_there(chosen[0])}")
    parts += [each for each in (host_words(ask.request), ask.size.reason) if each]
    return "; ".join(parts)


def _why_there(chosen: Candidate) -> str:
    """Why on that device, in a few words."""
    return _WHY_THERE[chosen.why if chosen.useless_milli is not None else None]


def _gang_words(chosen: list[Candidate]) -> Iterator[str]:
    """``4 of 8 devices, all pairs NV18, 450 GB/s each way``, for each node."""
    by_node: dict[str, list[Candidate]] = {}
    for each in chosen:
        by_node.setdefault(each.node.name, []).append(each)
    for name, members in by_node.items():
        node = members[0].node
        total = len(node.inventory.devices) if node.inventory is not None else 0
        words = node.connections.words([each.device_id for each in members])
        where = f" of node {name}" if len(by_node) > 1 else ""
        yield f"{len(members)} of {total} devices{where}" + (f", {words}" if words else "")
    yield f"no better-connected set fits{' on other nodes' if len(by_node) > 1 else ''}"


def _explain(ask: Ask, others: Iterable[Candidate], chosen: list[Candidate]) -> Iterator[Alternative]:
    theirs = rank_of(chosen[0], ask) if chosen else None
    for index, each in enumerate(others):
        if index == MAX_REJECTED:
            return
        result = each.result
        if isinstance(result, Misfit):
            reason = result.reason
        elif theirs is None:
            reason = "fits, but too few others of its kind on the node do"
        else:
            beside = [one.device_id for one in chosen if one.node is each.node]
            gang = len(chosen) > 1
            reason = (
                why_not(each.node.connections, beside, each.device_id) if gang and beside else worse(ask, each, chosen[0], theirs)
            )
        yield Alternative(node=each.node.name, device_id=each.device_id, reason=reason, mode=result.mode, terms=terms_of(each))


def unplaced(fleet: Fleet, ask: Ask, candidates: list[Candidate]) -> Unplaced:
    """The refusal, by what came nearest."""
    refusal, possible = blame(fleet, ask, candidates)
    nearest = sorted(candidates, key=lambda each: farness(each, refusal.field, possible=possible))
    decision = Decision(summary=refusal.message, size=ask.size.reason, rejected=tuple(_explain(ask, nearest, [])))
    return Unplaced(refusal, decision, possible)


def farness(candidate: Candidate, field: str, *, possible: bool) -> tuple[bool, bool, bool, int]:
    """How far a device is from holding a member, the nearest lowest: one that fits, then those that lack ``field``, by how much.

    ``possible``: it would fit somewhere if others left; then the devices where it would come before the others.
    """
    result = candidate.result
    if isinstance(result, Fit):
        return False, False, False, 0
    return True, result.field != field, possible and not result.possible, -result.now
