"""What a request wants to be near to, and apart from.

Invariant: what must be is a misfit, so that the answer names it; what had better be is a cost, and the lowest cost wins before
the tightest fit does. A slice is never apart from itself.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from msgspec import Struct

from mica.events import Device, LedgerEntry, Placement, Reach, RequestSlice
from mica.planner.domain.misfits import Misfit, Refusal
from mica.planner.domain.nodes import NodeState, Replica
from mica.topology import DevicePath

Cost = tuple[int, ...]
FAR: Final = (1, 0, 0, 0)
"""Nearness is counted down from the device itself; everything on another node is equally far."""


class Affinity(Struct, frozen=True, kw_only=True):
    """What holds for one request on the fleet as it is. ``others``: by node and device, how many of its group are there.

    ``barred``: where one of the group, or the request, does not want another, as node and device (empty: anywhere on it).
    """

    near: tuple[Placement, ...] = ()
    near_id: str = ""
    near_within: Reach | None = None
    apart: str = ""
    apart_within: Reach = Reach.DEVICE
    others: Mapping[str, Mapping[str, int]] = {}
    barred: AbstractSet[tuple[str, str]] = frozenset()

    @property
    def wished(self) -> bool:
        """Whether there is anything to look at."""
        return bool(self.near or self.apart)

    def misfit(self, node: NodeState, device: Device) -> Misfit | None:
        """Why the device must not be taken."""
        if self.near and self.near_within is not None:
            on_device = any((each.node, each.device_id) == (node.name, device.id) for each in self.near)
            if not (on_device or (self.near_within is Reach.NODE and any(each.node == node.name for each in self.near))):
                return Misfit("near", f"not on the {self.near_within} of slice {self.near_id}")
        for reach, place in ((Reach.NODE, ""), (Reach.DEVICE, device.id)):
            if (node.name, place) in self.barred:
                return Misfit("apart", f"another slice of group {self.apart} is on this {reach}", possible=True)
        return None

    def cost(self, node: NodeState, device: Device) -> Cost:
        """The lower, the better: how many of the group are there, then how far it is from what it is to be near to."""
        cost: Cost = ()
        if self.apart:
            there = self.others.get(node.name, {})
            on_device, on_node = there.get(device.id, 0), sum(there.values())
            cost = (on_node, on_device) if self.apart_within is Reach.NODE else (on_device, on_node)
        return cost + self._distance(node, device) if self.near else cost

    def _distance(self, node: NodeState, device: Device) -> Cost:
        here = [each.device_id for each in self.near if each.node == node.name and node.has(each.device_id)]
        if not here:
            return FAR if all(each.node != node.name for each in self.near) else (0, 0, 0, 0)
        rank, bytes_per_s, lanes = _nearest(node, device.id, here).closeness
        return 0, -rank, -bytes_per_s, -lanes

    def words(self, node: NodeState, device_id: str) -> str:
        """What became of the wishes, for the decision's text; empty where there were none."""
        said = []
        if self.near:
            said.append(f"slice {self.near_id} is {self._way(node, device_id)}")
        if self.apart:
            there = self.others.get(node.name, {})
            on_device, on_node = there.get(device_id, 0), sum(there.values())
            said.append(f"of group {self.apart} {on_device or 'none'} on the same device, {on_node or 'none'} on the same node")
        return "; ".join(said)

    def _way(self, node: NodeState, device_id: str) -> str:
        here = [each.device_id for each in self.near if each.node == node.name and node.has(each.device_id)]
        if device_id in here:
            return "on the same device"
        if not here:
            return "on another node" if all(each.node != node.name for each in self.near) else "on the same node"
        return f"on the same node, {_nearest(node, device_id, here).label} away"


def _nearest(node: NodeState, device_id: str, others: list[str]) -> DevicePath:
    return max((node.connections.path(device_id, each) for each in others), key=lambda way: way.closeness)


NO_AFFINITY: Final = Affinity()


def affinity_of(request: RequestSlice, group: Iterable[Replica], near: tuple[Placement, ...] = ()) -> Affinity:
    """What the request wants. ``group``: the others that it is to be apart from; ``near``: where the slice is that it names."""
    if not near and request.apart is None:
        return NO_AFFINITY
    counts: dict[str, dict[str, int]] = {}
    barred = set()
    for each in group:
        there = counts.setdefault(each.node, {})
        there[each.device_id] = there.get(each.device_id, 0) + 1
        for within, strict in ((each.within, each.strict), (request.apart_within, request.apart_strict)):
            if strict:
                barred.add((each.node, each.device_id if within is Reach.DEVICE else ""))
    return Affinity(
        near=near, near_id=request.near or "", near_within=request.near_within, apart=request.apart or "",
        apart_within=request.apart_within, others=counts, barred=barred,
    )  # fmt: skip


def too_near(node: NodeState, slice_id: str, device_id: str, entry: LedgerEntry) -> Refusal | None:
    """The last look before a ledger is written: why an entry can not stand beside others of its group, by its word or theirs."""
    if not entry.apart:
        return None
    for other_device, claims in node.devices.items():
        for id_, other in claims.entries():
            if id_ == slice_id or (other.tenant, other.apart) != (entry.tenant, entry.apart):
                continue
            for each in (entry, other):
                if each.apart_strict and (each.apart_within is Reach.NODE or other_device == device_id):
                    allowed = f"a {each.apart_within} that no other slice of the group is on"
                    return Refusal("apart", entry.apart, allowed)
    return None
