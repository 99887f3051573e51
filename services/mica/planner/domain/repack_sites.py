"""A node as repacking sees it: the devices that it may use, the slices that may move, and why the others stay.

Invariant: a site is a picture. Trying a move makes another picture, by the very function that decides on a ``slice.move``;
neither touches the fleet that it was made from.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet

from msgspec import Struct

from mica.events import Control, Mode, MoveSlice, ObservedState, Phase, Placement, Service, SliceRecord, Tier
from mica.planner.domain.affinity import affinity_of
from mica.planner.domain.asks import Pins
from mica.planner.domain.claims import DeviceClaims
from mica.planner.domain.draining import GRACE_S, is_sick
from mica.planner.domain.fleet import Fleet, NodeState
from mica.planner.domain.ledgers import stands
from mica.planner.domain.moving import moved, used_by
from mica.planner.domain.placing import Placed
from mica.planner.domain.repack_values import move_cost, usable_bytes


class Rules(Struct, frozen=True, kw_only=True):
    """What may move.

    ``changed_before``: no slice whose record was written at or after it (Unix ns). ``barred``: devices that are kept for requests
    which wait. ``troubled``: slices that are near the limits of their SLO. ``near``: slices by which others want to be.
    ``moved_lately``: slices that are to rest.
    """

    pins_of: Callable[[str], Pins]
    tiers: AbstractSet[Tier]
    restarts: bool = False
    changed_before: int
    barred: AbstractSet[str] = frozenset()
    troubled: AbstractSet[str] = frozenset()
    near: AbstractSet[str] = frozenset()
    moved_lately: AbstractSet[str] = frozenset()


class Candidate(Struct, frozen=True, order=True):
    """A slice that might go to a device of its node, in hardware with its partition at slot ``start``.

    Where it comes from does not matter: it is tried before it is believed.
    """

    slice_id: str
    device_id: str
    start: int = -1


class Movable(Struct, frozen=True):
    """A slice that may move, what its programs hold now, and what moving it costs (in devices)."""

    record: SliceRecord
    used_bytes: int
    restarts: bool
    cost: float

    @property
    def placement(self) -> Placement:
        """Where it is."""
        return self.record.placements[0]

    @property
    def grace_s(self) -> float:
        """How long its programs get, where they have to end."""
        return GRACE_S[self.record.request.tier]

    def command(self, candidate: Candidate) -> MoveSlice:
        """The command that moves it."""
        start = candidate.start if candidate.start >= 0 else None
        grace_s = self.grace_s if self.restarts else None
        return MoveSlice(id=self.record.id, device_id=candidate.device_id, grace_s=grace_s, start=start)


class Site:
    """One node, with some of its movable slices moved."""

    def __init__(self, node: NodeState, rules: Rules, movables: Mapping[str, Movable], devices: tuple[str, ...]) -> None:
        self.node = node
        self.movables = movables
        self.devices = devices
        """Those in health, in the inventory's order."""
        self._rules = rules
        self._gone: dict[str, Placement] = {}
        self._fleet = Fleet()
        self._fleet.adopt(node)

    def claims(self, device_id: str) -> DeviceClaims:
        """What is claimed of a device."""
        return self.node.claims(device_id)

    def bare(self) -> "Site":
        """The site as it would be without any of its movable slices."""
        return Site(self.node.without(self.movables.keys()), self._rules, self.movables, self.devices)

    def where(self, candidate: Candidate) -> Placement | None:
        """How the slice would sit on the device now; None where it may not or does not fit."""
        movable, device_id = self.movables[candidate.slice_id], candidate.device_id
        device, source = self.claims(device_id).device, self.claims(movable.placement.device_id).device
        if device is None or source is None or device_id not in self.devices or device.model != source.model:
            return None
        if device_id in self._rules.barred or self._rules.troubled & self.claims(device_id).claims.keys():
            return None
        if device.partitioned is not (movable.placement.mode is Mode.HARDWARE):
            return None
        request = movable.record.request
        if request.apart is not None:
            others = affinity_of(request, self._fleet.group(request, but=movable.record.id)).others
            if others.get(self.node.name, {}).get(device_id, 0):
                return None
        outcome = moved(self._fleet, movable.record, movable.command(candidate), self._rules.pins_of(request.tenant))
        return outcome.placements[0] if isinstance(outcome, Placed) else None

    def after(self, candidate: Candidate) -> "Site | None":
        """The site once the move is done and confirmed, or None where it can not be made now."""
        if candidate.slice_id in self._gone:
            return None
        placement = self.where(candidate)
        if placement is None:
            return None
        left = Site(self.node.without({candidate.slice_id}), self._rules, self.movables, self.devices)
        left._gone = {**self._gone, candidate.slice_id: placement}
        for id_, its in left._gone.items():
            left._fleet.reserve(id_, (its,), self.movables[id_].record.request)
        return left


def site_of(node: NodeState, records: Mapping[str, SliceRecord], rules: Rules) -> tuple[Site, Counter[str]]:
    """The node's picture, and how many slices stay where they are for which reason. ``records``: of the slices on it."""
    held_back: Counter[str] = Counter()
    devices: list[str] = []
    movables: dict[str, Movable] = {}
    drain_at = rules.pins_of("").drain_at(node.name, node.pool)
    leased = node.leased(rules.pins_of("").now_ns)
    for device in node.inventory.devices if node.inventory is not None and leased else ():
        if is_sick(device, drain_at) or rules.pins_of("").service(node.name, device.id) is not Service.OPEN:
            continue
        devices.append(device.id)
        for id_ in node.claims(device.id).claims:
            record = records.get(id_)
            reason = next(_reasons_to_stay(node, record, rules), "") if record is not None else "its record is not known"
            if reason or record is None:
                held_back[reason] += 1
            else:
                movables[id_] = _movable(node, record)
    return Site(node.without(frozenset()), rules, movables, tuple(devices)), held_back


def _movable(node: NodeState, record: SliceRecord) -> Movable:
    placement = record.placements[0]
    used = used_by(node, record.id, placement) or 0
    restarts = used > 0 or placement.mode is Mode.HARDWARE
    held = used / max(1, usable_bytes(node.claims(placement.device_id)))
    return Movable(record, used, restarts, round(move_cost(record.request.tier, restarts=restarts, held=held), 6))


def _reasons_to_stay(node: NodeState, record: SliceRecord, rules: Rules) -> Iterator[str]:
    """Why the slice is not to be moved, the weightiest reason first."""
    request, in_hardware = record.request, any(each.mode is Mode.HARDWARE for each in record.placements)
    if len(record.placements) > 1:
        yield "a gang"
    if record.phase is not Phase.PLACED or not _is_settled(node, record):
        yield "its last change is not confirmed"
    if request.tier not in rules.tiers:
        yield f"tier {request.tier} is not moved"
    if record.control is not Control.RUN:
        yield f"it is under control {record.control}"
    if request.near is not None or record.id in rules.near:
        yield "it is near another slice, or another is near it"
    if record.updated_at >= rules.changed_before or record.id in rules.moved_lately:
        yield "it has changed lately"
    if record.id in rules.troubled:
        yield "it is near the limits of its SLO"
    if not rules.restarts and (in_hardware or used_by(node, record.id, record.placements[0])):
        yield "in hardware, and programs are not ended" if in_hardware else "it holds memory, and programs are not ended"


def _is_settled(node: NodeState, record: SliceRecord) -> bool:
    """Whether ledger and enforcer agree on where it is, and nothing of an earlier place is left."""
    placement = record.placements[0]
    if placement.node != node.name or not stands(node.ledger, record):
        return False
    if any(record.id in slices for slices in node.ledger.held.values()):
        return False
    seen = node.observed.devices.get(placement.device_id, {}).get(record.id) if node.observed is not None else None
    return seen is not None and seen.generation == record.generation and seen.state is ObservedState.LIVE
