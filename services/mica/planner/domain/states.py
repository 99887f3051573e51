"""Devices that are, or can be, partitioned, by what is on them.

Owns the order in which hardware places are looked at. Two devices of one sort with the same instances on them offer the same to
every request, so that states are compared, and not devices: there are hundreds of states on ten thousand nodes. Invariant: a
device stands in exactly one state, the one that its claims and its group give it.
"""

import heapq
from collections.abc import Iterator
from typing import Final

from mica.events import Mode, Switching
from mica.planner.domain.asks import Pins, may_switch
from mica.planner.domain.claims import DeviceClaims
from mica.planner.domain.misfits import Misfit
from mica.planner.domain.modes import choose_modes
from mica.planner.domain.nodes import NodeState, Place
from mica.planner.domain.packing import Fit, fit
from mica.planner.domain.partitions import occupied
from mica.planner.domain.sorts import Key, Sorts, Want, key_of

KNOWN_MAX: Final = 4_096
"""Answers that are kept per state."""

StateKey = tuple[object, ...]
Order = tuple[int, int]
"""The node's place in the fleet, and the device's on the node."""


class State:
    """Devices in one state, in the fleet's order, and what they would give."""

    def __init__(self, switching: Switching) -> None:
        self.switching = switching
        self._places: dict[Order, Place] = {}
        self._heap: list[Order] = []
        self._known: dict[Key, Fit | Misfit] = {}

    def add(self, order: Order, place: Place) -> None:
        """One more."""
        self._places[order] = place
        heapq.heappush(self._heap, order)

    def drop(self, order: Order) -> None:
        """One less."""
        del self._places[order]
        if len(self._heap) > 4 * len(self._places) + 16:
            self._heap = sorted(self._places)

    def places(self) -> Iterator[Place]:
        """All devices, in order; only as much is sorted as is looked at."""
        passed: list[Order] = []
        try:
            while self._heap:
                order = heapq.heappop(self._heap)
                if passed and passed[-1] == order:
                    continue
                if order in self._places:
                    passed.append(order)
                    yield self._places[order]
        finally:
            for order in passed:
                heapq.heappush(self._heap, order)

    @property
    def empty(self) -> bool:
        """Whether no device is in it."""
        return not self._places

    def first(self) -> tuple[Order, Place]:
        """The first of them in the fleet's order."""
        while self._heap[0] not in self._places:
            heapq.heappop(self._heap)
        return self._heap[0], self._places[self._heap[0]]

    def offer(self, want: Want) -> Fit | Misfit:
        """What one of them would give to a member."""
        key = key_of(want)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            known = self._known[key] = self._offer(want)
        return known

    def _offer(self, want: Want) -> Fit | Misfit:
        _, (node, claims) = self.first()
        if claims.device is not None and want.request.vendor not in (None, claims.device.vendor):
            return Misfit("vendor", f"made by {claims.device.vendor}")
        switching = may_switch(self.switching, want.modes)
        modes = choose_modes(claims, "", want.request.runtime, want.modes, may_switch=switching)
        if isinstance(modes, Misfit):
            return modes
        if Mode.HARDWARE not in modes:
            return Misfit("mode", "not in hardware")
        return fit(claims, "", want.size, Mode.HARDWARE, node.shared_beside(claims, ""))


class States:
    """The states of one pool's devices."""

    def __init__(self, sorts: Sorts) -> None:
        self._sorts = sorts
        self._states: dict[StateKey, State] = {}
        self._of: dict[str, list[tuple[StateKey, Order]]] = {}

    def forget(self, node: str) -> None:
        """The node is no longer there, or is about to be looked at anew."""
        for key, order in self._of.pop(node, []):
            state = self._states[key]
            state.drop(order)
            if state.empty:
                del self._states[key]

    def refresh(self, node: NodeState, number: int, pins: Pins) -> None:
        """Take over what is on the node's devices; ``number`` is its place in the fleet."""
        self.forget(node.name)
        if node.inventory is None:
            return
        found = self._of[node.name] = []
        for index, device in enumerate(node.inventory.devices):
            claims = node.devices[device.id]
            if device.profiles and (device.partitioned or device.switchable) and claims.mode("") in (None, Mode.HARDWARE):
                key = self._key(node, claims, pins)
                state = self._states.get(key)
                if state is None:
                    state = self._states[key] = State(pins.switching(node.name, node.pool))
                state.add((number, index), (node, claims))
                found.append((key, (number, index)))

    def _key(self, node: NodeState, claims: DeviceClaims, pins: Pins) -> StateKey:
        device = claims.device
        assert device is not None
        sort = self._sorts.number(device, pins.switching(node.name, node.pool), in_time=False)
        keys, _ = occupied(partition for claim in claims.claims.values() for partition in claim.partitions)
        return sort, tuple(sorted(keys)), bool(claims.claims), tuple(sorted(node.shared_beside(claims, "")))

    def all(self) -> Iterator[State]:
        """Every state that some device is in."""
        return iter(self._states.values())
