"""Which devices of a node a gang gets.

Best connected first (``mica.topology.Connections``); of the sets that are connected equally well, the one whose members fit best,
the worst of them first; then the one that leaves the best-connected sets of 8, 4 and 2 for later gangs; then the first in the
node's order. Invariant: pure, and exact on every node on which ``Connections.best`` is.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from msgspec import Struct

from mica.topology import Connections, Counts, Score

Rank = tuple[Any, ...]
"""How well a device fits: ordered, the lowest is the best."""
LATER: Final = (8, 4, 2)
"""The sizes of gangs that a choice is to leave room for, the largest first."""


class Offer(Struct, frozen=True):
    """A device that holds one member, and how well."""

    device_id: str
    rank: Rank


class Choice(Struct, frozen=True):
    """The devices of a gang, by their place on the node."""

    device_ids: tuple[str, ...]
    score: Score
    ranks: tuple[Rank, ...]
    """Those of its members, the worst first."""


def choose(connections: Connections, offers: Sequence[Offer], members: int) -> Choice | None:
    """The best set of ``members`` devices, or None when fewer are offered."""
    ordered = sorted(offers, key=lambda each: (each.rank, connections.position(each.device_id)))
    free = connections.counts(each.device_id for each in ordered)
    best = connections.best(free, members)
    if best is None:
        return None
    score, mixtures = best
    chosen = [(_taken(connections, ordered, mixture), mixture) for mixture in mixtures]
    lowest = min(_ranks(each) for each, _ in chosen)
    equal = [(each, mixture) for each, mixture in chosen if _ranks(each) == lowest]
    if len(equal) > 1:
        left = [_left(connections, free, mixture) for _, mixture in equal]
        most = max(left)
        equal = [each for each, after in zip(equal, left, strict=True) if after == most]
    places = min(sorted(connections.position(each.device_id) for each in one) for one, _ in equal)
    at = {connections.position(each.device_id): each.device_id for each in ordered}
    return Choice(tuple(at[place] for place in places), score, lowest)


def _taken(connections: Connections, ordered: Sequence[Offer], mixture: Counts) -> list[Offer]:
    """The best fits of each kind: devices of one kind are exchangeable in all but that."""
    wanted, taken = list(mixture), []
    for each in ordered:
        kind = connections.kind(each.device_id)
        if wanted[kind]:
            wanted[kind] -= 1
            taken.append(each)
    return taken


def _ranks(taken: Sequence[Offer]) -> tuple[Rank, ...]:
    return tuple(sorted((each.rank for each in taken), reverse=True))


def _left(connections: Connections, free: Counts, mixture: Counts) -> tuple[tuple[bool, tuple[object, ...]], ...]:
    """How well later gangs could be connected in what is left."""
    rest = tuple(before - taken for before, taken in zip(free, mixture, strict=True))
    found = (connections.best(rest, size) for size in LATER)
    return tuple((each is not None, tuple(each[0]) if each is not None else ()) for each in found)


def why_not(connections: Connections, taken: Sequence[str], device_id: str) -> str:
    """Why a device that fits is not in the gang that was ``taken``."""
    score = connections.score(taken)
    swapped = max(connections.score([device_id if each is out else each for each in taken]) for out in taken)
    return (
        "fits, but the gang would be connected less well with it"
        if swapped < score
        else "fits, as well connected, no more tightly"
    )


class OnNode(Struct, frozen=True):
    """The best set of a node."""

    node: str
    choice: Choice


def best_nodes(groups: Iterable[Sequence[OnNode]], nodes: int) -> list[OnNode]:
    """So many nodes of one group, each with its best set: those whose worst set is connected best, then fits best.

    What lies between nodes is not known, so that nodes of a group are taken to be equally near.
    """
    found: list[OnNode] = []
    for group in groups:
        ordered = sorted(group, key=lambda each: (each.choice.ranks, each.node))
        ordered.sort(key=lambda each: each.choice.score, reverse=True)
        if len(ordered) >= nodes and (not found or _better(ordered[:nodes], found)):
            found = ordered[:nodes]
    return found


def _better(ones: Sequence[OnNode], others: Sequence[OnNode]) -> bool:
    mine, theirs = (min(each.choice.score for each in group) for group in (ones, others))
    if mine != theirs:
        return mine > theirs
    fits, fit_there = (max(each.choice.ranks for each in group) for group in (ones, others))
    return (fits, [each.node for each in ones]) < (fit_there, [each.node for each in others])
