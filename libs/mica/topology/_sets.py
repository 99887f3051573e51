"""Which of a node's devices are connected best, as sets.

A set is scored by the weakest link on the best ring through it, on which collectives of NCCL's kind depend; then by what all its
pairs have together; and last by how near its devices are over PCIe, which says how near one processor is to all.
Devices from which all others look alike are of one *kind*: a set's score depends only on how many it has of each, so that whole
nodes are searched quickly. Invariant: pure, and equal topologies give equal answers.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import combinations
from typing import Final, NamedTuple

from mica.topology._model import Topology
from mica.topology._paths import Closeness, DevicePath, PathKind, path, pcie_rank
from mica.topology._tree import speed

SETS_MAX: Final = 20_000
"""More combinations of kinds than this are not all looked at: sets are then grown device by device from every kind."""
STATES_MAX: Final = 600_000
"""The search for a ring gives up after so many states: more than there are for 16 devices, so that it is exact up to there."""
SHAPES_KEPT: Final = 256

Counts = tuple[int, ...]
"""How many devices of each kind."""


class Near(NamedTuple):
    """How near two devices are, and how near they would be without a direct link."""

    closeness: Closeness
    pcie_rank: int


Matrix = tuple[tuple[Near, ...], ...]


class Score(NamedTuple):
    """Ordered: the greater, the better connected. Sums are over all pairs; speeds are each way."""

    ring: Closeness
    bytes_per_s: int
    lanes: int
    ranks: int
    pcie_ranks: int


class Connections:
    """A topology's devices and the sets that they make."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        ids = tuple(part.id for part in topology.devices)
        near = {(a, b): Near(path(topology, a, b).closeness, pcie_rank(topology, a, b)) for a in ids for b in ids}
        kinds = _kinds(ids, near)
        self._own = {id_: id_ for id_ in ids}
        self._position = {id_: index for index, id_ in enumerate(ids)}
        self._kind = {id_: index for index, kind in enumerate(kinds) for id_ in kind}
        self._shape = _shape(
            tuple(tuple(near[one[0], (other[-1] if one is other else other[0])] for other in kinds) for one in kinds)
        )

    def named(self, names: Mapping[str, str]) -> "Connections":
        """Those of another node that differs in nothing but its devices' ids; ``names``: by id of a device here, the id there."""
        other = object.__new__(Connections)
        other._topology, other._shape = self._topology, self._shape
        other._own = {names[id_]: own for id_, own in self._own.items()}
        other._position = {names[id_]: position for id_, position in self._position.items()}
        other._kind = {names[id_]: kind for id_, kind in self._kind.items()}
        return other

    def position(self, device_id: str) -> int:
        """Its place in the node's order."""
        return self._position[device_id]

    def kind(self, device_id: str) -> int:
        """Its kind: devices of one kind are exchangeable in every set."""
        return self._kind[device_id]

    def counts(self, ids: Iterable[str]) -> Counts:
        """How many of each kind those are."""
        found = [0] * len(self._shape.near)
        for id_ in ids:
            found[self._kind[id_]] += 1
        return tuple(found)

    @property
    def make(self) -> object:
        """What nodes have in common on which sets of devices score alike."""
        return self._shape

    @property
    def all(self) -> Counts:
        """How many of each kind there are."""
        return self.counts(self._kind)

    def score(self, ids: Iterable[str]) -> Score:
        """How well a set of at least one device is connected."""
        return self._shape.score(self.counts(ids))

    def best(self, free: Counts, members: int) -> tuple[Score, tuple[Counts, ...]] | None:
        """The best score of any ``members`` of the devices that are free, and every mixture of kinds that has it.

        None: there are too few. Exact while there are at most ``SETS_MAX`` mixtures, as in every node of up to 16 devices.
        """
        return self._shape.best(free, members)

    def path(self, a: str, b: str) -> DevicePath:
        """What lies between two devices."""
        return path(self._topology, self._own[a], self._own[b])

    def words(self, ids: Sequence[str]) -> str:
        """``all pairs NV18, 450 GB/s each way``, or which there are and what a ring through all of them has."""
        pairs = Counter(self.path(a, b) for a, b in combinations(ids, 2))
        if not pairs:
            return ""
        if len(pairs) == 1:
            return f"{'all pairs' if len(ids) > 2 else 'joined by'} {way_words(next(iter(pairs)))}"
        listed = ", ".join(f"{count} {way.label}" for way, count in sorted(pairs.items(), key=_nearest_first))
        ring = self.score(ids).ring
        weakest = next(way for way in pairs if way.closeness == ring)
        return f"pairs: {listed}; a ring of {way_words(weakest)} or nearer"


def way_words(way: DevicePath) -> str:
    """``NV18, 450 GB/s each way``."""
    return way.label + (f", {speed(way.bytes_per_s)} each way" if way.bytes_per_s else "")


def _nearest_first(item: tuple[DevicePath, int]) -> Closeness:
    rank, bytes_per_s, lanes = item[0].closeness
    return Closeness(-rank, -bytes_per_s, -lanes)


def _kinds(ids: tuple[str, ...], near: dict[tuple[str, str], Near]) -> list[list[str]]:
    """The devices by kind, each kind and all kinds in the node's order."""
    kinds: list[list[str]] = []
    for id_ in ids:
        for kind in kinds:
            if all(near[id_, other] == near[kind[0], other] for other in ids if other not in (id_, kind[0])):
                kind.append(id_)
                break
        else:
            kinds.append([id_])
    return kinds


class _Shape:
    """The kinds of a topology, without names: what many nodes of a fleet have in common."""

    def __init__(self, near: Matrix) -> None:
        """``near``: between devices of two kinds; on the diagonal between two of one kind, if there are two."""
        self.near = near
        self.score = cache(self._score)
        self.best = lru_cache(maxsize=4096)(self._best)

    def _score(self, counts: Counts) -> Score:
        members = [kind for kind, count in enumerate(counts) for _ in range(count)]
        pairs = [self.near[a][b] for a, b in combinations(members, 2)]
        return Score(
            ring=_ring([[self.near[a][b].closeness for b in members] for a in members]),
            bytes_per_s=sum(each.closeness.bytes_per_s for each in pairs),
            lanes=sum(each.closeness.lanes for each in pairs),
            ranks=sum(each.closeness.rank for each in pairs),
            pcie_ranks=sum(each.pcie_rank for each in pairs),
        )

    def _best(self, free: Counts, members: int) -> tuple[Score, tuple[Counts, ...]] | None:
        if sum(free) < members:
            return None
        if _number(free, members) <= SETS_MAX:
            mixtures: Iterable[Counts] = _mixtures(free, members)
        else:
            mixtures = {self._grown(kind, free, members) for kind, count in enumerate(free) if count}
        found: list[Counts] = []
        best: Score | None = None
        for each in mixtures:
            score = self.score(each)
            if best is None or score > best:
                best, found = score, []
            if score == best:
                found.append(each)
        assert best is not None
        return best, tuple(sorted(found, reverse=True))

    def _grown(self, seed: int, free: Counts, members: int) -> Counts:
        """From one device, always by the one that leaves the set connected best: good, not proven best."""
        grown = _plus((0,) * len(free), seed)
        for _ in range(members - 1):
            more = [_plus(grown, kind) for kind, count in enumerate(free) if grown[kind] < count]
            grown = max(more, key=self._score)
        return grown


@lru_cache(maxsize=SHAPES_KEPT)
def _shape(near: Matrix) -> _Shape:
    return _Shape(near)


def _plus(counts: Counts, kind: int) -> Counts:
    return (*counts[:kind], counts[kind] + 1, *counts[kind + 1 :])


def _number(free: Counts, members: int) -> int:
    """How many mixtures there are, or more than are looked at."""
    ways = [1] + [0] * members
    for count in free:
        ways = [sum(ways[max(0, total - count) : total + 1]) for total in range(members + 1)]
    return ways[members]


def _mixtures(free: Counts, members: int) -> Iterator[Counts]:
    """Every way to take so many of what is free, kind by kind."""
    if not free:
        yield ()
        return
    rest = sum(free[1:])
    for taken in range(min(free[0], members), max(0, members - rest) - 1, -1):
        for more in _mixtures(free[1:], members - taken):
            yield (taken, *more)


def _ring(near: list[list[Closeness]]) -> Closeness:
    """The weakest link on the best ring through all: the nearest level at which the pairs that are as near make a ring."""
    size = len(near)
    if size < 3:
        return near[0][1] if size == 2 else DevicePath(PathKind.SELF).closeness
    second = min(sorted((near[a][b] for b in range(size) if b != a), reverse=True)[1] for a in range(size))
    levels = sorted({near[a][b] for a, b in combinations(range(size), 2)}, reverse=True)
    for level in levels:
        if level <= second:
            beside = [sum(1 << b for b in range(size) if b != a and near[a][b] >= level) for a in range(size)]
            if _has_ring(beside):
                return level
    return levels[-1]


def _has_ring(beside: list[int]) -> bool:
    """Whether the graph (a bit for each neighbour) has a ring through all; with half of all as neighbours it has (Dirac)."""
    size = len(beside)
    if all(2 * each.bit_count() >= size for each in beside):
        return True
    everybody = (1 << size) - 1
    seen: set[tuple[int, int]] = set()
    stack = [(1, 0)]
    while stack and len(seen) < STATES_MAX:
        visited, at = stack.pop()
        if visited == everybody and beside[at] & 1:
            return True
        open_ = beside[at] & ~visited
        while open_:
            step = open_ & -open_
            open_ ^= step
            state = (visited | step, step.bit_length() - 1)
            if state not in seen:
                seen.add(state)
                stack.append(state)
    return False
