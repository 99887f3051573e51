"""Who has to leave so that a request fits, and whether it may be asked to.

Owns the order of harm. Invariant: of a set of victims none can be spared, none is better protected than the pool's policy allows,
and equal fleets give equal sets.

The least harm, in this order: the fewest guaranteed victims, then the fewest burst ones; the lowest of the highest priorities
among them; the fewest; the least memory, then compute, taken away; the youngest.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from itertools import combinations
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from mica.events import LedgerEntry, Preemption, RequestSlice, Tier
from mica.planner.domain.fleet import Fleet, NodeState
from mica.planner.domain.host_claims import wants_host
from mica.planner.domain.placing import Ask, Placed, decide_among
from mica.planner.domain.queueing import TIER_ORDER

MARGIN: Final = 10
"""Within a tier a victim has a priority at least so much lower than the request's."""
EXACT: Final = 8
"""With so many who might leave a device, or a gang's node, every set of them is looked at; with more a good one is found."""
NODES_MAX: Final = 64
"""Nodes that are looked at, those first that have the most to take."""


class Evictable(Struct, frozen=True):
    """A slice that may have to leave, on one node. ``sequence`` is its request's in the stream: the higher, the younger."""

    id: str
    tier: Tier
    priority: int
    vram_bytes: int
    share_ppm: int
    sequence: int = 0


Harm = tuple[int, int, int, int, int, int, tuple[int, ...], tuple[str, ...]]


class Clearance(Struct, frozen=True):
    """Where a request would go, and who has to leave for it: nobody, where those who leave already are enough."""

    placed: Placed
    victims: tuple[Evictable, ...]


def may_evict(request: RequestSlice, victim: LedgerEntry, preemption: Preemption) -> bool:
    """Whether the victim's pool lets it be evicted for the request."""
    own, its = TIER_ORDER[request.tier], TIER_ORDER[victim.tier]
    if preemption is Preemption.SPOT:
        return request.tier is Tier.GUARANTEED and victim.tier is Tier.SPOT
    if preemption is Preemption.PRIORITY:
        return own < its or (own == its and victim.priority + MARGIN <= request.priority)
    return False


def harm(victims: Iterable[Evictable]) -> Harm:
    """The lower, the better: a total order over sets of slices."""
    all_ = sorted(victims, key=lambda each: each.id)
    return (
        sum(each.tier is Tier.GUARANTEED for each in all_),
        sum(each.tier is Tier.BURST for each in all_),
        max((each.priority for each in all_), default=-1),
        len(all_),
        sum(each.vram_bytes for each in all_),
        sum(each.share_ppm for each in all_),
        tuple(sorted(-each.sequence for each in all_)),
        tuple(each.id for each in all_),
    )


def evictable(node: NodeState, may: Callable[[LedgerEntry], bool], sequences: Mapping[str, int]) -> list[Evictable]:
    """The slices on a node that ``may`` go, by id, with what they hold there; who is leaving already is not among them."""
    sums: dict[str, Evictable] = {}
    for slices in node.ledger.devices.values():
        for id_, entry in slices.items():
            if id_ not in node.ledger.departures and may(entry):
                before = sums.get(id_) or Evictable(id_, entry.tier, entry.priority, 0, 0, sequences.get(id_, 0))
                sums[id_] = replace(
                    before, vram_bytes=before.vram_bytes + entry.vram_bytes, share_ppm=before.share_ppm + entry.share_ppm
                )
    return [sums[id_] for id_ in sorted(sums)]


def clear(
    fleet: Fleet, ask: Ask, may: Callable[[NodeState, LedgerEntry], bool], sequences: Mapping[str, int] | None = None
) -> Clearance | None:
    """Where the request would go with the least harm, or None where it does not fit even with all gone that ``may`` go.

    Who leaves already counts as gone: where that is enough, nobody else has to. ``may`` goes by tier and priority alone.
    """
    best: Clearance | None = None
    for node in promising(fleet, ask, may):
        candidates = evictable(node, partial(may, node), sequences or {})
        found = _clear_node(node, ask, candidates)
        if found is not None and (best is None or harm(found.victims) < harm(best.victims)):
            best = found
        if best is not None and not best.victims:
            return best
    return best


def promising(fleet: Fleet, ask: Ask, may: Callable[[NodeState, LedgerEntry], bool]) -> list[NodeState]:
    """The nodes worth a look, those first that have the most to take."""
    rows: list[tuple[int, str, NodeState]] = []
    for node in fleet.nodes.values():
        if node.inventory is None or ask.node not in (None, node.name) or ask.request.pool not in (None, node.pool):
            continue
        takes = sum(rank.vram_bytes for rank in node.ranks.values() if may(node, rank))
        if takes or node.ledger.departures or any(node.ledger.held.values()):
            rows.append((-takes, node.name, node))
    return [node for _, _, node in sorted(rows, key=lambda row: row[:2])[:NODES_MAX]]


def _clear_node(node: NodeState, ask: Ask, candidates: list[Evictable]) -> Clearance | None:
    leaving = set(node.ledger.departures)
    leaving |= {id_ for slices in node.ledger.held.values() for id_ in slices if not _stands(node, id_)}
    best: Clearance | None = None
    for group, device_id in _groups(node, ask, candidates):
        found = _clear_group(node, replace(ask, node=node.name, device_id=device_id), group, leaving)
        if found is not None and (best is None or harm(found.victims) < harm(best.victims)):
            best = found
    return best


def _stands(node: NodeState, slice_id: str) -> bool:
    return any(slice_id in slices for slices in node.ledger.devices.values())


def _groups(node: NodeState, ask: Ask, candidates: list[Evictable]) -> Iterator[tuple[list[Evictable], str | None]]:
    """For a gang the whole node; for a single slice device by device: who leaves another helps it only to the node's own."""
    if ask.members > 1 or node.inventory is None or any(device.group for device in node.inventory.devices):
        yield candidates, ask.device_id
        return
    for device in node.inventory.devices:
        if ask.device_id in (None, device.id):
            there = node.ledger.devices.get(device.id, {})
            yield [each for each in candidates if each.id in there], device.id
    if wants_host(ask.request):
        yield candidates, ask.device_id


def _clear_group(node: NodeState, ask: Ask, group: list[Evictable], leaving: AbstractSet[str]) -> Clearance | None:
    def without(victims: Iterable[Evictable]) -> Placed | None:
        left = node.without({each.id for each in victims} | leaving)
        outcome = decide_among(Fleet(), ask, left.places)
        return outcome if isinstance(outcome, Placed) else None

    if without(group) is None:
        return None
    victims = _least(group, without) if len(group) <= EXACT else _spared(group, without)
    placed = without(victims)
    return Clearance(placed, tuple(sorted(victims, key=lambda each: each.id))) if placed is not None else None


def _least(group: list[Evictable], without: Callable[[Iterable[Evictable]], Placed | None]) -> list[Evictable]:
    """The best of all sets that are enough."""
    sets = [list(each) for size in range(len(group) + 1) for each in combinations(group, size)]
    sets.sort(key=harm)
    enough = next((each for each in sets if without(each) is not None), group)
    return _spared(enough, without)


def _spared(victims: list[Evictable], without: Callable[[Iterable[Evictable]], Placed | None]) -> list[Evictable]:
    """Spare whoever can be, the one that would be harmed most first, until nobody can."""
    left = sorted(victims, key=lambda each: harm([each]), reverse=True)
    for each in list(left):
        fewer = [other for other in left if other is not each]
        if without(fewer) is not None:
            left = fewer
    return left
