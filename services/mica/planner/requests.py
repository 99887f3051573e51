"""``slice.request``: from a request to a record, a charge and a ledger entry.

Owns what is answered, and when a placement is taken back; ``placements.py`` owns the order in which one is written. Invariant: a
record that was PLACED is never answered otherwise before its node is fenced against the placement.
"""

import logging
import re
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Final

from msgspec.structs import replace

from mica.bus import Entry, StaleRevisionError
from mica.events import Fact, Phase, PoolPolicy, RequestSlice, SlicePlaced, SliceRecord
from mica.planner.commits import NEVER, Outcome
from mica.planner.deciding import ask_of, decided, pins_of, sized_now
from mica.planner.desk import AGAIN, ATTEMPTS, Again, Answered, Call, ContendedError, Desk
from mica.planner.domain import ledgers as edits
from mica.planner.domain import records
from mica.planner.domain.answers import answer_of, unowned_rejection
from mica.planner.domain.draining import is_placed_again
from mica.planner.domain.ledgers import is_barred, nodes_of, present, stands
from mica.planner.domain.misfits import Refusal
from mica.planner.domain.placing import Placed, Unplaced
from mica.planner.gangs import Gangs
from mica.planner.placements import Barrier, Placements, Plan, Unpaid
from mica.planner.preemptions import Preemptions
from mica.planner.standing import standing_of
from mica.planner.waiting import Waiting

log = logging.getLogger(__name__)

OWN_ID: Final = re.compile(r"seq-[0-9]+")
OVER: Final = frozenset({Phase.RELEASING, Phase.RELEASED, Phase.EVICTED, Phase.LOST})
TRIED_AGAIN: Final = 8
"""After so many generations that no device could hold, a request has failed."""


class Requests:
    """Answers requests, and goes on with what a crash or another replica has left."""

    def __init__(self, desk: Desk, waiting: Waiting) -> None:
        self._desk = desk
        self._waiting = waiting
        self._placements = Placements(desk, waiting)
        self.preemptions = Preemptions(desk, waiting)
        self.gangs = Gangs(desk)

    async def on_request(self, call: Call) -> Fact | None:
        """The answer to a request; None when it was answered before by somebody else."""
        refusal = _own_id(call)
        if refusal is not None:
            return self._unowned(call, refusal)
        entry = self._desk.records.cached(call.id)
        for attempt in range(ATTEMPTS):
            epoch = self._desk.ledgers.epoch
            if attempt or entry is not None:
                entry = await self._desk.records.read(call.id)
            answer = await (self._new(call, None) if entry is None else self._known(call, entry, epoch))
            if not isinstance(answer, Again):
                return answer
        raise ContendedError(call.id)

    async def _new(self, call: Call, over: Entry[SliceRecord] | None) -> Answered:
        assert isinstance(call.command, RequestSlice)
        record = records.blank(call.id, call.command, call.sequence, self._desk.now_ns())
        record = replace(record, traceparent=call.traceparent, generation=over.value.generation if over is not None else 0)
        return await self._commit(await self._plan(record, over))

    async def _known(self, call: Call, entry: Entry[SliceRecord], epoch: int) -> Answered:
        """The id has a record: the same request again, or another that wants the same name."""
        record = entry.value
        if records.is_unrequested(record):
            return await self._after_release(call, entry)
        if record.request != call.command:
            return self._unowned(call, Refusal("id", call.id, "an id that no request with another body has"))
        again = call.sequence > record.request_sequence
        if record.phase in OVER and call.sequence > record.sequence:
            allowed = f"an id that was not used in the last 24 h; this slice is {record.phase}"
            return self._unowned(call, Refusal("id", call.id, allowed))
        if record.phase is Phase.PLACED:
            answer = await self.resume(entry, epoch)
            return await self._ready_again(answer) if again and isinstance(answer, SlicePlaced) else answer
        if record.phase is Phase.QUEUED:
            self._waiting.add(record)
        return answer_of(record)

    async def _ready_again(self, placed: SlicePlaced) -> Fact:
        """What was said last: that it is ready, in the enforcer's very words, or as long as that is open, where it is placed.

        The message id is the enforcer's too: whoever follows the slice hears it again, the stream keeps it once.
        """
        return await self._desk.ready_fact(placed.id) or placed

    async def _after_release(self, call: Call, entry: Entry[SliceRecord]) -> Answered:
        """The id was released before it was asked for; only a request that was sent after that is a new one."""
        if call.sequence > entry.value.sequence:
            return await self._new(call, entry)
        assert isinstance(call.command, RequestSlice)
        record = replace(entry.value, request=call.command, request_sequence=call.sequence, traceparent=call.traceparent)
        refusal = Refusal("id", call.id, "an id that was not released yet")
        with suppress(StaleRevisionError):
            await self._desk.records.write(records.rejected(record, refusal, None, self._desk.now_ns()), entry)
        return AGAIN

    def _unowned(self, call: Call, refusal: Refusal) -> Fact:
        tenant = call.command.tenant if isinstance(call.command, RequestSlice) else ""
        return unowned_rejection(call.sequence, tenant, refusal, self._desk.now_ns())

    async def _plan(self, record: SliceRecord, over: Entry[SliceRecord] | None, excluded: AbstractSet[str] = frozenset()) -> Plan:
        """Decide; before anything but a placement is answered, look again at what the server has."""
        desk, tenant = self._desk, record.request.tenant
        size = sized_now(desk, record)
        if isinstance(size, Refusal):
            return Plan(records.turned_down(record, size, None, desk.now_ns()), NEVER, over)
        await desk.load_tenant(tenant)
        await desk.load_partner(record.request)
        outcome = decided(desk, ask_of(desk, record, size, excluded | self._barred(record)))
        if not isinstance(outcome, Placed):
            await desk.freshen(tenant)
            outcome = decided(desk, ask_of(desk, record, size, excluded | self._barred(record)))
        now = desk.now_ns()
        if isinstance(outcome, Placed):
            desk.fleet.reserve(record.id, outcome.placements, record.request)
            decision = outcome.decision
            if record.lost is not None:
                decision = replace(decision, summary=f"{record.lost.message}; {decision.summary}")
            return Plan(records.placed(record, outcome.placements, decision, now), desk.ledgers.epoch, over)
        if outcome.possible and record.until > now:
            return Plan(records.queued(record, outcome.refusal, outcome.decision, now), NEVER, over)
        return Plan(records.turned_down(record, outcome.refusal, outcome.decision, now), NEVER, over)

    def _barred(self, record: SliceRecord) -> frozenset[str]:
        return self._waiting.barred(record, lambda: standing_of(self._desk, self._waiting, record.request.tenant))

    async def _commit(self, plan: Plan) -> Answered:
        """Make a plan durable: record and charge, then the ledger."""
        if plan.record.phase is Phase.PLACED:
            try:
                placed = await self._placements.commit(plan)
                if isinstance(placed, Unpaid):
                    return await self._withdraw(placed.entry, placed.refusal, plan.epoch)
                return placed
            finally:
                self._desk.fleet.unreserve(plan.record.id, plan.record.placements)
        record, tenant = plan.record, plan.record.request.tenant
        try:
            await self._desk.records.write(record, plan.over)
        except StaleRevisionError:
            return AGAIN
        if record.phase is Phase.QUEUED or records.is_unannounced(record):
            self._waiting.add(record)
            self._waiting.wake()
        else:
            self._waiting.discard(record.id)
        if record.id in self._desk.tenants.of(tenant).value.holdings:
            await self._desk.settle_tenant(record.id, tenant)
        return answer_of(record)

    async def resume(self, entry: Entry[SliceRecord], epoch: int) -> Answered:
        """Go on with a record that says PLACED, wherever its author stopped; ``epoch`` is from before it was read."""
        desk, record = self._desk, entry.value
        ledgers = [desk.ledgers.of(node).value for node in nodes_of(record.placements)]
        if all(stands(ledger, record) for ledger in ledgers):
            self._waiting.settle(record)
            return answer_of(record)
        if any(is_barred(ledger, record) for ledger in ledgers):
            return await self.replan(entry, epoch)
        policy = desk.policies.tenant(record.request.tenant)
        charged = await desk.tenants.charge(record.request.tenant, record.id, desk.cost_of(record), policy.quota)
        if isinstance(charged, Refusal):
            return await self._withdraw(entry, charged, epoch)
        outcome = await self._placements.enter(entry, epoch)
        if not isinstance(outcome, Barrier):
            return outcome
        fenced = await desk.ledgers.fence(outcome.node, record, epoch)
        return await self.replan(entry, epoch) if fenced is Outcome.APPLIED else AGAIN

    async def replan(self, entry: Entry[SliceRecord], epoch: int) -> Answered:
        """Decide anew about a placement that is barred from one of its nodes: it is not whole, and never will be again.

        One that was told ready, and was taken out of the ledger by somebody who then died, is lost, or with its node.
        """
        record = entry.value
        if await self._desk.was_ready(record):
            gone = not all(self._desk.fleet.node(node).leased(self._desk.now_ns()) for node in nodes_of(record.placements))
            why = "it was taken off its device"
            answer = await (self.lose(entry, why) if gone else self.end(entry, Phase.LOST, why))
        else:
            answer = await self._commit(await self._plan(replace(record, placements=()), entry))
        if not isinstance(answer, Again):
            await self._take_back(record, epoch)
        return answer

    async def lose(self, entry: Entry[SliceRecord], why: str) -> Answered:
        """Of a slice that was ready, and is barred from its node: place it elsewhere if its tier is to be, else give it up."""
        record = entry.value
        if not is_placed_again(record.request.tier, self._policy_of(record)):
            return await self.end(entry, Phase.LOST, why)
        return await self.go_on(entry, why)

    async def go_on(self, entry: Entry[SliceRecord], why: str) -> Answered:
        """Place a slice elsewhere that was ready and can't be there any more, or have it wait for a place."""
        desk, record = self._desk, entry.value
        await self.gangs.tell_before_its_end(record)
        homeless = records.homeless(record, why, desk.now_ns(), self._policy_of(record).loss_queue_s)
        log.warning("slice %s looks for another place: %s", record.id, why)
        return await self._commit(await self._plan(homeless, entry))

    def _policy_of(self, record: SliceRecord) -> PoolPolicy:
        """That of the pool where it is."""
        pool = self._desk.fleet.node(nodes_of(record.placements)[0]).pool
        return pins_of(self._desk, record.request.tenant).pool(pool)

    async def end(self, entry: Entry[SliceRecord], phase: Phase, why: str) -> Answered:
        """Give a slice up, and say so."""
        desk = self._desk
        ended = records.ended(entry.value, phase, why, desk.now_ns())
        await self.gangs.tell_before_its_end(entry.value)
        try:
            await desk.records.write(ended, entry)
        except StaleRevisionError:
            return AGAIN
        log.warning("slice %s %s: %s", ended.id, phase, why)
        await desk.say_record(ended)
        return answer_of(ended)

    async def _take_back(self, before: SliceRecord, epoch: int) -> None:
        """Clear the nodes of a placement that was given up, now that the record says otherwise."""
        desk = self._desk
        entry = await desk.records.read(before.id)
        now = entry.value if entry is not None else before
        for node in nodes_of(before.placements):
            if len(nodes_of(before.placements)) > 1 and await desk.ledgers.align(node, now, epoch) is not Outcome.APPLIED:
                desk.untidy.add(before.id)
            await desk.ledgers.edit(node, lambda ledger: edits.unfence(ledger, before.id, before.generation))
        await desk.settle_tenant(before.id, before.request.tenant)

    async def replace_failed(self, entry: Entry[SliceRecord], failed: AbstractSet[str], message: str) -> Answered:
        """Place a slice elsewhere that its devices could not hold, or say that it has failed.

        The ledger of the old node is left to the caller, once the new one has its entry: until then the failure stays visible.
        """
        desk, record = self._desk, entry.value
        plan = await self._plan(replace(record, placements=(), evicted=False, again=False), entry, failed)
        tried = record.generation - (record.lost.generation if record.lost is not None else 0)
        if plan.record.phase in (Phase.REJECTED, Phase.LOST) or tried >= TRIED_AGAIN:
            desk.fleet.unreserve(record.id, plan.record.placements)
            failure = f"{message}; nothing else holds it: {plan.record.message or 'tried too often'}"
            phase = Phase.FAILED if record.lost is None else Phase.LOST
            plan = Plan(records.ended(record, phase, failure, desk.now_ns()), NEVER, entry)
        return await self._commit(plan)

    async def retry_queued(self, entry: Entry[SliceRecord], place: tuple[int, int]) -> Answered:
        """Place a request that waits, or reject it when its time is up; while it must wait, what is new about that.

        ``place`` is its position in the queue, 1 for the first, and the queue's length.
        """
        record, now = entry.value, self._desk.now_ns()
        if now < record.until and not isinstance(self._peek(record), Placed):
            return await self.preemptions.review(entry, place)
        plan = await self._plan(record, entry)
        if plan.record.phase is Phase.QUEUED:
            return None
        return await self._commit(plan)

    def _peek(self, record: SliceRecord) -> Placed | Unplaced | None:
        ask = self.preemptions.ask(record)
        return None if ask is None else decided(self._desk, ask)

    async def _withdraw(self, entry: Entry[SliceRecord], refusal: Refusal, epoch: int) -> Answered:
        """Reject what was recorded as placed and is not in all of its ledgers: first bar it from one, then say so."""
        desk, record = self._desk, entry.value
        nodes = nodes_of(record.placements)
        node = next((each for each in nodes if not present(desk.ledgers.of(each).value, record.id)), nodes[0])
        if await desk.ledgers.fence(node, record, epoch) is not Outcome.APPLIED:
            return AGAIN
        if await desk.was_ready(record):
            return await self.replan(entry, epoch)
        try:
            written = await desk.records.write(records.turned_down(record, refusal, record.decision, desk.now_ns()), entry)
        except StaleRevisionError:
            return AGAIN
        self._waiting.add(written.value)
        self._waiting.wake()
        await self._take_back(record, epoch)
        return answer_of(written.value)


def _own_id(call: Call) -> Refusal | None:
    """Ids of the form that mica gives itself are for the message that they name."""
    if OWN_ID.fullmatch(call.id) and call.id != f"seq-{call.sequence}":
        return Refusal("id", call.id, "an id that does not look like seq-<number>, which mica gives to requests without one")
    return None
