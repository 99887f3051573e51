"""Where requests can go, kept ready: places for slices are found without looking at every device.

Owns the boards of all pools, their partition states, and what was learned of the requests to come. The board proposes, the rule
of ``placing.py`` disposes: a place that the board has free and the rule does not allow is closed, and the next one is looked at.
Invariant: what it names fits by the rule; after ``touch`` of a node nothing stands here that its documents do not say.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from msgspec import Struct

from mica.events import Mode, NodePolicy, Placement, PoolPolicy
from mica.packing import Foresighted, Learner, Shape, Spot, Why
from mica.planner.domain.asks import Ask, Pins
from mica.planner.domain.cells import CELL_NODES, SOFTWARE, Cell, Shelf, is_too_large
from mica.planner.domain.misfits import Misfit
from mica.planner.domain.nodes import NodeState, Place
from mica.planner.domain.packing import PPM, Fit
from mica.planner.domain.sizing import Size
from mica.planner.domain.sorts import Key, Sorts, Want, key_of, usable
from mica.planner.domain.states import State, States
from mica.topology import Score

SHAPES_MAX: Final = 512
"""Requests of other kinds than these have what was learned of them worked out again."""
LASTING: Final = frozenset({"health", "node"})
"""What a misfit is about that no other request finds otherwise, before the node's documents change."""

Check = Callable[[Place], Fit | Misfit]


class Found(Struct, frozen=True):
    """A place, how a member would sit there, and what speaks for it."""

    place: Place
    fit: Fit
    why: Why


class Pool:
    """A pool's cells and partition states."""

    def __init__(self, sorts: Sorts) -> None:
        self.cells: list[Cell] = []
        self.states = States(sorts)
        self.learners = {mode: Learner() for mode in SOFTWARE}


class Index:
    """All pools."""

    def __init__(self, nodes: dict[str, NodeState]) -> None:
        self.nodes = nodes
        self._sorts = Sorts()
        self._room = self._sorts.room
        self.pools: dict[str, Pool] = {}
        self._cell_of: dict[str, Cell] = {}
        self._pool_of: dict[str, str] = {}
        self._order: dict[str, int] = {}
        self._policies: tuple[Mapping[str, PoolPolicy], Mapping[str, NodePolicy]] = ({}, {})
        self._touched: dict[str, AbstractSet[str] | None] = {}
        self._shapes: dict[tuple[Key, Mode], tuple[Shape, ...]] = {}
        self._sizes: dict[Key, tuple[Size | None, ...]] = {}
        self._asked: Ask | None = None
        self._wants: dict[frozenset[Mode], tuple[Key, Want]] = {}
        self._ideals: dict[int, Score | None] = {}
        self._came: dict[Foresighted, None] = {}
        self._looked: dict[str, tuple[Shape, Cell, Mode]] = {}
        self.large: set[str] = set()
        """Nodes that no board has room for: they are looked at one by one."""

    def touch(self, node: str, device_id: str | None = None) -> None:
        """Something has changed on a device of the node, or on the node."""
        before = self._touched.get(node, ())
        self._touched[node] = None if device_id is None or before is None else {*before, device_id}

    # --- Following the fleet ---

    def refresh(self, pins: Pins) -> None:
        """Take over all that has changed."""
        if self._policies[0] is not pins.pools or self._policies[1] is not pins.nodes:
            self._policies = (pins.pools, pins.nodes)
            self.policies_changed()
        if not self._touched:
            return
        touched, self._touched = self._touched, {}
        stale: dict[Cell, None] = {}
        joining: dict[str, list[NodeState]] = {}
        for name, changed in touched.items():
            node = self.nodes.get(name)
            cell = self._cell_of.get(name)
            whole = node is None or node.closed or node.is_grouped
            device_ids = None if whole else changed
            if node is not None:
                self._refresh_states(node, device_ids, pins)
            if cell is not None and node is not None and (device_ids is not None or cell.holds(node)):
                cell.refresh(node, device_ids, pins)
                continue
            if cell is not None:
                stale[cell] = None
            if node is not None and node.inventory is not None and not (cell is not None and node.pool == cell.pool):
                joining.setdefault(node.pool, []).append(node)
        self._rearrange(stale, joining, pins)

    def _rearrange(self, stale: Iterable[Cell], joining: Mapping[str, list[NodeState]], pins: Pins) -> None:
        if joining or stale:
            self._ideals.clear()
        for cell in stale:
            self._remake(cell, pins)
        for pool, nodes in joining.items():
            self._join(pool, nodes, pins)
        if self._sorts.room != self._room:
            self._grow(pins)

    def _refresh_states(self, node: NodeState, device_ids: AbstractSet[str] | None, pins: Pins) -> None:
        node.closed = False
        before = self._pool_of.get(node.name)
        if before is not None and before != node.pool:
            self.pools[before].states.forget(node.name)
        if node.inventory is not None:
            self._pool_of[node.name] = node.pool
            order = self._order.setdefault(node.name, len(self._order))
            self._pool(node.pool).states.refresh(node, order, device_ids, pins)
        elif before is not None:
            self.pools[before].states.forget(node.name)

    def _pool(self, name: str) -> Pool:
        pool = self.pools.get(name)
        if pool is None:
            pool = self.pools[name] = Pool(self._sorts)
        return pool

    def _remake(self, cell: Cell, pins: Pins) -> None:
        """Make a cell anew of those of its nodes that are still of its pool."""
        cells = self.pools[cell.pool].cells
        left = [node for node in cell.nodes if self._belongs(node, cell.pool)]
        at = cells.index(cell)
        cells[at : at + 1] = [self._cell(left, pins)] if left else []
        for node in cell.nodes:
            if node not in left and self._cell_of.get(node.name) is cell:
                del self._cell_of[node.name]

    def _belongs(self, node: NodeState, pool: str) -> bool:
        return self.nodes.get(node.name) is node and node.inventory is not None and node.pool == pool and not is_too_large(node)

    def _join(self, pool: str, nodes: list[NodeState], pins: Pins) -> None:
        """Fill up the pool's last cell, then begin new ones."""
        cells = self._pool(pool).cells
        fitting = [node for node in nodes if not is_too_large(node)]
        self.large.update(node.name for node in nodes if is_too_large(node))
        self.large.difference_update(node.name for node in fitting)
        if fitting and cells and len(cells[-1].nodes) < CELL_NODES:
            fitting = [*cells.pop().nodes, *fitting]
        for at in range(0, len(fitting), CELL_NODES):
            cells.append(self._cell(fitting[at : at + CELL_NODES], pins))

    def _cell(self, nodes: list[NodeState], pins: Pins) -> Cell:
        cell = Cell(nodes, self._sorts, self._pool(nodes[0].pool).learners, pins)
        for node in nodes:
            self._cell_of[node.name] = cell
        return cell

    def _grow(self, pins: Pins) -> None:
        """There are more sorts than the boards have room for."""
        self._room = self._sorts.room
        self._shapes.clear()
        for pool in self.pools.values():
            pool.learners = {mode: Learner() for mode in SOFTWARE}
            pool.cells = [self._cell(list(cell.nodes), pins) for cell in pool.cells]

    def policies_changed(self) -> None:
        """Pools or nodes have other policies than before: what was worked out under the old ones does not count."""
        self._shapes.clear()
        self._sizes.clear()
        for name in self.nodes:
            self.touch(name)

    # --- Looking ---

    def _prices(self, pool: str) -> Mapping[str, float]:
        return self._policies[0][pool].prices if pool in self._policies[0] else {}

    def shapes(self, ask: Ask, pool: str, mode: Mode) -> tuple[Shape, ...]:
        """The request as the pool's boards know it; see ``Sorts.shapes``."""
        own, want = self._want(ask, pool)
        key = (own, mode)
        shapes = self._shapes.get(key)
        if shapes is None or (shapes and len(shapes[-1].by_kind) != len(self._sorts.all)):
            if len(self._shapes) >= SHAPES_MAX:
                self._shapes.clear()
            shapes = self._shapes[key] = self._sorts.shapes(want, mode, self._prices(pool))
        return shapes

    def cells(self, ask: Ask) -> Iterator[Cell]:
        """The cells in which it may be, in the fleet's order."""
        for name, pool in self.pools.items():
            if ask.request.pool in (None, name):
                yield from pool.cells

    def in_software(self, ask: Ask, mode: Mode, check: Check, avoid: AbstractSet[str]) -> Found | None:
        """The best place for a slice that is carved in ``mode``, on none of the nodes to ``avoid``."""
        for cell in self.cells(ask):
            for shape in self.shapes(ask, cell.pool, mode):
                found = self._in_cell(cell, (shape, mode), check, avoid)
                if found is not None:
                    self._looked[ask.id] = (shape, cell, mode)
                    return found
        return None

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
        place[0].closed = True
        if misfit.field not in LASTING:
            self.touch(place[0].name)

    def in_hardware(self, ask: Ask, check: Check, avoid: AbstractSet[str]) -> Found | None:
        """The best place for a slice in a partition: of the best state the first device that will do."""
        for state in self._by_waste(ask):
            for place in state.places():
                if place[0].name in avoid or place[0].closed:
                    continue
                result = check(place)
                if isinstance(result, Fit):
                    return Found(place, result, Why.BEST)
                if result.field in LASTING:
                    place[0].closed = True
        return None

    def _by_waste(self, ask: Ask) -> list[State]:
        """The states that hold a member, in the order of ``placing.rank``."""
        found: list[tuple[tuple[object, ...], State]] = []
        for name, pool in self.pools.items():
            if ask.request.pool not in (None, name):
                continue
            sizes, prices = self._sizes_of(ask, name), self._prices(name)
            for sort, states in pool.states.by_sort():
                size = sizes[sort]
                if size is not None:
                    found += self._offers(states, size, prices)
        found.sort(key=lambda each: each[0])
        return [state for _, state in found]

    def _offers(
        self, states: Iterable[State], size: Size, prices: Mapping[str, float]
    ) -> Iterator[tuple[tuple[object, ...], State]]:
        vram_bytes, share_ppm = size.vram_bytes, size.share_ppm or 1
        for state in states:
            instance = state.offer(vram_bytes, share_ppm) if state.most_bytes >= vram_bytes else None
            if instance is not None:
                device = self._sorts.all[state.sort].sample
                part = max(instance.profile.vram_bytes / usable(device), instance.share_ppm / PPM)
                price = prices.get(device.model, 0.0) * part
                waste = ((instance.profile.vram_bytes - vram_bytes) / device.vram_bytes, instance.futures)
                yield (state.switches, price, waste, state.first()), state

    def _sizes_of(self, ask: Ask, pool: str) -> tuple[Size | None, ...]:
        key, want = self._want(ask, pool)
        sizes = self._sizes.get(key)
        if sizes is None or len(sizes) != len(self._sorts.all):
            if len(self._sizes) >= SHAPES_MAX:
                self._sizes.clear()
            sizes = self._sizes[key] = self._sorts.sizes(want)
        return sizes

    def _want(self, ask: Ask, pool: str) -> tuple[Key, Want]:
        """What the request is in that pool; remembered while one request is looked at."""
        if self._asked is not ask:
            self._asked, self._wants = ask, {}
        modes = frozenset(ask.modes(pool))
        known = self._wants.get(modes)
        if known is None:
            want = Want(ask.request, ask.size, modes, ask.members // ask.nodes)
            known = self._wants[modes] = (key_of(want), want)
        return known

    def gang_nodes(self, ask: Ask, mode: Mode, enough: int) -> list[NodeState]:
        """The nodes with room for their part of a gang: best connected first, then where it costs the least of what is left.

        The search ends with ``enough`` nodes on which it could not be connected better on any node that there is.
        """
        found: list[tuple[Score, int, NodeState]] = []
        perfect, here = 0, ask.members // ask.nodes
        for node, ids in self._room_for_gang(ask, mode, here):
            score = _best_score(node, ids, here)
            if score is not None:
                found.append((score, -len(found), node))
                perfect += score == self._ideal(here)
                if perfect >= enough:
                    break
        found.sort(key=lambda each: each[:2], reverse=True)
        return [node for *_, node in found]

    def _room_for_gang(self, ask: Ask, mode: Mode, members: int) -> Iterator[tuple[NodeState, list[str]]]:
        """The nodes with so many devices that hold a member, and these; where it costs the least first."""
        if mode is not Mode.HARDWARE:
            for cell in self.cells(ask):
                for shape in self.shapes(ask, cell.pool, mode)[-1:]:
                    yield from cell.room_for_gang(cell.shelves[mode], shape)
            return
        room: dict[str, list[str]] = {}
        for state in self._by_waste(ask):
            for node, claims in state.places():
                ids = room.setdefault(node.name, [])
                ids.append(claims.device.id if claims.device is not None else "")
                if len(ids) == members:
                    yield node, ids

    def _ideal(self, members: int) -> Score | None:
        """How well so many devices are connected on the best node there is, whatever is on it."""
        if members not in self._ideals:
            makes = {node.connections.make: node for node in self.nodes.values() if node.inventory is not None}
            bests = [node.connections.best(node.connections.all, members) for node in makes.values()]
            self._ideals[members] = max((best[0] for best in bests if best is not None), default=None)
        return self._ideals[members]

    def nearest(self, ask: Ask, most: int) -> list[Place]:
        """The devices that come nearest to holding a member.

        All of a small fleet; else, of every sort and state, those with the most free.
        """
        if self.devices <= most:
            return [place for node in self.nodes.values() for place in node.places]
        found: dict[int, Place] = {}
        for cell in self.cells(ask):
            for shelf in cell.shelves.values():
                for place in cell.freest(shelf):
                    found[id(place[1])] = place
        return list(found.values())[:most]

    @property
    def devices(self) -> int:
        """How many stand on boards."""
        return sum(cell.shelves[Mode.FCSP].board.devices for pool in self.pools.values() for cell in pool.cells)

    def beside(self, slice_id: str, most: int) -> list[tuple[Place, float]]:
        """Where else the request would have gone that was just looked at, and how much more of what is left it would have cost.

        In thousandths of a device. Nothing for one in a partition, and nothing is looked at but the boards.
        """
        looked = self._looked.get(slice_id)
        if looked is None:
            return []
        shape, cell, mode = looked
        return list(cell.next_best(cell.shelves[mode], shape, most))

    def useless(self, slice_id: str, node: str, device_id: str) -> float | None:
        """What the request that was just looked at would make useless there, in thousandths of a device; None: not on a board."""
        looked = self._looked.get(slice_id)
        if looked is None or node not in looked[1].number:
            return None
        shape, cell, mode = looked
        packer, spot = cell.shelves[mode].foresighted.packer, cell.spot(node, (device_id,))
        return -packer.gain(shape, spot) if shape.devices == 1 and packer.fits(shape, spot) else None

    # --- What became of it ---

    def took(self, slice_id: str, placements: tuple[Placement, ...]) -> None:
        """A request went where it was to go."""
        looked = self._looked.pop(slice_id, None)
        if looked is None or not placements:
            return
        shape, cell, mode = looked
        if placements[0].mode is mode and placements[0].node in cell.number:
            spot = cell.spot(placements[0].node, [each.device_id for each in placements])
            cell.shelves[mode].foresighted.expect(shape)
            cell.shelves[mode].foresighted.took(shape, spot)
            self._came[cell.shelves[mode].foresighted] = None

    def due(self) -> list[Foresighted]:
        """Those to which so much came that it is time for them to look ahead again."""
        came, self._came = self._came, {}
        return [each for each in came if each.is_due]


def _best_score(node: NodeState, ids: Sequence[str], members: int) -> Score | None:
    """How well members can be connected on those devices; all of one model, as gangs are."""
    by_model: dict[str, list[str]] = {}
    for id_ in ids:
        device = node.devices[id_].device
        by_model.setdefault(device.model if device is not None else "", []).append(id_)
    connections = node.connections
    found = [connections.best(connections.counts(each), members) for each in by_model.values() if len(each) >= members]
    return max((each[0] for each in found if each is not None), default=None)
