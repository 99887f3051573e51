"""Changes that can not stand, taken back: a shrink that the slice's processes ignore, and a place that can not be made.

Invariant: a resize that is given up is refused under the sequence of its command, once the slice's record says so; the note in
the ledger that made it fall due stays until it was told, so that whoever goes on after a crash tells it.
"""

import logging

from msgspec.structs import replace

from mica.bus import Entry, StaleRevisionError
from mica.events import Decision, MoveSlice, Phase, SliceRecord, Tier
from mica.planner.commits import Outcome
from mica.planner.deciding import pins_of
from mica.planner.desk import Desk
from mica.planner.domain import records
from mica.planner.domain.admission import inadmissible
from mica.planner.domain.answers import refused
from mica.planner.domain.ledgers import entries_of, node_of, nodes_of, present, stands
from mica.planner.domain.misfits import Refusal
from mica.planner.domain.moving import moved
from mica.planner.domain.placing import Placed
from mica.planner.domain.resizing import given_up, is_overdue, overdue_text

log = logging.getLogger(__name__)


class Retreats:
    """Takes back what was decided and can not be."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def overdue(self, name: str, slice_id: str) -> None:
        """Give up a resize if processes still hold more than it leaves them; those of a spot slice are ended instead."""
        desk, node = self._desk, self._desk.fleet.node(name)
        epoch = desk.ledgers.epoch
        entry = await desk.records.read(slice_id)
        if entry is None or entry.value.phase is not Phase.PLACED or entry.value.request.tier is Tier.SPOT:
            return
        record, resizing = entry.value, entry.value.resizing
        if resizing is not None and resizing.allowed:
            await self._align(record, epoch)
            await self.tell(slice_id)
            return
        if resizing is None or not stands(node.ledger, record) or not is_overdue(node, slice_id, desk.now_ns()):
            return
        back = given_up(record, overdue_text(node, record, resizing.grace_s))
        if back is None:
            return
        changed = records.changed(back, back.placements, back.sequence, desk.now_ns())
        if inadmissible(node, slice_id, present(node.ledger, slice_id), entries_of(changed, name)) is not None:
            return
        try:
            await desk.records.write(changed, entry)
        except StaleRevisionError:
            return
        log.warning("slice %s: its resize is given up: %s", slice_id, changed.resizing.allowed if changed.resizing else "")
        await self._say(changed)
        await self._align(changed, epoch)
        await self.tell(slice_id)

    async def _say(self, record: SliceRecord) -> None:
        """Refuse the resize; before the old size is in force again, so that whoever waits hears of the refusal first."""
        resizing = record.resizing
        if resizing is not None and resizing.allowed:
            refusal = Refusal("vram_bytes", resizing.given, resizing.allowed)
            fact = refused(resizing.sequence, "slice.resize", record.id, refusal, self._desk.now_ns())
            await self._desk.say(fact, record.traceparent)

    async def tell(self, slice_id: str) -> None:
        """Refuse a resize that was given up, and note that it was refused."""
        desk = self._desk
        entry = await desk.records.get(slice_id)
        resizing = entry.value.resizing if entry is not None else None
        if entry is None or resizing is None or not resizing.allowed:
            return
        await self._say(entry.value)
        try:
            await desk.records.write(replace(entry.value, resizing=None), entry)
        except StaleRevisionError:
            await desk.records.read(slice_id)

    async def elsewhere(self, entry: Entry[SliceRecord], epoch: int) -> bool:
        """Whether a slice whose new place can not hold it goes to another: once for a move.

        Back to where it was, with the size that it had, where it moved for a resize; else to any device, that one too.
        """
        desk, record = self._desk, entry.value
        failing = desk.fleet.node(node_of(record.placements)).failing.get(record.id, "it can not be made")
        back = given_up(record, f"a place that can be made: {failing}")
        if back is not None:
            outcome: Placed | Refusal = Placed(back.placements, back.decision or Decision(summary=""))
        else:
            again = MoveSlice(id=record.id, grace_s=record.grace_s)
            outcome = moved(desk.fleet, record, again, pins_of(desk, record.request.tenant))
        if isinstance(outcome, Refusal):
            return False
        desk.fleet.reserve(record.id, outcome.placements)
        try:
            changed = records.changed(back or record, outcome.placements, record.sequence, desk.now_ns())
            await desk.records.write(replace(changed, decision=outcome.decision), entry)
        except StaleRevisionError:
            return True
        finally:
            desk.fleet.unreserve(record.id, outcome.placements)
        await self._say(changed)
        await self._align(replace(changed, decision=outcome.decision), epoch)
        log.warning("slice %s: goes to %s, where it was moved to can not hold it", record.id, outcome.placements[0].device_id)
        await self.tell(record.id)
        return True

    async def _align(self, record: SliceRecord, epoch: int) -> None:
        desk = self._desk
        for node in nodes_of(record.placements):
            if await desk.ledgers.align(node, record, epoch) is not Outcome.APPLIED:
                desk.untidy.add(record.id)
        desk.mine.add(record.id)
