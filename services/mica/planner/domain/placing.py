"""Where a slice goes, and why there and not elsewhere.

Invariant: ``decide`` changes nothing; equal fleets and equal asks give equal answers, and the strongest mode that fits wins
before the tightest device does.
"""

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Final

from msgspec import Struct

from mica.events import (
    NO_LIMITS,
    Alternative,
    Decision,
    Device,
    Mode,
    Placement,
)
from mica.planner.domain.affinity import Cost
from mica.planner.domain.asks import Ask, Pins
from mica.planner.domain.blaming import Candidate, alike, blame
from mica.planner.domain.claims import DeviceClaims
from mica.planner.domain.draining import health_text, is_sick
from mica.planner.domain.fleet import Fleet, NodeState
from mica.planner.domain.gangs import Offer, OnNode, best_nodes, choose, why_not
from mica.planner.domain.hosting import host_words, hosted
from mica.planner.domain.misfits import Misfit, Refusal, size_text
from mica.planner.domain.modes import ALL_MODES, choose_modes, has_stronger, would_switch
from mica.planner.domain.packing import Fit, fit, not_whole

__all__ = ["Ask", "Pins", "Placed", "Rank", "Unplaced", "decide", "fit_for", "modes_for", "placement_of", "rank"]

MAX_REJECTED: Final = 16
STRENGTH: Final = {mode: rank for rank, mode in enumerate(Mode)}
Rank = tuple[int, Cost, bool, bool, tuple[float, ...]]


class Placed(Struct, frozen=True):
    """Where it goes."""

    placements: tuple[Placement, ...]
    decision: Decision


class Unplaced(Struct, frozen=True):
    """Why it goes nowhere now. ``possible`` says that it would fit if others left."""

    refusal: Refusal
    decision: Decision
    possible: bool


def decide(fleet: Fleet, ask: Ask) -> Placed | Unplaced:
    """The best place for every member of the slice, the same number of them on each of its nodes."""
    open_ = [(node, claims, modes_for(node, claims, ask)) for node, claims in fleet.devices()]
    candidates = [Candidate(node, claims, modes) for node, claims, modes in open_ if isinstance(modes, Misfit)]
    usable = [(node, claims, modes) for node, claims, modes in open_ if not isinstance(modes, Misfit)]
    for strength in Mode:
        candidates += [
            Candidate(node, claims, fit_for(node, claims, ask, strength)) for node, claims, modes in usable if strength in modes
        ]
        chosen = _choose(candidates, ask)
        if chosen:
            weaker = [
                Candidate(node, claims, Misfit("mode", f"{modes[0]} is weaker than {strength}", mode=modes[0]))
                for node, claims, modes in usable
                if STRENGTH[modes[0]] > STRENGTH[strength]
            ]
            return _placed(ask, chosen, candidates + weaker)
    return _unplaced(fleet, ask, candidates)


def fit_for(node: NodeState, claims: DeviceClaims, ask: Ask, mode: Mode) -> Fit | Misfit:
    """How one member would sit on the device, carved in ``mode``."""
    shared = node.shared_beside(claims, ask.id)
    return hosted(node, ask, not_whole(claims, mode, shared) or fit(claims, ask.id, ask.size, mode, shared))


def modes_for(node: NodeState, claims: DeviceClaims, ask: Ask, among: AbstractSet[Mode] = ALL_MODES) -> tuple[Mode, ...] | Misfit:
    """The modes in which the device could hold a member, of those in ``among``, or why none will do."""
    device = claims.device
    if device is None:
        return Misfit("device_id", "no longer in the inventory")
    misfit = _unwanted(node, device, ask) or _unfit(node, device, ask)
    if misfit is not None:
        return misfit
    allowed, limits = ask.modes(node.pool) & among, ask.own_limits.given
    modes = choose_modes(claims, ask.id, ask.request.runtime, allowed, may_switch=ask.may_switch(node.name, node.pool))
    if isinstance(modes, Misfit) or not limits or modes[-1] is not Mode.HARDWARE:
        return modes if isinstance(modes, Misfit) or not limits else tuple(each for each in modes if each is not Mode.HARDWARE)
    return Misfit("limits", f"partitioned, and no shim enforces {', '.join(limits)} in hardware")


def _unwanted(node: NodeState, device: Device, ask: Ask) -> Misfit | None:
    """What the request says against the device."""
    request = ask.request
    if request.pool is not None and node.pool != request.pool:
        return Misfit("pool", f"in pool {node.pool}")
    if request.vendor is not None and device.vendor != request.vendor:
        return Misfit("vendor", f"made by {device.vendor}")
    if ask.affinity.wished:
        misfit = ask.affinity.misfit(node, device)
        if misfit is not None:
            return misfit
    if (ask.node is not None and node.name != ask.node) or (ask.device_id is not None and device.id != ask.device_id):
        return Misfit("device_id", "not the device that is asked for")
    return None


def _unfit(node: NodeState, device: Device, ask: Ask) -> Misfit | None:
    """What the device's state says against it, whatever is free on it."""
    if device.id in ask.excluded:
        return Misfit("device_id", "failed to hold it", possible=True)
    if is_sick(device, ask.pins.drain_at(node.name, node.pool)):
        return Misfit("health", health_text(device), possible=True)
    if not node.leased(ask.pins.now_ns):
        return Misfit("node", "no enforcer holds the node's lease", possible=True)
    return None


def _choose(candidates: Iterable[Candidate], ask: Ask) -> list[Candidate]:
    """The best candidates; in a gang all in one mode and of one model, and on nodes of one pool, the same number on each."""
    if ask.members > 1:
        return _choose_gang(candidates, ask)
    best: list[Candidate] = []
    best_key: Rank | None = None
    for candidate in candidates:
        if isinstance(candidate.result, Fit):
            key = _rank(candidate, ask)
            if best_key is None or key < best_key:
                best, best_key = [candidate], key
    return best


def _choose_gang(candidates: Iterable[Candidate], ask: Ask) -> list[Candidate]:
    """The set that is connected best; over several nodes, that of the nodes whose worst set is."""
    on_nodes: dict[tuple[str, str, str], list[OnNode]] = {}
    fitting: dict[str, dict[str, Candidate]] = {}
    for (name, model, mode), group in alike(candidates).items():
        node = group[0].node
        offers = [Offer(each.device_id, _rank(each, ask)) for each in group]
        choice = choose(node.connections, offers, ask.members // ask.nodes)
        if choice is not None:
            on_nodes.setdefault((node.pool, model, mode), []).append(OnNode(name, choice))
            fitting.setdefault(name, {}).update({each.device_id: each for each in group})
    found = best_nodes(on_nodes.values(), ask.nodes)
    return [fitting[each.node][device_id] for each in found for device_id in each.choice.device_ids]


def _rank(candidate: Candidate, ask: Ask) -> Rank:
    assert isinstance(candidate.result, Fit)
    return rank(candidate.node, candidate.claims, candidate.result, ask)


def rank(node: NodeState, claims: DeviceClaims, result: Fit, ask: Ask) -> Rank:
    """The lowest is taken: the strongest mode, what is wished, no stronger mode to lose, a device as it is, the least waste."""
    device = claims.device
    cost = ask.affinity.cost(node, device) if ask.affinity.wished and device is not None else ()
    stronger = device is not None and has_stronger(device, result.mode)
    return STRENGTH[result.mode], cost, stronger, would_switch(claims, result.mode), result.waste


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


def _placed(ask: Ask, chosen: list[Candidate], candidates: list[Candidate]) -> Placed:
    placements = tuple(
        placement_of(each.node.name, each.claims, each.result, ask) for each in chosen if isinstance(each.result, Fit)
    )
    taken = {placement.device_id for placement in placements}
    others = (each for each in candidates if each.device_id not in taken)
    return Placed(placements, Decision(summary=_summary(ask, chosen, placements), rejected=tuple(_explain(others, chosen))))


def _summary(ask: Ask, chosen: list[Candidate], placements: tuple[Placement, ...]) -> str:
    first, winner = placements[0], chosen[0].result
    assert isinstance(winner, Fit)
    why = {
        Mode.HARDWARE: "a partition holds it in hardware",
        Mode.FCSP: "a shim enforces it and the device runs slices side by side",
        Mode.TIMESLICE: "the device runs one slice at a time",
    }[first.mode]
    parts = [f"{first.mode} on {first.model} of node {first.node}: {why}"]
    if winner.reason:
        parts.append(winner.reason)
    if len(placements) > 1:
        parts += _gang_words(chosen)
    if ask.affinity.wished:
        parts.append(ask.affinity.words(chosen[0].node, chosen[0].device_id))
    parts.append(f"{size_text(first.vram_bytes)} and {first.share_ppm} ppm granted, tightest fit")
    parts += [each for each in (host_words(ask.request), ask.size.reason) if each]
    return "; ".join(parts)


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


def _explain(others: Iterable[Candidate], chosen: list[Candidate]) -> Iterator[Alternative]:
    for index, each in enumerate(others):
        if index == MAX_REJECTED:
            return
        result = each.result
        if isinstance(result, Misfit):
            reason = result.reason
        elif not chosen:
            reason = "fits, but too few others of its kind on the node do"
        else:
            beside = [one.device_id for one in chosen if one.node is each.node]
            gang = len(chosen) > 1
            reason = why_not(each.node.connections, beside, each.device_id) if gang and beside else "fits less tightly"
        yield Alternative(node=each.node.name, device_id=each.device_id, reason=reason, mode=result.mode)


def _unplaced(fleet: Fleet, ask: Ask, candidates: list[Candidate]) -> Unplaced:
    refusal, possible = blame(fleet, ask, candidates)
    return Unplaced(refusal, Decision(summary=refusal.message, rejected=tuple(_explain(candidates, []))), possible)
