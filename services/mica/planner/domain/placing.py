"""Where a slice goes, and why there and not elsewhere.

Invariant: ``decide`` changes nothing; equal fleets and equal asks give equal answers, and the strongest mode that fits wins
before the tightest device does.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Final

from msgspec.structs import replace

from mica.events import Device, Mode, Service
from mica.planner.domain.asks import Ask, Pins
from mica.planner.domain.blaming import Candidate, alike
from mica.planner.domain.claims import DeviceClaims
from mica.planner.domain.decisions import Placed, Unplaced, placed, unplaced
from mica.planner.domain.draining import health_text, is_sick
from mica.planner.domain.fleet import Fleet
from mica.planner.domain.gangs import Offer, OnNode, best_nodes, choose
from mica.planner.domain.hosting import hosted
from mica.planner.domain.index import Index
from mica.planner.domain.misfits import Misfit
from mica.planner.domain.modes import ALL_MODES, choose_modes
from mica.planner.domain.nodes import NodeState, Place
from mica.planner.domain.packing import Fit, fit, not_whole
from mica.planner.domain.ranking import STRENGTH, Rank, best_first, price_of, rank_of
from mica.planner.domain.sorts import usable
from mica.topology import Score

__all__ = ["Ask", "Pins", "Placed", "Unplaced", "decide", "decide_among", "fit_for", "in_mode", "modes_for", "weighed"]

LOOKED_AT_MAX: Final = 512
"""So many devices at most are looked at one by one for what is refused, and why."""
EXPLAINED_MAX: Final = 64
"""In a larger fleet only the next best places are told beside the one that was taken."""
NEXT_BEST: Final = 4
SPARE_NODES: Final = 3
"""So many more nodes than a gang needs are looked for at first: some may not do."""


def decide(fleet: Fleet, ask: Ask) -> Placed | Unplaced:
    """The best place for every member of the slice, the same number of them on each of its nodes."""
    if ask.node is not None:
        return decide_among(fleet, ask, _devices_of(fleet, ask.node))
    index = fleet.index
    index.turn_to(ask)
    for strength in Mode:
        chosen = _find_gang(index, ask, strength) if ask.members > 1 else _find(fleet, ask, strength)
        if chosen:
            return placed(ask, chosen, _passed_over(index, ask, chosen), _why_no_stronger(ask, chosen[0]))
    return decide_among(fleet, ask, index.nearest(ask, LOOKED_AT_MAX))


def decide_among(fleet: Fleet, ask: Ask, places: Iterable[Place]) -> Placed | Unplaced:
    """The same, on no other devices than these, every one of which is looked at."""
    open_ = [(node, claims, modes_for(node, claims, ask)) for node, claims in places]
    candidates = [Candidate(node, claims, modes) for node, claims, modes in open_ if isinstance(modes, Misfit)]
    usable = [(node, claims, modes) for node, claims, modes in open_ if not isinstance(modes, Misfit)]
    for strength in Mode:
        candidates += [
            Candidate(node, claims, fit_for(node, claims, ask, strength)) for node, claims, modes in usable if strength in modes
        ]
        chosen = _choose(candidates, ask)
        if chosen:
            passed_over = [
                Candidate(node, claims, weaker(modes[0], strength))
                for node, claims, modes in usable
                if STRENGTH[modes[0]] > STRENGTH[strength]
            ]
            return placed(ask, chosen, [*best_first(ask, candidates), *passed_over], _why_no_stronger(ask, chosen[0]))
    return unplaced(fleet, ask, candidates)


def _devices_of(fleet: Fleet, name: str) -> list[Place]:
    node = fleet.nodes.get(name)
    return node.places if node is not None else []


def _find(fleet: Fleet, ask: Ask, mode: Mode) -> list[Candidate]:
    """The best place in one mode, away from its group where there is one: near what it is to be near to, then anywhere."""

    def check(place: Place) -> Fit | Misfit:
        return result_for(*place, ask, mode)

    affinity = ask.affinity
    beside = affinity.others.keys()
    found = _best_of(fleet, ask, mode, {each.node for each in affinity.near} - beside)
    if found:
        return found
    if affinity.near_within is not None:
        return _best_of(fleet, ask, mode, beside)
    index = fleet.index
    place = index.in_hardware(ask, check, beside) if mode is Mode.HARDWARE else index.in_software(ask, mode, check, beside)
    if place is not None:
        return [weighed(index, ask, Candidate(*place.place, place.fit, place.why))]
    return _best_of(fleet, ask, mode, index.large - beside) or _best_of(fleet, ask, mode, beside)


def _best_of(fleet: Fleet, ask: Ask, mode: Mode, names: AbstractSet[str]) -> list[Candidate]:
    """The best place on a few nodes, by looking at all of their devices."""
    if not names:
        return []
    places = [place for name in sorted(names) for place in _devices_of(fleet, name)]
    return _choose([Candidate(*place, result_for(*place, ask, mode)) for place in places], ask)


def _find_gang(index: Index, ask: Ask, mode: Mode) -> list[Candidate]:
    """The best set in one mode: nodes are looked at in the index's order, a few at once, until no other could do better."""
    enough = ask.nodes + SPARE_NODES
    nodes = index.gang_nodes(ask, mode, enough)
    chosen = _find_gang_on(nodes, ask, mode)
    if len(nodes) < enough or (chosen and _connected(chosen) == index.ideal(ask.members // ask.nodes)):
        return chosen
    return _find_gang_on(index.gang_nodes(ask, mode, len(index.nodes) + 1), ask, mode)


def _find_gang_on(nodes: list[tuple[Score, NodeState]], ask: Ask, mode: Mode) -> list[Candidate]:
    candidates: list[Candidate] = []
    at, width = 0, ask.nodes
    while at < len(nodes):
        places = [place for _, node in nodes[at : at + width] for place in node.places]
        candidates += [Candidate(*place, result_for(*place, ask, mode)) for place in places]
        at, width = at + width, 2 * width
        chosen = _choose(candidates, ask)
        if chosen and (at >= len(nodes) or _connected(chosen) >= nodes[at][0]):
            return chosen
    return []


def _connected(chosen: Iterable[Candidate]) -> Score:
    """How well the part of a gang is connected that is connected worst."""
    by_node: dict[str, list[Candidate]] = {}
    for each in chosen:
        by_node.setdefault(each.node.name, []).append(each)
    return min(group[0].node.connections.score([each.device_id for each in group]) for group in by_node.values())


def _passed_over(index: Index, ask: Ask, chosen: list[Candidate]) -> list[Candidate]:
    """Others that were not taken, for the explanation: of a small fleet all, else the next best by the boards."""
    if index.devices > EXPLAINED_MAX:
        mode = chosen[0].result.mode
        return [Candidate(*place, _on_board(ask, mode), useless_milli=cost) for place, cost in index.beside(ask.id, NEXT_BEST)]
    places = index.nearest(ask, EXPLAINED_MAX)
    rows = [(node, claims, _beside(node, claims, ask, chosen[0].result.mode)) for node, claims in places]
    return best_first(ask, [weighed(index, ask, Candidate(*row)) for row in rows])


def _why_no_stronger(ask: Ask, chosen: Candidate) -> str:
    """Why the device does not hold it in a stronger mode."""
    if chosen.result.mode is Mode.HARDWARE:
        return ""
    said: dict[str, None] = {}
    for mode in Mode:
        if mode is chosen.result.mode:
            break
        result = in_mode(*chosen.place, ask, mode)
        said[result.reason if isinstance(result, Misfit) else f"not every member fits in {mode}"] = None
    return "; ".join(said)


def _on_board(ask: Ask, mode: Mode | None) -> Fit:
    assert mode is not None
    return Fit(mode, ask.size.vram_bytes, ask.size.share_ppm or 0, ())


def weighed(index: Index, ask: Ask, candidate: Candidate) -> Candidate:
    """With what it costs, by the boards on which ``ask`` was just decided.

    Boards know only the mode in which it was: what is looked at in another is not to be asked for here.
    """
    if not isinstance(candidate.result, Fit):
        return candidate
    useless_milli = index.useless(ask.id, candidate.node.name, candidate.device_id)
    return replace(candidate, useless_milli=useless_milli, price=price_of(ask, *candidate.place, candidate.result))


def _beside(node: NodeState, claims: DeviceClaims, ask: Ask, strength: Mode | None) -> Fit | Misfit:
    """What a device would have given beside one that gives ``strength``."""
    modes = modes_for(node, claims, ask)
    if isinstance(modes, Misfit):
        return modes
    if strength is not None and STRENGTH[modes[0]] > STRENGTH[strength]:
        return weaker(modes[0], strength)
    return fit_for(node, claims, ask, modes[0])


def weaker(mode: Mode, strength: Mode) -> Misfit:
    """Why a device is not looked at that offers ``mode`` where another gives ``strength``."""
    return Misfit("mode", f"{mode} is weaker than {strength}", mode=mode)


def result_for(node: NodeState, claims: DeviceClaims, ask: Ask, mode: Mode) -> Fit | Misfit:
    """How one member would sit on the device in ``mode``, if it may be carved so for it."""
    modes = modes_for(node, claims, ask)
    if isinstance(modes, Misfit):
        return modes
    return fit_for(node, claims, ask, mode) if mode in modes else Misfit("mode", f"offers {', '.join(modes)}")


def fit_for(node: NodeState, claims: DeviceClaims, ask: Ask, mode: Mode) -> Fit | Misfit:
    """How one member would sit on the device, carved in ``mode``."""
    shared = node.shared_beside(claims, ask.id)
    return hosted(node, ask, not_whole(claims, mode, shared) or fit(claims, ask.id, ask.size, mode, shared))


def in_mode(node: NodeState, claims: DeviceClaims, ask: Ask, mode: Mode) -> Fit | Misfit:
    """How one member would sit on the device in that mode alone, and who or what is against it."""
    pinned = _pinned_out(node, ask, mode)
    modes = Misfit("mode", pinned) if pinned else modes_for(node, claims, ask, frozenset({mode}))
    return modes if isinstance(modes, Misfit) else fit_for(node, claims, ask, mode)


def _pinned_out(node: NodeState, ask: Ask, mode: Mode) -> str:
    """Who does not want the mode, if somebody does not."""
    if ask.request.mode not in (None, mode):
        return f"the request asks for {ask.request.mode}"
    if ask.pins.tenant_mode not in (None, mode):
        return f"policy tenant.{ask.request.tenant} pins {ask.pins.tenant_mode}"
    allowed = ask.pins.pool(node.pool).modes
    return f"policy pool.{node.pool} allows {', '.join(allowed)}" if allowed and mode not in allowed else ""


def modes_for(node: NodeState, claims: DeviceClaims, ask: Ask, among: AbstractSet[Mode] = ALL_MODES) -> tuple[Mode, ...] | Misfit:
    """The modes in which the device could hold a member, of those in ``among``, or why none will do."""
    device = claims.device
    if device is None:
        return Misfit("device_id", "no longer in the inventory")
    misfit = _unwanted(node, device, ask) or _unfit(node, device, ask)
    if misfit is not None:
        return misfit
    allowed = ask.modes(node.pool) & among
    modes = choose_modes(claims, ask.id, ask.request.runtime, allowed, may_switch=ask.may_switch(node.name, node.pool))
    if isinstance(modes, Misfit) or Mode.HARDWARE not in modes:
        return modes
    limits = ask.own_limits.given
    software = tuple(each for each in modes if each is not Mode.HARDWARE) if limits else modes
    return software or Misfit("limits", f"partitioned, and no shim enforces {', '.join(limits)} in hardware")


def _unwanted(node: NodeState, device: Device, ask: Ask) -> Misfit | None:
    """What the request says against the device."""
    request = ask.request
    if request.pool is not None and node.pool != request.pool:
        return Misfit("pool", f"in pool {node.pool}")
    if request.vendor is not None and device.vendor != request.vendor:
        return Misfit("vendor", f"made by {device.vendor}")
    if request.models and device.model not in request.models:
        return Misfit("models", f"is a {device.model}")
    if ask.affinity.wished:
        misfit = ask.affinity.misfit(node, device)
        if misfit is not None:
            return misfit
    if (ask.node is not None and node.name != ask.node) or (ask.device_id is not None and device.id != ask.device_id):
        return Misfit("device_id", "not the device that is asked for")
    return None


def _unfit(node: NodeState, device: Device, ask: Ask) -> Misfit | None:
    """What the device's state says against it, whatever is free on it."""
    could = ask.size.vram_bytes <= usable(device)
    if device.id in ask.excluded:
        return Misfit("device_id", "failed to hold it", possible=could)
    if is_sick(device, ask.pins.drain_at(node.name, node.pool)):
        return Misfit("health", health_text(device), possible=could)
    service = ask.pins.service(node.name, device.id)
    if service is not Service.OPEN:
        return Misfit("node", f"policy node.{node.name} has it {service}", possible=could)
    if not node.leased(ask.pins.now_ns):
        return Misfit("node", "no enforcer holds the node's lease", possible=could)
    return None


def _choose(candidates: Iterable[Candidate], ask: Ask) -> list[Candidate]:
    """The best candidates; in a gang all in one mode and of one model, and on nodes of one pool, the same number on each."""
    if ask.members > 1:
        return _choose_gang(candidates, ask)
    best: list[Candidate] = []
    best_key: Rank | None = None
    for candidate in candidates:
        if isinstance(candidate.result, Fit):
            key = rank_of(candidate, ask)
            if best_key is None or key < best_key:
                best, best_key = [candidate], key
    return best


def _choose_gang(candidates: Iterable[Candidate], ask: Ask) -> list[Candidate]:
    """The set that is connected best; over several nodes, that of the nodes whose worst set is."""
    on_nodes: dict[tuple[str, str, str], list[OnNode]] = {}
    fitting: dict[str, dict[str, Candidate]] = {}
    for (name, model, mode), group in alike(candidates).items():
        node = group[0].node
        offers = [Offer(each.device_id, rank_of(each, ask)) for each in group]
        choice = choose(node.connections, offers, ask.members // ask.nodes)
        if choice is not None:
            on_nodes.setdefault((node.pool, model, mode), []).append(OnNode(name, choice))
            fitting.setdefault(name, {}).update({each.device_id: each for each in group})
    found = best_nodes(on_nodes.values(), ask.nodes)
    return [fitting[each.node][device_id] for each in found for device_id in each.choice.device_ids]
