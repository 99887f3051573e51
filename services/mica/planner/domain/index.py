"""Where requests can go, kept ready: places for slices are found without looking at every device.

Owns the boards of all pools, their partition states, and what was learned of the requests to come. The board proposes, the rule
of ``placing.py`` disposes: a place that the board has free and the rule does not allow is closed, and the next one is looked at.
Invariant: what it names fits by the rule; after ``touch`` of a node nothing stands here that its documents do not say.
"""

from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from typing import Final

from msgspec import Struct

from mica.events import Mode, Placement
from mica.packing import Learner, Shape, Spot, Why
from mica.planner.domain.asks import Ask, Pins
from mica.planner.domain.cells import CELL_NODES, SOFTWARE, Cell, Shelf, is_too_large
from mica.planner.domain.misfits import Misfit
from mica.planner.domain.nodes import NodeState, Place
from mica.planner.domain.packing import Fit
from mica.planner.domain.sorts import Key, Sorts, key_of, want_of
from mica.planner.domain.states import State, States
from mica.topology import Score

SHAPES_MAX: Final = 512
"""Requests of other kinds than these have what was learned of them worked out again."""
LASTING: Final = frozenset({"health", "node"})
"""What a misfit is about that no other request finds otherwise, before the node's documents change."""

Check = Callable[[Place], Fit | Misfit]
Order = tuple[object, ...]


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
        self._nodes = nodes
        self._sorts = Sorts()
        self._room = self._sorts.room
        self.pools: dict[str, Pool] = {}
        self._cell_of: dict[str, Cell] = {}
        self._pool_of: dict[str, str] = {}
        self._order: dict[str, int] = {}
        self._touched: dict[str, None] = {}
        self._shapes: dict[tuple[Key, Mode], tuple[Shape, ...]] = {}
        self._looked: dict[str, tuple[Shape, Cell, Mode]] = {}
        self.large: set[str] = set()
        """Nodes that no board has room for: they are looked at one by one."""

    def touch(self, node: str) -> None:
        """Something on the node has changed."""
        self._touched[node] = None

    # --- Following the fleet ---

    def refresh(self, pins: Pins) -> None:
        """Take over all that has changed."""
        if not self._touched:
            return
        touched, self._touched = self._touched, {}
        stale: dict[Cell, None] = {}
        joining: dict[str, list[NodeState]] = {}
        for name in touched:
            node = self._nodes.get(name)
            cell = self._cell_of.get(name)
            if node is not None:
                node.closed = False
                self._refresh_states(node, pins)
            if cell is not None and node is not None and cell.holds(node):
                cell.refresh(node, pins)
                continue
            if cell is not None:
                stale[cell] = None
            if node is not None and node.inventory is not None and not (cell is not None and node.pool == cell.pool):
                joining.setdefault(node.pool, []).append(node)
        for cell in stale:
            self._remake(cell, pins)
        for pool, nodes in joining.items():
            self._join(pool, nodes, pins)
        if self._sorts.room != self._room:
            self._grow(pins)

    def _refresh_states(self, node: NodeState, pins: Pins) -> None:
        before = self._pool_of.get(node.name)
        if before is not None and before != node.pool:
            self.pools[before].states.forget(node.name)
        if node.inventory is not None:
            self._pool_of[node.name] = node.pool
            order = self._order.setdefault(node.name, len(self._order))
            self._pool(node.pool).states.refresh(node, order, pins)
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
        return self._nodes.get(node.name) is node and node.inventory is not None and node.pool == pool and not is_too_large(node)

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

    # --- Looking ---

    def shapes(self, ask: Ask, pool: str, mode: Mode) -> tuple[Shape, ...]:
        """The request as the pool's boards know it; see ``Sorts.shapes``."""
        want = want_of(ask, pool)
        key = (key_of(want), mode)
        shapes = self._shapes.get(key)
        if shapes is None or (shapes and len(shapes[-1].by_kind) != len(self._sorts.all)):
            if len(self._shapes) >= SHAPES_MAX:
                self._shapes.clear()
            shapes = self._shapes[key] = self._sorts.shapes(want, mode)
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
        for name in avoid:
            if name in cell.number:
                number = cell.number[name]
                shelf.close(Spot(number, tuple(range(len(shelf.whole_mib(number))))))
                self.touch(name)
        while (look := shelf.foresighted.look(shape)) is not None:
            place = next(cell.at(look.spot))
            result = check(place)
            if isinstance(result, Fit):
                return Found(place, result, look.why)
            self._close(shelf, look.spot, place, result)
        return None

    def _close(self, shelf: Shelf, spot: Spot, place: Place, misfit: Misfit) -> None:
        """Offer it no more: to this request, or to any until the node's documents change."""
        shelf.close(spot)
        place[0].closed = True
        if misfit.field not in LASTING:
            self.touch(place[0].name)

    def in_hardware(self, ask: Ask, rank: Callable[[Place, Fit], Order], check: Check, avoid: AbstractSet[str]) -> Found | None:
        """The best place for a slice in a partition: of the best state the first device that will do."""
        for state in self._by_rank(ask, rank):
            for place in state.places():
                if place[0].name in avoid or place[0].closed:
                    continue
                result = check(place)
                if isinstance(result, Fit):
                    return Found(place, result, Why.BEST)
                if result.field in LASTING:
                    place[0].closed = True
        return None

    def _by_rank(self, ask: Ask, rank: Callable[[Place, Fit], Order]) -> list[State]:
        offers: list[tuple[Order, Order, State]] = []
        for name, pool in self.pools.items():
            if ask.request.pool in (None, name):
                want = want_of(ask, name)
                for state in pool.states.all():
                    offer = state.offer(want)
                    if isinstance(offer, Fit):
                        order, place = state.first()
                        offers.append((rank(place, offer), order, state))
        return [state for _, _, state in sorted(offers, key=lambda each: each[:2])]

    def gang_nodes(self, ask: Ask, mode: Mode) -> list[NodeState]:
        """The nodes with room for their part of a gang: best connected first, then where it costs the least of what is left."""
        if mode is Mode.HARDWARE:
            return self._gang_nodes_in_hardware(ask)
        found: list[tuple[Score, int, int, NodeState]] = []
        for cell in self.cells(ask):
            for shape in self.shapes(ask, cell.pool, mode)[-1:]:
                found += cell.shelves[mode].gang_nodes(shape, cell.nodes)
        return [node for *_, node in sorted(found, key=lambda each: (each[0], each[1]), reverse=True)]

    def _gang_nodes_in_hardware(self, ask: Ask) -> list[NodeState]:
        room: dict[str, tuple[NodeState, list[str]]] = {}
        for state in self._by_rank(ask, lambda _place, _fit: ()):
            for node, claims in state.places():
                if claims.device is not None:
                    room.setdefault(node.name, (node, []))[1].append(claims.device.id)
        members = ask.members // ask.nodes
        rows = [
            (node.connections.best(node.connections.counts(ids), members), node)
            for node, ids in room.values()
            if len(ids) >= members
        ]
        return [node for best, node in sorted(rows, key=lambda row: row[0][0] if row[0] is not None else (), reverse=True)]

    def nearest(self, ask: Ask, most: int) -> list[Place]:
        """The devices that come nearest to holding a member.

        All of a small fleet; else, of every sort and state, those with the most free.
        """
        everything = [place for node in self._nodes.values() for place in node.places]
        if len(everything) <= most:
            return everything
        found: dict[int, Place] = {}
        for cell in self.cells(ask):
            for shelf in cell.shelves.values():
                for place in cell.freest(shelf):
                    found[id(place[1])] = place
        return list(found.values())[:most]

    # --- What became of it ---

    def took(self, slice_id: str, placements: tuple[Placement, ...]) -> None:
        """A request went where it was to go."""
        looked = self._looked.pop(slice_id, None)
        if looked is None or not placements:
            return
        shape, cell, mode = looked
        if placements[0].mode is mode and placements[0].node in cell.number:
            spot = cell.spot(placements[0].node, [each.device_id for each in placements])
            cell.shelves[mode].foresighted.came(shape, spot)
