"""Which slices to move, in which order, so that a pool's slices need fewer devices and leave larger pieces free. Pure.

Owns the search and what a plan says. Invariants: a plan's moves can be made one after the other, each when the one before is
done, and each fits beside whatever is there at that moment; a plan gains more than it costs; equal fleets give equal plans.

Moves stay inside their node, so nodes are searched one by one, each with every number of moves that is worth looking at, and the
moves that may be made are shared out among them by dynamic programming. On a node an integer programme names the best assignment;
it is tried move by move, and cut off where it does not come out as promised.
"""

from collections.abc import Collection, Iterable, Sequence
from itertools import count, pairwise, takewhile
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from mica.events import Mode, PlannedMove, PoolShape
from mica.planner.domain.misfits import size_text
from mica.planner.domain.packing import PPM
from mica.planner.domain.repack_programme import Assignment, Model
from mica.planner.domain.repack_sites import Candidate, Movable, Site
from mica.planner.domain.repack_values import room, shape_of, usable_bytes, value

EPSILON: Final = 1e-6
ROUNDS: Final = 12
"""Assignments of one node that are tried for one number of moves."""
ORDERS: Final = 600
"""Sets of moves done, of one assignment, that are tried: all there are of up to nine moves."""
SITES_MAX: Final = 64
"""Nodes that are searched, those first that could gain most; of the others only that counts, for the bound."""
SITE_S: Final = 6.0
"""Seconds of the solver after which a node's search ends with what it has."""
PLAN_S: Final = 30.0
"""And after which no further node is searched."""


class Plan(Struct, frozen=True):
    """Moves in their order. ``net`` is gain less cost, in devices; no plan has more than ``bound``."""

    moves: tuple[PlannedMove, ...]
    before: PoolShape
    after: PoolShape
    net: float
    bound: float

    @property
    def proven(self) -> bool:
        """Whether none is better."""
        return self.bound <= self.net + EPSILON


class Option(Struct, frozen=True):
    """What a node gains by so many moves, and the most that it could by up to ``moves_max``."""

    moves_max: int
    moves: tuple[Candidate, ...]
    net: float
    bound: float


NOTHING: Final = Option(0, (), 0.0, 0.0)


def plan(sites: Sequence[Site], moves_max: int, *, min_net: float = 0.0, among: Collection[Candidate] | None = None) -> Plan:
    """The best moves that are found, at most ``moves_max``; none where all of them bring less than ``min_net`` devices.

    ``among``: only these, where somebody else has chosen them, for example a search over arrays.
    """
    by_site: list[tuple[Site, list[Option]]] = []
    alone = sum(bool(site.movables) for site in sites) < 2
    seconds = 0.0
    for site in sorted(sites, key=lambda each: (-_headroom(each), each.node.name)):
        options = _unsearched(site, moves_max)
        if len(by_site) < SITES_MAX and seconds < PLAN_S:
            options, its_seconds = _options(site, moves_max, among, alone=alone)
            seconds += its_seconds
        by_site.append((site, options))
    chosen = _share_out([options for _, options in by_site], moves_max)
    bound = _bound([options for _, options in by_site], moves_max)
    picked = [(site, option) for (site, _), option in zip(by_site, chosen, strict=True) if option.moves]
    picked.sort(key=lambda each: (-each[1].net / len(each[1].moves), each[0].node.name))
    net = sum(option.net for _, option in picked)
    before = shape_of(site.claims(device_id) for site in sites for device_id in site.devices)
    if not picked or net < min_net:
        return Plan((), before, before, 0.0, max(0.0, bound))
    moves: list[PlannedMove] = []
    after = {site.node.name: site for site in sites}
    for site, option in picked:
        told, after[site.node.name] = _tell(site, option.moves)
        moves += told
    shape = shape_of(site.claims(device_id) for site in after.values() for device_id in site.devices)
    return Plan(tuple(moves), before, shape, round(net, 6), round(max(net, bound), 6))


def worth(site: Site) -> float:
    """What all devices of a site are worth."""
    return sum(value(site.claims(device_id)) for device_id in site.devices)


class Order(Struct, frozen=True):
    """Moves that can be made one after the other, and what is there after them; ``sure``: there is no order for more of them."""

    moves: tuple[Candidate, ...]
    after: Site
    sure: bool = True


def ordered(site: Site, moves: Iterable[Candidate]) -> Order:
    """As many of the moves as can be made one after the other, in an order in which they can."""
    best = Order((), site)
    tried: set[frozenset[Candidate]] = set()
    left = _by_source(site, moves)

    def go(done: tuple[Candidate, ...], now: Site) -> bool:
        nonlocal best
        if len(done) > len(best.moves):
            best = Order(done, now)
        if len(done) == len(left):
            return True
        for each in left:
            state = frozenset((*done, each))
            if each in done or state in tried or len(tried) >= ORDERS:
                continue
            tried.add(state)
            after = now.after(each)
            if after is not None and go((*done, each), after):
                return True
        return False

    go((), site)
    return replace(best, sure=len(tried) < ORDERS)


def _by_source(site: Site, moves: Iterable[Candidate]) -> list[Candidate]:
    """Those first whose device is empty soonest, so that a plan that is broken off has done something."""
    all_ = sorted(moves)
    sources = [site.movables[each.slice_id].placement.device_id for each in all_]
    return sorted(all_, key=lambda each: (sources.count(source := _source(site, each)), source, each))


def _source(site: Site, each: Candidate) -> str:
    return site.movables[each.slice_id].placement.device_id


def _headroom(site: Site) -> float:
    """What the site could gain at most: every device with nothing but movable slices empty, all others with all of their room."""
    bare = site.bare()
    return sum(
        (1.0 if not bare.claims(device_id).claims else 0.0) + 1.0 - value(site.claims(device_id))
        for device_id in site.devices
        if site.claims(device_id).claims
    )


def _unsearched(site: Site, moves_max: int) -> list[Option]:
    """What a site could gain at most by each number of moves: none frees more than a device, and the room of its slice in it."""
    sizes = [
        max(each.placement.vram_bytes / usable_bytes(site.claims(each.placement.device_id)), each.placement.share_ppm / PPM)
        if each.placement.mode is Mode.FCSP
        else 1.0
        for each in site.movables.values()
    ]
    gain, most = 1.0 + max(sizes, default=0.0), _headroom(site)
    numbers = range(1, min(moves_max, len(sizes)) + 1)
    return [NOTHING, *(Option(number, (), 0.0, min(gain * number, most)) for number in numbers)]


def _options(site: Site, moves_max: int, among: Collection[Candidate] | None, *, alone: bool) -> tuple[list[Option], float]:
    """What the site gains by up to so many moves, and the seconds that it took to find out.

    Where it is not ``alone``, also by fewer moves, so that others can have the rest.
    """
    most = min(moves_max, len(site.movables))
    if not most or len(site.devices) < 2:
        return [NOTHING], 0.0
    search = _Search(site, among)
    last = search.option(most)
    options = [NOTHING]
    for moves in () if alone else takewhile(lambda each: each < most, (1 << power for power in count())):
        if last.bound <= EPSILON or options[-1].net >= last.bound - EPSILON or search.seconds > SITE_S:
            break
        options.append(search.option(moves))
    return [*options, last], search.seconds


class _Search:
    """One site's assignments, each tried once."""

    def __init__(self, site: Site, among: Collection[Candidate] | None) -> None:
        self._site = site
        self._model = Model(site, among)
        self._worth = worth(site)
        self._known: dict[frozenset[Candidate], tuple[float, tuple[Candidate, ...]]] = {frozenset(): (0.0, ())}
        self._loose: dict[frozenset[Candidate], float] = {}
        """What assignments promised that came to less in the one order that was tried: another order might do better."""

    @property
    def seconds(self) -> float:
        """What the solver has taken for it."""
        return self._model.seconds

    def option(self, moves_max: int) -> Option:
        """The best that is found with at most so many moves."""
        bound = _headroom(self._site) if self._model.candidates else 0.0
        for _ in range(ROUNDS) if self._model.candidates else ():
            found = self._model.best(moves_max)
            if found is None:
                break
            bound = min(bound, found.bound)
            if not found.moves or bound <= self._best(moves_max)[0] + EPSILON:
                break
            self._try(found)
            if self._model.seconds > SITE_S:
                break
        net, moves = self._best(moves_max)
        loose = max((each for its, each in self._loose.items() if len(its) <= moves_max), default=0.0)
        return Option(moves_max, moves, net, max(bound, net, loose))

    def _best(self, moves_max: int) -> tuple[float, tuple[Candidate, ...]]:
        known = [each for each in self._known.values() if len(each[1]) <= moves_max]
        return max(known, key=lambda each: (round(each[0], 6), -len(each[1]), each[1]))

    def _try(self, found: Assignment) -> None:
        """Make the moves, one after the other; what came of it is known from now on, and the programme names them no more."""
        tried = ordered(self._site, found.moves)
        order = tried.moves
        net = worth(tried.after) - self._worth - sum(self._site.movables[each.slice_id].cost for each in order)
        self._known[frozenset(order)] = (net, order)
        whole = len(order) == len(found.moves)
        simple = tried.sure and all(self._site.movables[each.slice_id].placement.mode is Mode.FCSP for each in found.moves)
        if whole or not simple:
            self._model.cut(found.moves)
            if not whole or net < found.bound - EPSILON:
                self._loose[found.moves] = found.bound
        else:
            self._model.cut_stuck(_core(self._site, found.moves - frozenset(order), found.moves))


def _core(site: Site, stuck: frozenset[Candidate], moves: frozenset[Candidate]) -> frozenset[Candidate]:
    """As few of the moves as still can't all be made, in any order: the fewer, the more the programme learns from them."""
    core = stuck if _is_stuck(site, stuck) else moves
    for each in sorted(core):
        fewer = core - {each}
        if _is_stuck(site, fewer):
            core = fewer
    return core


def _is_stuck(site: Site, moves: frozenset[Candidate]) -> bool:
    """Whether the moves can surely not all be made."""
    tried = ordered(site, moves)
    return tried.sure and len(tried.moves) < len(moves)


def _share_out(options: Sequence[Sequence[Option]], moves_max: int) -> list[Option]:
    """One option of each, with at most so many moves in all, that gain most together."""
    rows: list[list[tuple[float, Option]]] = []
    best = [0.0] * (moves_max + 1)
    for each in options:
        row = [
            max(
                ((best[left - len(option.moves)] + option.net, option) for option in each if len(option.moves) <= left),
                key=lambda one: (round(one[0], 6), -len(one[1].moves)),
            )
            for left in range(moves_max + 1)
        ]
        rows.append(row)
        best = [net for net, _ in row]
    chosen: list[Option] = []
    left = moves_max
    for row in reversed(rows):
        chosen.append(row[left][1])
        left -= len(row[left][1].moves)
    return chosen[::-1]


def _bound(options: Sequence[Sequence[Option]], moves_max: int) -> float:
    """The most that all of them together could gain: an option's bound holds for one move more than the option before it has."""
    best = [0.0] * (moves_max + 1)
    for each in options:
        needs = [(0, 0.0), *((before.moves_max + 1, option.bound) for before, option in pairwise(each))]
        best = [max(best[left - moves] + bound for moves, bound in needs if moves <= left) for left in range(moves_max + 1)]
    return best[moves_max]


def _tell(site: Site, moves: Iterable[Candidate]) -> tuple[list[PlannedMove], Site]:
    """Each move with what it costs and brings, and what is there after them."""
    told = []
    for each in moves:
        movable = site.movables[each.slice_id]
        after = site.after(each)
        assert after is not None
        told.append(_planned(movable, each, site, after))
        site = after
    return told, site


def _planned(movable: Movable, move: Candidate, before: Site, after: Site) -> PlannedMove:
    record, here = movable.record, movable.placement
    return PlannedMove(
        id=record.id, tenant=record.request.tenant, tier=record.request.tier, node=here.node, device_id=here.device_id,
        to_device_id=move.device_id,
        start=None if move.start < 0 else move.start, mode=here.mode, vram_bytes=here.vram_bytes, share_ppm=here.share_ppm,
        moved_bytes=movable.used_bytes, restarts=movable.restarts, grace_s=movable.grace_s if movable.restarts else 0.0,
        cost=movable.cost, gain=round(worth(after) - worth(before), 6), why=_why(here.device_id, before, after),
    )  # fmt: skip


def _why(device_id: str, before: Site, after: Site) -> str:
    """What the move makes free on the device that it leaves, in words."""
    old, new = before.claims(device_id), after.claims(device_id)
    if not new.claims:
        return f"{device_id} becomes free"
    usable = usable_bytes(old)
    was, is_ = int(room(old) * usable), int(room(new) * usable)
    if is_ > was:
        return f"the largest slice left on {device_id} grows from {size_text(was)} to {size_text(is_)}"
    return f"makes way on {device_id} for the next"
