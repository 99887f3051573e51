"""Devices that are, or can be, partitioned, by what is on them.

Owns the order in which hardware places are looked at. Two devices of one sort with the same instances on them offer the same to
every request, so that states are compared, and not devices: there are hundreds of states on ten thousand nodes. Invariant: a
device stands in exactly one state, the one that its claims and its group give it, or in none when it offers nothing.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

from mica.events import Mode
from mica.planner.domain.asks import Pins
from mica.planner.domain.nodes import NodeState, Place
from mica.planner.domain.partitions import Openings, occupied
from mica.planner.domain.sorts import Sorts, switching_of

StateKey = tuple[object, ...]
Order = tuple[int, int]
"""The node's place in the fleet, and the device's on the node."""


class State:
    """Devices in one state, in the fleet's order, and what is possible on each of them."""

    def __init__(self, sort: int, openings: Openings, *, switches: bool) -> None:
        self.sort = sort
        self.switches = switches
        """Whether they would have to be partitioned first."""
        self.least = openings.least
        self.orders: list[Order] = []
        """The places of its devices, in the fleet's order; there is one at least."""
        self._places: dict[Order, Place] = {}

    def add(self, order: Order, place: Place) -> None:
        """One more."""
        self._places[order] = place
        insort(self.orders, order)

    def drop(self, order: Order) -> None:
        """One less."""
        del self._places[order]
        del self.orders[bisect_left(self.orders, order)]

    @property
    def empty(self) -> bool:
        """Whether no device is in it."""
        return not self.orders

    def device_id(self, order: Order) -> str:
        """Which device is at that place."""
        device = self._places[order][1].device
        return device.id if device is not None else ""

    def places(self) -> Iterator[Place]:
        """All devices, in order."""
        return map(self._places.__getitem__, self.orders)


class States:
    """The states of one pool's devices."""

    def __init__(self, sorts: Sorts) -> None:
        self._sorts = sorts
        self._states: dict[StateKey, State] = {}
        self._by_sort: dict[int, dict[StateKey, State]] = {}
        self._of: dict[str, dict[Order, StateKey]] = {}

    def forget(self, node: str) -> None:
        """The node is no longer there."""
        for order, key in self._of.pop(node, {}).items():
            self._drop(key, order)

    def refresh(self, node: NodeState, number: int, device_ids: AbstractSet[str] | None, pins: Pins) -> None:
        """Take over what is on some of the node's devices, or on all of them; ``number`` is its place in the fleet."""
        if device_ids is None:
            self.forget(node.name)
        found = self._of.setdefault(node.name, {})
        for index, place in node.numbered(device_ids):
            order = (number, index)
            if order in found:
                self._drop(found.pop(order), order)
            key = self._put(place, order, pins)
            if key is not None:
                found[order] = key

    def _drop(self, key: StateKey, order: Order) -> None:
        state = self._states[key]
        state.drop(order)
        if state.empty:
            del self._states[key]
            alike = self._by_sort[state.sort]
            del alike[key]
            if not alike:
                del self._by_sort[state.sort]

    def _put(self, place: Place, order: Order, pins: Pins) -> StateKey | None:
        node, claims = place
        device = claims.device
        assert device is not None
        if not device.profiles or not (device.partitioned or device.switchable) or claims.mode("") not in (None, Mode.HARDWARE):
            return None
        taken = [partition for claim in claims.claims.values() for partition in claim.partitions]
        instances, mask = occupied(taken)
        keys = frozenset(instances)
        switching = switching_of(claims, pins.switching(node.name, node.pool))
        sort = self._sorts.number(device, switching, in_time=False)
        shared = node.shared_beside(claims, "")
        key = (sort, keys, bool(claims.claims), shared)
        state = self._states.get(key)
        if state is None:
            openings = claims.geometry(device).beside(keys, mask, shared)
            if not openings.instances:
                return None
            state = self._states[key] = State(sort, openings, switches=not claims.claims and not device.partitioned)
            self._by_sort.setdefault(sort, {})[key] = state
        state.add(order, place)
        return key

    def on(self, node: str, among: AbstractSet[State]) -> list[str]:
        """The devices of a node that are in one of those states."""
        found = ((order, self._states[key]) for order, key in self._of.get(node, {}).items())
        return [state.device_id(order) for order, state in found if state in among]

    def by_sort(self) -> Iterator[tuple[int, Iterable[State]]]:
        """Every state in which some device offers something, by the devices' sort; no sort without one."""
        return ((sort, states.values()) for sort, states in self._by_sort.items())
