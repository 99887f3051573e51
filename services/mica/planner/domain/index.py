"""Where requests can go, kept ready: places for slices are found without looking at every device.

Owns the boards of all pools, their partition states, and what was learned of the requests to come. The board proposes, the rule
of ``placing.py`` disposes: a place that the board has free and the rule does not allow is closed, and the next one is looked at.
Invariant: what it names fits by the rule; after ``touch`` of a node nothing stands here that its documents do not say.
"""

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from operator import itemgetter
from typing import Final

from msgspec import Struct

from mica.events import Mode, Placement
from mica.packing import Foresighted, Shape, Spot, Why
from mica.planner.domain.asks import Ask, Pins
from mica.planner.domain.cells import Cell, Shelf
from mica.planner.domain.misfits import Misfit
from mica.planner.domain.nodes import NodeState, Place
from mica.planner.domain.packing import PPM, Fit
from mica.planner.domain.pools import NS, Pool, Pools
from mica.planner.domain.sizing import Size
from mica.planner.domain.sorts import Key, Want, key_of, usable
from mica.planner.domain.states import State
from mica.topology import Score

SHAPES_MAX: Final = 512
"""Requests of other kinds than these have what was learned of them worked out again."""
LOOKED_MAX: Final = 1_024
LASTING: Final = frozenset({"health", "node"})
"""What a misfit is about that no other request finds otherwise, before the node's documents change."""

Looked = tuple[Shape, Cell, Mode, float]
"""How a request was looked at, where, and when (s)."""
Check = Callable[[Place], Fit | Misfit]


class Found(Struct, frozen=True):
    """A place, how a member would sit there, and what speaks for it."""

    place: Place
    fit: Fit
    why: Why


class Index:
    """All pools."""

    def __init__(self, nodes: dict[str, NodeState]) -> None:
        self.nodes = nodes
        self._pools = Pools(nodes)
        self.touch = self._pools.touch
        self.policies_changed = self._pools.policies_changed
        self.home = (0, 1)
        """Which of how many parts of the pools are looked through first: replicas that fill other pools seldom want one node."""
        self._version = self._connected = 0
        self._shapes: dict[Key, tuple[Shape, ...]] = {}
        self._sizes: dict[Key, tuple[Size | None, ...]] = {}
        self._asked: Ask | None = None
        self._wants: dict[str, tuple[Key, Want]] = {}
        self._ordered: tuple[tuple[int, int], list[tuple[str, Pool, bool]]] = ((0, 0), [])
        self._ideals: dict[int, Score | None] = {}
        self._came: dict[Foresighted, None] = {}
        self._looked: dict[str, Looked] = {}

    def refresh(self, pins: Pins) -> None:
        """Take over all that has changed."""
        self._pools.refresh(pins)
        if self._connected != self._pools.connected:
            self._connected = self._pools.connected
            self._ideals.clear()
        if self._version != self._pools.version:
            self._version = self._pools.version
            self._ordered = (self.home, [])
            self._shapes.clear()
            self._sizes.clear()

    def turn_to(self, ask: Ask) -> None:
        """Take over all that has changed, and forget how the request was looked at before: that was another fleet."""
        self.refresh(ask.pins)
        self._looked.pop(ask.id, None)

    # --- Looking ---

    def shapes(self, ask: Ask, pool: str, mode: Mode) -> tuple[Shape, ...]:
        """The request as the pool's boards know it; see ``Sorts.shapes``."""
        own, want = self._want(ask, pool)
        sorts, prices = self._pools.sorts, self._pools.prices(pool)
        key = (own, mode, len(sorts.all), pool if prices else None)
        shapes = self._shapes.get(key)
        if shapes is None:
            if len(self._shapes) >= SHAPES_MAX:
                self._shapes.clear()
            shapes = self._shapes[key] = sorts.shapes(want, mode, prices)
        return shapes

    def cells(self, ask: Ask) -> Iterator[Cell]:
        """The cells in which it may be, in the fleet's order."""
        for _, pool, _ in self._pools_for(ask):
            yield from pool.cells

    def in_software(self, ask: Ask, mode: Mode, check: Check, avoid: AbstractSet[str]) -> Found | None:
        """The best place for a slice that is carved in ``mode``, on none of the nodes to ``avoid``."""
        for cell in self.cells(ask):
            for shape in self.shapes(ask, cell.pool, mode):
                found = self._in_cell(cell, (shape, mode), check, avoid)
                if found is not None:
                    self._look(ask.id, (shape, cell, mode, ask.pins.now_ns / NS))
                    return found
        return None

    def _look(self, slice_id: str, at: Looked) -> None:
        """Remember where a request was looked at last; of those that became nothing the oldest are forgotten."""
        if len(self._looked) >= LOOKED_MAX:
            del self._looked[next(iter(self._looked))]
        self._looked[slice_id] = at

    def _in_cell(self, cell: Cell, what: tuple[Shape, Mode], check: Check, avoid: AbstractSet[str]) -> Found | None:
        shape, mode = what
        shelf = cell.shelves[mode]
        if shelf.is_full_for(shape):
            return None
        for name in avoid:
            if name in cell.number:
                number = cell.number[name]
                shelf.close(Spot(number, tuple(range(len(shelf.whole_mib(number))))))
                self.touch(name)
        while (seen := shelf.foresighted.peek(shape)) is not None:
            place = next(cell.at(seen.spot))
            result = check(place)
            if isinstance(result, Fit):
                return Found(place, result, seen.why)
            self._close(shelf, seen.spot, place, result)
        shelf.had_no_place(shape)
        return None

    def _close(self, shelf: Shelf, spot: Spot, place: Place, misfit: Misfit) -> None:
        """Offer it no more: to this request, or to any until the node's documents change."""
        shelf.close(spot)
        if misfit.field in LASTING:
            place[0].closed.add(_id_of(place))
        else:
            self.touch(place[0].name)

    def in_hardware(self, ask: Ask, check: Check, avoid: AbstractSet[str]) -> Found | None:
        """The best place for a slice in a partition: of the best state the first device that will do."""
        for state in self._by_waste(ask):
            for place in state.places():
                if place[0].name in avoid or _id_of(place) in place[0].closed:
                    continue
                result = check(place)
                if isinstance(result, Fit):
                    return Found(place, result, Why.BEST)
                if result.field in LASTING:
                    place[0].closed.add(_id_of(place))
        return None

    def _by_waste(self, ask: Ask) -> list[State]:
        """The states that hold a member, in the order of ``placing.rank``."""
        found: list[tuple[tuple[object, ...], State]] = []
        all_sorts = self._pools.sorts.all
        for name, pool, away in self._pools_for(ask):
            sizes, prices = self._sizes_of(ask, name), self._pools.prices(name)
            for sort, states in pool.states.by_sort():
                size = sizes[sort]
                if size is None:
                    continue
                device, vram_bytes, wanted = all_sorts[sort].sample, size.vram_bytes, (size.vram_bytes, size.share_ppm or 1)
                price_of_all, price = prices.get(device.model, 0.0), 0.0
                for state in states:
                    instance = state.least[wanted]
                    if instance is None:
                        continue
                    given_bytes = instance.profile.vram_bytes
                    if price_of_all:
                        price = price_of_all * max(given_bytes / usable(device), instance.share_ppm / PPM)
                    waste = (given_bytes - vram_bytes) / device.vram_bytes
                    found.append(((away, state.switches, price, waste, instance.futures, state.orders[0]), state))
        found.sort(key=itemgetter(0))
        return [state for _, state in found]

    def _pools_for(self, ask: Ask) -> list[tuple[str, Pool, bool]]:
        """The pools in which it may be, those that are this replica's home first; and which are not."""
        if ask.request.pool is not None:
            pool = self._pools.all.get(ask.request.pool)
            return [(ask.request.pool, pool, False)] if pool is not None else []
        home, ordered = self._ordered
        if not ordered or home != self.home:
            which, of = self.home
            found = [(name, pool, number % of != which) for number, (name, pool) in enumerate(self._pools.all.items())]
            ordered = sorted(found, key=itemgetter(2))
            self._ordered = (self.home, ordered)
        return ordered

    def _sizes_of(self, ask: Ask, pool: str) -> tuple[Size | None, ...]:
        key, want = self._want(ask, pool)
        sizes = self._sizes.get(key)
        if sizes is None or len(sizes) != len(self._pools.sorts.all):
            if len(self._sizes) >= SHAPES_MAX:
                self._sizes.clear()
            sizes = self._sizes[key] = self._pools.sorts.sizes(want)
        return sizes

    def _want(self, ask: Ask, pool: str) -> tuple[Key, Want]:
        """What the request is in that pool; remembered while one request is looked at."""
        if self._asked is not ask:
            self._asked, self._wants = ask, {}
        known = self._wants.get(pool)
        if known is None:
            modes = frozenset(ask.modes(pool))
            known = next((each for each in self._wants.values() if each[1].modes == modes), None)
            if known is None:
                want = Want(ask.request, ask.size, modes, ask.members // ask.nodes)
                known = (key_of(want), want)
            self._wants[pool] = known
        return known

    def beside_devices(self, shape: Shape) -> str | None:
        """The node on which work that needs no device is least in the way, or None: no node has room."""
        for pool in self._pools.all.values():
            for cell in pool.cells:
                spot = cell.shelves[Mode.FCSP].foresighted.packer.choose(shape)
                if spot is not None:
                    return cell.nodes[spot.node].name
        return None

    @property
    def large(self) -> AbstractSet[str]:
        """The nodes that are on no board."""
        return self._pools.large

    def gang_nodes(self, ask: Ask, mode: Mode, enough: int) -> list[tuple[Score, NodeState]]:
        """The nodes with room for their part of a gang: best connected first, then where it costs the least of what is left.

        With how well it could be connected there, at best. The search ends with ``enough`` nodes on which it could not be
        connected better on any node that there is.
        """
        found: list[tuple[Score, int, NodeState]] = []
        perfect, here = 0, ask.members // ask.nodes
        for node, ids in self._room_for_gang(ask, mode, here):
            score = _best_score(node, ids, here)
            if score is not None:
                found.append((score, -len(found), node))
                perfect += score == self.ideal(here)
                if perfect >= enough:
                    break
        found.sort(key=lambda each: each[:2], reverse=True)
        return [(score, node) for score, _, node in found]

    def _room_for_gang(self, ask: Ask, mode: Mode, members: int) -> Iterator[tuple[NodeState, list[str]]]:
        """The nodes with so many devices that hold a member, and these; where it costs the least first."""
        if mode is not Mode.HARDWARE:
            for cell in self.cells(ask):
                for shape in self.shapes(ask, cell.pool, mode)[-1:]:
                    yield from cell.room_for_gang(cell.shelves[mode], shape)
            large = [self.nodes[name] for name in sorted(self.large)]
            yield from ((node, [_id_of(each) for each in node.places]) for node in large if ask.request.pool in (None, node.pool))
            return
        states = self._by_waste(ask)
        among, counts = set(states), dict[str, int]()
        for state in states:
            for node, _ in state.places():
                counts[node.name] = counts.get(node.name, 0) + 1
                if counts[node.name] == members:
                    yield node, self._pools.all[node.pool].states.on(node.name, among)

    def ideal(self, members: int) -> Score | None:
        """How well so many devices are connected on the best node there is, whatever is on it."""
        if members not in self._ideals:
            makes = {node.connections.make: node for node in self.nodes.values() if node.inventory is not None}
            bests = [node.connections.best(node.connections.all, members) for node in makes.values()]
            self._ideals[members] = max((best[0] for best in bests if best is not None), default=None)
        return self._ideals[members]

    def nearest(self, ask: Ask, most: int) -> list[Place]:
        """The devices that come nearest to holding a member.

        All of a small fleet; else, of every pool and sort, those with the most free.
        """
        if self.devices <= most:
            return [place for node in self.nodes.values() for place in node.places]
        best: dict[tuple[str, Mode, int, int], tuple[int, Cell, int]] = {}
        for cell in self.cells(ask):
            for mode, shelf in cell.shelves.items():
                for sort, which, amount, at in cell.freest(shelf):
                    key = (cell.pool, mode, sort, which)
                    if key not in best or amount > best[key][0]:
                        best[key] = amount, cell, at
        places = [cell.place(at) for _, cell, at in best.values()]
        return list({id(place[1]): place for place in places}.values())[:most]

    @property
    def devices(self) -> int:
        """How many stand on boards."""
        return self._pools.devices

    def beside(self, slice_id: str, most: int) -> list[tuple[Place, float]]:
        """Where else the request would have gone that was just looked at, and how much more of what is left it would have cost.

        In thousandths of a device. Nothing for one in a partition, and nothing is looked at but the boards.
        """
        looked = self._looked.get(slice_id)
        if looked is None:
            return []
        shape, cell, mode, _ = looked
        return list(cell.next_best(cell.shelves[mode], shape, most))

    def useless(self, slice_id: str, node: str, device_id: str) -> float | None:
        """What the request that was just looked at would make useless there, in thousandths of a device; None: not on a board."""
        looked = self._looked.get(slice_id)
        if looked is None or node not in looked[1].number:
            return None
        shape, cell, mode, _ = looked
        packer, spot = cell.shelves[mode].foresighted.packer, cell.spot(node, (device_id,))
        return -packer.gain(shape, spot) if shape.devices == 1 and packer.fits(shape, spot) else None

    # --- What became of it ---

    def took(self, slice_id: str, placements: tuple[Placement, ...]) -> None:
        """A request went where it was to go."""
        looked = self._looked.pop(slice_id, None)
        if looked is None or not placements:
            return
        shape, cell, mode, since_s = looked
        first = placements[0]
        if first.mode is mode and self._pools.cell_of(first.node) is cell:
            foresighted = cell.shelves[mode].foresighted
            foresighted.expect(shape)
            foresighted.took(shape, cell.spot(first.node, [each.device_id for each in placements]))
            self._came[foresighted] = None
            self._pools.stands(slice_id, (first.node, first.device_id), mode, (shape, since_s))

    def recall(self, ask: Ask, placements: tuple[Placement, ...], since_ns: int) -> None:
        """Learn of a slice that has stood since then, when the planner begins."""
        first = placements[0]
        cell = self._pools.cell_of(first.node)
        shapes = self.shapes(ask, cell.pool, first.mode) if cell is not None and first.mode in cell.shelves else ()
        if cell is not None and shapes:
            cell.shelves[first.mode].foresighted.expect(shapes[-1])
            self._came[cell.shelves[first.mode].foresighted] = None
            self._pools.stands(ask.id, (first.node, first.device_id), first.mode, (shapes[-1], since_ns / NS))

    def due(self) -> list[Foresighted]:
        """Those to which so much came that it is time for them to look ahead again."""
        came, self._came = self._came, {}
        return [each for each in came if each.is_due]


def _id_of(place: Place) -> str:
    device = place[1].device
    return device.id if device is not None else ""


def _best_score(node: NodeState, ids: Sequence[str], members: int) -> Score | None:
    """How well members can be connected on those devices; all of one model, as gangs are."""
    by_model: dict[str, list[str]] = {}
    for id_ in ids:
        device = node.devices[id_].device
        by_model.setdefault(device.model if device is not None else "", []).append(id_)
    connections = node.connections
    found = [connections.best(connections.counts(each), members) for each in by_model.values() if len(each) >= members]
    return max((each[0] for each in found if each is not None), default=None)
