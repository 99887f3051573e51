"""Gangs over several nodes: what only the planner can say of them, since no enforcer sees more than its node.

Invariant: such a gang is told to be ready only after the record says so, by compare-and-set, and that only while every one of its
nodes reports all of its members live with the record's generation; it is told to be gone only after all of its nodes are free of
it. So there is no moment at which a part of a gang is ready.
"""

from msgspec.structs import replace

from mica.bus import StaleRevisionError
from mica.events import (
    Departure,
    ObservedSlice,
    Phase,
    Placement,
    SliceEvicted,
    SliceReady,
    SliceRecord,
    SliceReleased,
    SliceResized,
)
from mica.planner.desk import Desk
from mica.planner.domain.ledgers import has_left, is_told_by_planner, nodes_of, present, stands


class Gangs:
    """Speaks for gangs over several nodes."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._told: dict[str, int] = {}
        """By gang, the generation that this replica knows to be told."""

    def is_due(self, slice_id: str) -> bool:
        """Whether there may be something to say that was not said."""
        entry = self._desk.records.cached(slice_id)
        return entry is None or self._told.get(slice_id, -1) < entry.value.generation

    async def ready(self, slice_id: str) -> None:
        """Say that a gang is in force on all of its nodes, if it is and that was not said."""
        desk = self._desk
        entry = await desk.records.get(slice_id)
        record = entry.value if entry is not None else None
        if entry is None or record is None or not self._is_live(record):
            return
        if record.ready_generation < record.generation:
            try:
                entry = await desk.records.write(replace(record, ready_generation=record.generation), entry)
            except StaleRevisionError:
                await desk.records.read(slice_id)
                return
        await self._say_ready(entry.value)
        self._told = {id_: each for id_, each in self._told.items() if desk.records.cached(id_) is not None}
        self._told[slice_id] = record.generation

    async def tell_before_its_end(self, record: SliceRecord) -> None:
        """Say that a gang was ready which is about to be lost, if its record says so and nobody else has."""
        if len(nodes_of(record.placements)) > 1 and record.ready_generation:
            await self._say_ready(replace(record, generation=record.ready_generation))

    async def _say_ready(self, record: SliceRecord) -> None:
        """Whether it is ready or was resized is told by what the stream has; what it has already is not said again."""
        desk = self._desk
        heard = [each.event for each in await desk.bus.history("SLICES", [f"slice.*.{record.id}"])]
        said = [each for each in heard if isinstance(each, SliceReady | SliceResized)]
        if any(each.generation >= record.generation for each in said):
            return
        kind = SliceResized if said else SliceReady
        placements = tuple(self._as_made(record.id, each) for each in record.placements)
        fact = kind(
            at=desk.now_ns(), id=record.id, tenant=record.request.tenant, generation=record.generation, placements=placements
        )
        await desk.say(fact, record.traceparent)

    def _as_made(self, slice_id: str, placement: Placement) -> Placement:
        """With the name of the partition that was made for it."""
        seen = self._seen(slice_id, placement)
        return replace(placement, partition=seen.partition) if seen is not None and seen.partition is not None else placement

    def _seen(self, slice_id: str, placement: Placement) -> ObservedSlice | None:
        observed = self._desk.fleet.node(placement.node).observed
        return observed.devices.get(placement.device_id, {}).get(slice_id) if observed is not None else None

    def _is_live(self, record: SliceRecord) -> bool:
        fleet, nodes = self._desk.fleet, nodes_of(record.placements)
        return (
            record.phase is Phase.PLACED
            and len(nodes) > 1
            and all(fleet.node(node).is_live(record.id, record.generation) for node in nodes)
            and all(stands(fleet.node(node).ledger, record) for node in nodes)
        )

    def has_left(self, record: SliceRecord) -> bool:
        """Whether every node of a slice that is leaving has confirmed that nothing of it is left."""
        for name in nodes_of(record.placements):
            node = self._desk.fleet.node(name)
            departure = node.ledger.departures.get(record.id)
            if departure is None or node.observed is None or present(node.ledger, record.id):
                return False
            if not has_left(record.id, departure, node.observed):
                return False
        return True

    async def gone(self, slice_id: str, departure: Departure) -> tuple[str, ...]:
        """Say how a slice has ended of which no enforcer does, while its departures still ask for it; its nodes, free of it."""
        desk = self._desk
        if not is_told_by_planner(departure):
            return ()
        entry = await desk.records.get(slice_id)
        if entry is None or entry.value.phase not in (Phase.RELEASED, Phase.EVICTED):
            return ()
        at, tenant, generation = desk.now_ns(), departure.tenant, departure.generation
        if entry.value.phase is Phase.EVICTED:
            fact: SliceEvicted | SliceReleased = SliceEvicted(
                at=at, id=slice_id, tenant=tenant, generation=generation, message=departure.message
            )
        else:
            fact = SliceReleased(at=at, id=slice_id, tenant=tenant, generation=generation)
        await desk.say(fact, departure.traceparent)
        return nodes_of(entry.value.placements)
