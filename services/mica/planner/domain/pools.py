"""The pools' cells and partition states, kept in step with the fleet.

Owns which node is in which cell. Invariant: after ``refresh`` every node of the inventory that a board has room for is in one
cell of its pool, and what stands on boards and in states is what the documents say.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from mica.events import Inventory, Mode, NodePolicy, PoolPolicy
from mica.packing import Learner, Shape
from mica.planner.domain.asks import Pins
from mica.planner.domain.cells import CELL_NODES, SOFTWARE, Cell, is_too_large
from mica.planner.domain.nodes import NodeState
from mica.planner.domain.sorts import Sorts
from mica.planner.domain.states import States

NS: Final = 1e9


class Pool:
    """A pool's cells and partition states."""

    def __init__(self, sorts: Sorts) -> None:
        self.cells: list[Cell] = []
        self.states = States(sorts)
        self.learners = {mode: Learner() for mode in SOFTWARE}


class Standing:
    """What was learned to stand, by device, until it is seen to have left."""

    def __init__(self) -> None:
        self._on: dict[tuple[str, str], dict[str, Learner]] = {}

    def add(self, place: tuple[str, str], slice_id: str, learner: Learner, what: tuple[Shape, float]) -> None:
        """``place`` is a node and a device; ``what`` a shape, and since when (s)."""
        learner.stands(slice_id, *what)
        self._on.setdefault(place, {})[slice_id] = learner

    def look(self, node: NodeState, device_ids: AbstractSet[str] | None, now_s: float) -> None:
        """Learn of those that have left some of a node's devices, or any of them."""
        for device_id in node.devices if device_ids is None else device_ids:
            there = self._on.get((node.name, device_id))
            if there is None:
                continue
            for slice_id in there.keys() - node.claims(device_id).claims.keys():
                there.pop(slice_id).left(slice_id, now_s)
            if not there:
                del self._on[node.name, device_id]


class Pools:
    """All of them."""

    def __init__(self, nodes: dict[str, NodeState]) -> None:
        self.nodes = nodes
        self.sorts = Sorts()
        self._room = self.sorts.room
        self.all: dict[str, Pool] = {}
        self.version = 0
        """Grows whenever what was worked out for requests does not hold any more."""
        self.devices = 0
        """How many stand on boards."""
        self._cell_of: dict[str, Cell] = {}
        self._pool_of: dict[str, str] = {}
        self._order: dict[str, int] = {}
        self.policies: tuple[Mapping[str, PoolPolicy], Mapping[str, NodePolicy]] = ({}, {})
        self._touched: dict[str, set[str] | None] = {}
        self._standing = Standing()
        self.large: set[str] = set()
        """Nodes that no board has room for: they are looked at one by one."""
        self.connected = 0
        """Grows whenever devices may be connected otherwise than before."""
        self._inventories: dict[str, Inventory | None] = {}

    def prices(self, pool: str) -> Mapping[str, float]:
        """What devices cost there, by model."""
        return self.policies[0][pool].prices if pool in self.policies[0] else {}

    def cell_of(self, node: str) -> Cell | None:
        """The cell that a node is in."""
        return self._cell_of.get(node)

    def stands(self, slice_id: str, place: tuple[str, str], mode: Mode, what: tuple[Shape, float]) -> None:
        """Learn that a slice stands on a node's device; see ``Standing.add``."""
        cell = self._cell_of[place[0]]
        self._standing.add(place, slice_id, self.all[cell.pool].learners[mode], what)

    def touch(self, node: str, device_id: str | None = None) -> None:
        """Something has changed on a device of the node, or on the node."""
        if device_id is None:
            self._touched[node] = None
            return
        known = self._touched.setdefault(node, set())
        if known is not None:
            known.add(device_id)

    def refresh(self, pins: Pins) -> None:
        """Take over all that has changed."""
        if self.policies[0] is not pins.pools or self.policies[1] is not pins.nodes:
            self.policies = (pins.pools, pins.nodes)
            self.policies_changed()
        if not self._touched:
            return
        touched, self._touched = self._touched, {}
        stale: dict[Cell, None] = {}
        joining: dict[str, list[NodeState]] = {}
        for name, changed in touched.items():
            node = self.nodes.get(name)
            cell = self.cell_of(name)
            whole = node is None or bool(node.closed) or node.is_grouped
            device_ids = None if whole else changed
            if node is not None:
                self._standing.look(node, device_ids, pins.now_ns / NS)
                self._refresh_states(node, device_ids, pins)
            if cell is not None and node is not None and (device_ids is not None or cell.holds(node)):
                cell.refresh(node, device_ids, pins)
                continue
            if cell is not None:
                stale[cell] = None
            if (
                node is not None
                and node.inventory is not None
                and name not in self.large
                and not (cell is not None and cell.keeps(node))
            ):
                joining.setdefault(node.pool, []).append(node)
        self._rearrange(stale, joining, pins)

    def _rearrange(self, stale: Iterable[Cell], joining: Mapping[str, list[NodeState]], pins: Pins) -> None:
        for cell in stale:
            self._remake(cell, pins)
        for pool, nodes in joining.items():
            self._join(pool, nodes, pins)
        if joining or stale:
            self.version += 1
            self.devices = sum(cell.shelves[Mode.FCSP].board.devices for pool in self.all.values() for cell in pool.cells)
        if self.sorts.room != self._room:
            self._grow(pins)

    def _refresh_states(self, node: NodeState, device_ids: AbstractSet[str] | None, pins: Pins) -> None:
        node.closed.clear()
        if self._inventories.get(node.name) is not node.inventory:
            self._inventories[node.name] = node.inventory
            self.connected += 1
            (self.large.add if is_too_large(node) else self.large.discard)(node.name)
        before = self._pool_of.get(node.name)
        if before is not None and before != node.pool:
            self.all[before].states.forget(node.name)
        if node.inventory is not None:
            self._pool_of[node.name] = node.pool
            order = self._order.setdefault(node.name, len(self._order))
            self._pool(node.pool).states.refresh(node, order, device_ids, pins)
        elif before is not None:
            self.all[before].states.forget(node.name)

    def _pool(self, name: str) -> Pool:
        pool = self.all.get(name)
        if pool is None:
            pool = self.all[name] = Pool(self.sorts)
        return pool

    def _remake(self, cell: Cell, pins: Pins) -> None:
        """Make a cell anew of those of its nodes that are still of its pool."""
        cells = self.all[cell.pool].cells
        left = [node for node in cell.nodes if self._belongs(node, cell.pool)]
        at = cells.index(cell)
        cells[at : at + 1] = [self._cell(left, pins)] if left else []
        for node in cell.nodes:
            if node not in left and self._cell_of.get(node.name) is cell:
                del self._cell_of[node.name]

    def _belongs(self, node: NodeState, pool: str) -> bool:
        return self.nodes.get(node.name) is node and node.inventory is not None and node.pool == pool and not is_too_large(node)

    def _join(self, pool: str, nodes: Sequence[NodeState], pins: Pins) -> None:
        """Fill up the pool's last cell, then begin new ones."""
        cells = self._pool(pool).cells
        if cells and len(cells[-1].nodes) < CELL_NODES:
            nodes = [*cells.pop().nodes, *nodes]
        for at in range(0, len(nodes), CELL_NODES):
            cells.append(self._cell(nodes[at : at + CELL_NODES], pins))

    def _cell(self, nodes: Sequence[NodeState], pins: Pins) -> Cell:
        cell = Cell(nodes, self.sorts, self._pool(nodes[0].pool).learners, pins)
        for node in nodes:
            self._cell_of[node.name] = cell
        return cell

    def _grow(self, pins: Pins) -> None:
        """There are more sorts than the boards have room for."""
        self._room = self.sorts.room
        for pool in self.all.values():
            pool.learners = {mode: Learner() for mode in SOFTWARE}
            pool.cells = [self._cell(list(cell.nodes), pins) for cell in pool.cells]

    def policies_changed(self) -> None:
        """Pools or nodes have other policies than before: what was worked out under the old ones does not count."""
        self.version += 1
        for name in self.nodes:
            self.touch(name)
