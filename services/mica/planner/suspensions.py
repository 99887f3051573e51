"""``slice.suspend`` and ``slice.resume``, and what becomes of suspended slices that are to come back.

Invariants: a slice is told suspended, or resumed, by the enforcer, once it is so; its tenant is charged for it all the time. One
that waits to come back stands in the queue with the requests, in the same order, and is brought back by an ordinary
``slice.resume``, so that a crash at any point is made good as for any command.
"""

import logging
from functools import partial
from typing import Final

from msgspec.structs import replace

from mica.bus import Entry, StaleRevisionError
from mica.events import Fact, Placement, ResumeSlice, SliceRecord, SuspendSlice, WaitsFor
from mica.planner.changes import Change, Changes, Found, NotYetError
from mica.planner.commits import Outcome
from mica.planner.desk import AGAIN, ATTEMPTS, Again, Answered, Call, Desk
from mica.planner.domain import records
from mica.planner.domain.answers import waits_to_resume
from mica.planner.domain.ledgers import node_of, nodes_of
from mica.planner.domain.misfits import Refusal
from mica.planner.domain.moving import used_by
from mica.planner.domain.suspending import back_in, not_suspendable
from mica.planner.standing import standing_of
from mica.planner.waiting import Waiting

TELL_NS: Final = 5_000_000_000
"""What a slice waits for is told anew at most so often."""
ASK_NS: Final = 1_000_000_000
"""A slice for which there is room is asked to come back at most so often."""

log = logging.getLogger(__name__)


class Suspensions:
    """Suspends slices and brings them back."""

    def __init__(self, desk: Desk, waiting: Waiting, changes: Changes) -> None:
        self._desk = desk
        self._waiting = waiting
        self._changes = changes
        self._promised: dict[str, tuple[Placement, ...]] = {}
        """What is kept for slices that were just asked to come back."""

    async def on_suspend(self, call: Call) -> Fact | None:
        """Take it off its devices; ``slice.suspended`` follows from the enforcer."""
        return self._noted(call, await self._changes.change(call, self._suspend))

    async def on_resume(self, call: Call) -> Fact | None:
        """Bring it back, or have it wait for room; ``slice.resumed`` follows from the enforcer."""
        self._break_promise(call.id)
        return self._noted(call, await self._changes.change(call, self._resume))

    def _noted(self, call: Call, answer: Fact | None) -> Fact | None:
        """Remember who waits to come back; what it waits for is the answer, where there is no other."""
        entry = self._desk.records.cached(call.id)
        if entry is None:
            return answer
        self._waiting.settle(entry.value)
        waits = isinstance(call.command, ResumeSlice) and entry.value.suspended and entry.value.sequence == call.sequence
        return waits_to_resume(entry.value) if waits and answer is None else answer

    async def _suspend(self, call: Call, record: SliceRecord) -> Found:
        command, desk = call.command, self._desk
        assert isinstance(command, SuspendSlice)
        node = desk.fleet.node(node_of(record.placements))
        refusal = not_suspendable(desk.fleet, record) if not record.suspended else None
        if refusal is not None:
            await desk.freshen(record.request.tenant)
            refusal = not_suspendable(desk.fleet, record)
        if refusal is not None:
            return refusal
        held = any(record.id in slices for slices in node.ledger.held.values())
        if held or any(used_by(node, record.id, placement) is None for placement in record.placements):
            raise NotYetError(f"slice {record.id}: its last change is not in force yet")
        return Change(records.suspended(record, command, call.sequence, desk.now_ns()))

    async def _resume(self, call: Call, record: SliceRecord) -> Found:
        desk = self._desk
        if not record.suspended:
            return Refusal("id", record.id, "a slice that is suspended")
        room = self._room(record)
        if isinstance(room, Refusal):
            await desk.freshen(record.request.tenant)
            room = self._room(record)
        if isinstance(room, Refusal):
            waiting = replace(record, resumes=True, waits_for=_lacks(record.waits_for, room), sequence=call.sequence)
            return Change(replace(waiting, updated_at=desk.now_ns()))
        return Change(records.resumed(record, room, call.sequence, desk.now_ns()))

    def _room(self, record: SliceRecord) -> tuple[Placement, ...] | Refusal:
        """Where it comes back to, unless that is taken, or kept for somebody that comes before it."""
        kept = self._waiting.barred(record, partial(standing_of, self._desk, self._waiting, record.request.tenant))
        barred = next((each.device_id for each in record.placements if each.device_id in kept), None)
        if barred is not None:
            return Refusal("device_id", barred, "a device that is not kept for a request that comes first")
        return back_in(self._desk.fleet, record)

    async def retry(self, entry: Entry[SliceRecord], place: tuple[int, int]) -> Answered:
        """Go on with a suspended slice that is to come back: ask it to where there is room, else tell what it waits for."""
        desk, record = self._desk, entry.value
        self._break_promise(record.id)
        room = self._room(record)
        if isinstance(room, Refusal):
            return await self._tell(entry, room, place)
        desk.fleet.reserve(record.id, room)
        self._promised[record.id] = room
        name = f"resume-{record.id}-{record.generation}-{desk.now_ns() // ASK_NS}"
        await desk.bus.publish(ResumeSlice(id=record.id, reason="there is room for it again"), message_id=name)
        return None

    def _break_promise(self, slice_id: str) -> None:
        self._desk.fleet.unreserve(slice_id, self._promised.pop(slice_id, ()))

    async def _tell(self, entry: Entry[SliceRecord], lack: Refusal, place: tuple[int, int]) -> Answered:
        record, was = entry.value, entry.value.waits_for
        told = replace(_lacks(was, lack), position=place[0], length=place[1])
        is_news = replace(told, length=was.length, change=was.change) != was
        if not is_news or self._desk.now_ns() - record.updated_at < TELL_NS:
            return None
        now = replace(record, waits_for=told, updated_at=self._desk.now_ns())
        try:
            await self._desk.records.write(now, entry)
        except StaleRevisionError:
            return AGAIN
        self._waiting.settle(now)
        return waits_to_resume(now)

    async def take_back(self, slice_id: str) -> None:
        """The enforcer could not suspend it: it goes on where it is, and nobody else gets what it has there."""
        desk = self._desk
        for _ in range(ATTEMPTS):
            epoch = desk.ledgers.epoch
            entry = await desk.records.read(slice_id)
            why = self._refused(entry)
            if entry is None or why is None or not isinstance(await self._go_on(entry, epoch, why), Again):
                return

    async def bring_up(self, entry: Entry[SliceRecord], epoch: int) -> Outcome:
        """Bring the ledgers up to a record that says suspended, whose command is gone; where that does not fit, it goes on."""
        for node in nodes_of(entry.value.placements):
            outcome = await self._desk.ledgers.align(node, entry.value, epoch)
            if isinstance(outcome, Refusal):
                again = isinstance(await self._go_on(entry, epoch, outcome.message), Again)
                return Outcome.OVERTAKEN if again else Outcome.APPLIED
            if outcome is Outcome.OVERTAKEN:
                return outcome
        self._waiting.settle(entry.value)
        return Outcome.APPLIED

    def _refused(self, entry: Entry[SliceRecord] | None) -> str | None:
        if entry is None or not entry.value.suspended or not entry.value.placements:
            return None
        generation, why = self._desk.fleet.node(node_of(entry.value.placements)).unsuspended.get(entry.value.id, (0, ""))
        return why if generation == entry.value.generation else None

    async def _go_on(self, entry: Entry[SliceRecord], epoch: int, why: str) -> Answered:
        desk = self._desk
        try:
            written = await desk.records.write(records.not_suspended(entry.value, why, desk.now_ns()), entry)
        except StaleRevisionError:
            return AGAIN
        log.warning("slice %s: was not suspended: %s", written.value.id, why)
        self._waiting.settle(written.value)
        for node in nodes_of(written.value.placements):
            if await desk.ledgers.align(node, written.value, epoch) is not Outcome.APPLIED:
                desk.untidy.add(written.value.id)
        desk.mine.add(written.value.id)
        self._waiting.wake()
        return None


def _lacks(was: WaitsFor, lack: Refusal) -> WaitsFor:
    return replace(was, field=lack.field, asked=lack.given, free_now=lack.allowed, change=was.change + 1)
