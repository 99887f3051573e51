"""The fleet as the planner knows it: its nodes, and what is kept for decisions under way.

Invariant: what is kept for a decision counts as taken until the decision stands in a ledger or is given up.
"""

from collections.abc import Iterable, Iterator

from mica.events import Placement, RequestSlice
from mica.planner.domain.census import Census
from mica.planner.domain.claims import DeviceClaims
from mica.planner.domain.index import Index
from mica.planner.domain.nodes import NodeState, Replica, connections_of

__all__ = ["Fleet", "NodeState", "Replica", "connections_of"]


class Fleet:
    """Every node that some document speaks of."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeState] = {}
        self.index = Index(self.nodes)
        self.census = Census(self.nodes)
        self._changed: dict[str, None] = {}
        self._grouped: dict[tuple[str, str], dict[str, None]] = {}
        self._groups_on: dict[str, list[tuple[str, str]]] = {}
        self._reserved: dict[str, tuple[RequestSlice, tuple[Placement, ...]]] = {}

    def node(self, name: str) -> NodeState:
        """A node, known or not."""
        state = self.nodes.get(name)
        if state is None:
            state = self.nodes[name] = NodeState(name, self.index.touch, self.census.changed, self._regrouped)
        return state

    def adopt(self, node: NodeState) -> None:
        """Have a node that was made elsewhere, as it is now: what changes on it later is not followed."""
        self.nodes[node.name] = node
        self.census.changed(node.name)
        self.index.touch(node.name)
        self._regrouped(node.name)

    def _regrouped(self, node: str) -> None:
        self._changed[node] = None

    def _regroup(self) -> None:
        """Know again on which nodes the groups are, after changes."""
        changed, self._changed = self._changed, {}
        for name in changed:
            for key in self._groups_on.pop(name, ()):
                self._grouped[key].pop(name, None)
                if not self._grouped[key]:
                    del self._grouped[key]
            here = list(self.nodes[name].groups)
            for key in here:
                self._grouped.setdefault(key, {})[name] = None
            if here:
                self._groups_on[name] = here

    def pools(self) -> list[str]:
        """The names of the pools that have a node, sorted."""
        return self.census.pools

    def devices(self) -> Iterator[tuple[NodeState, DeviceClaims]]:
        """Every device that some inventory has."""
        for node in self.nodes.values():
            if node.inventory is not None:
                for device in node.inventory.devices:
                    yield node, node.devices[device.id]

    def group(self, request: RequestSlice, *, but: str) -> list[Replica]:
        """The slices that the request is to be apart from, in ledgers or about to be; ``but`` is not among them."""
        if request.apart is None:
            return []
        key = (request.tenant, request.apart)
        self._regroup()
        names = self._grouped.get(key, ())
        found = [each for name in names for each in self.nodes[name].groups.get(key, ()) if each.slice_id not in self._reserved]
        for id_, (other, placements) in self._reserved.items():
            if (other.tenant, other.apart) == key:
                within, strict = other.apart_within, other.apart_strict
                found += [Replica(id_, each.node, each.device_id, within, strict) for each in placements]
        return [each for each in found if each.slice_id != but]

    def reserve(self, slice_id: str, placements: tuple[Placement, ...], request: RequestSlice | None = None) -> None:
        """Keep capacity for a decision until it stands in the ledger; ``request`` says of which group it is."""
        if request is not None and request.apart is not None:
            self._reserved[slice_id] = (request, placements)
        for placement in placements:
            self.node(placement.node).reserve(slice_id, placement, kept=True)
        self.index.took(slice_id, placements)

    def unreserve(self, slice_id: str, placements: Iterable[Placement]) -> None:
        """Give back what was reserved."""
        self._reserved.pop(slice_id, None)
        for placement in placements:
            self.node(placement.node).reserve(slice_id, placement, kept=False)
