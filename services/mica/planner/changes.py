"""Every command on one slice but ``slice.request``: release, evict, resize, control, move; ``suspensions.py`` has two more.

Invariant: the record changes first and the ledger follows it, so that a command that is delivered again finds in the record
whether it was applied, and only has to bring the ledger up to it. What must not exceed a quota is charged before the record, what
is given back is uncharged after the ledger is confirmed.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from mica.bus import Entry, StaleRevisionError
from mica.events import (
    TERMINAL_PHASES,
    Command,
    Control,
    ControlSlice,
    EvictSlice,
    Fact,
    Ledger,
    LedgerEntry,
    MoveSlice,
    Phase,
    Placement,
    ReleaseSlice,
    ResizeSlice,
    Resizing,
    SliceRecord,
)
from mica.planner.commits import Outcome
from mica.planner.deciding import pins_of
from mica.planner.desk import AGAIN, ATTEMPTS, Again, Answered, Call, ContendedError, Desk
from mica.planner.domain import records
from mica.planner.domain.answers import answer_of, refused
from mica.planner.domain.ledgers import Ending, is_open, node_of, nodes_of, present, size_of, stands
from mica.planner.domain.misfits import Refusal
from mica.planner.domain.moving import moved
from mica.planner.domain.offering import offered, with_offer
from mica.planner.domain.quotas import holding_of
from mica.planner.domain.resizing import Ordered, resized, resizing_of
from mica.planner.waiting import Waiting

C = TypeVar("C", bound=Command)


class NotYetError(Exception):
    """An earlier change of the slice is not confirmed; the command has to wait."""


class Change(Struct, frozen=True):
    """What a command makes of a record."""

    record: SliceRecord
    ending: Ending | None = None


Found = Change | Refusal


class Changes:
    """Applies commands to slices that exist."""

    def __init__(self, desk: Desk, waiting: Waiting) -> None:
        self._desk = desk
        self._waiting = waiting

    async def on_release(self, call: Call) -> Fact | None:
        """Give it back; ``slice.released`` follows from the enforcer."""
        command = _of(call, ReleaseSlice)
        return await self._depart(call, Ending(grace_s=command.grace_s, traceparent=call.traceparent))

    async def on_evict(self, call: Call) -> Fact | None:
        """Take it away; ``slice.evicted`` follows from the enforcer."""
        command = _of(call, EvictSlice)
        ending = Ending(
            grace_s=command.grace_s, evicted=True, message=command.reason, traceparent=call.traceparent, again=command.again
        )
        return await self._depart(call, ending)

    async def on_resize(self, call: Call) -> Fact | None:
        """Change its size where it is; ``slice.resized`` follows from the enforcer."""
        return await self.change(call, self._resize)

    async def on_control(self, call: Call) -> Fact | None:
        """Set its control word."""
        return await self.change(call, self._control)

    async def on_move(self, call: Call) -> Fact | None:
        """Place it on another device of its node."""
        return await self.change(call, self._move)

    async def _depart(self, call: Call, ending: Ending) -> Fact | None:
        for attempt in range(ATTEMPTS):
            epoch = self._desk.ledgers.epoch
            entry = await self._record(call, first=attempt == 0)
            answer = await (self._unknown(call) if entry is None else self._leave(call, entry, epoch, ending))
            if not isinstance(answer, Again):
                return answer
        raise ContendedError(call.id)

    async def _record(self, call: Call, *, first: bool) -> Entry[SliceRecord] | None:
        """The record; from the server where the command may be in it already.

        Then the ledger is brought up to the record as it is, and no compare-and-set would fail if that was an old one.
        """
        records = self._desk.records
        new = first and call.delivery.deliveries == 1 and not call.waits
        return await (records.get(call.id) if new else records.read(call.id))

    async def _unknown(self, call: Call) -> Answered:
        """Refuse, and remember it: a request that was sent before this must not come to life after it."""
        desk = self._desk
        try:
            await desk.records.write(records.released_early(call.id, call.sequence, desk.now_ns()), None)
        except StaleRevisionError:
            return AGAIN
        return self._refuse(call, _no_such(call.id))

    async def _leave(self, call: Call, entry: Entry[SliceRecord], epoch: int, ending: Ending) -> Answered:
        desk, record = self._desk, entry.value
        if records.is_unrequested(record):
            return self._refuse(call, _no_such(call.id))
        if call.sequence < record.sequence:
            return self._void(call, record)
        if record.phase in TERMINAL_PHASES:
            return self._gone(call, record)
        try:
            if record.phase is Phase.QUEUED:
                return await self._withdraw(call, entry)
            if record.phase is Phase.PLACED or (record.again and call.sequence > record.sequence):
                again = ending.again and _may_go_on(record)
                leaving = records.releasing(record, call.sequence, desk.now_ns(), ending.message, evicted=ending.evicted)
                entry = await desk.records.write(replace(leaving, again=again), entry)
        except StaleRevisionError:
            return AGAIN
        return None if await self._align(entry, epoch, ending) is Outcome.APPLIED else AGAIN

    def _gone(self, call: Call, record: SliceRecord) -> Fact | None:
        if call.sequence == record.sequence:
            return answer_of(record)
        return self._refuse(call, Refusal("id", call.id, f"a slice that lives; this one is {record.phase}"))

    async def _withdraw(self, call: Call, entry: Entry[SliceRecord]) -> Fact | None:
        """What only waits ends as a rejected request."""
        desk, record = self._desk, entry.value
        refusal = Refusal("id", call.id, f"a request that is not withdrawn; command {call.sequence} did that")
        rejected = replace(records.turned_down(record, refusal, record.decision, desk.now_ns()), sequence=call.sequence)
        await desk.records.write(rejected, entry)
        self._waiting.discard(record.id)
        return answer_of(rejected)

    async def change(self, call: Call, find: Callable[[Call, SliceRecord], Awaitable[Found]]) -> Fact | None:
        """Apply a command that leaves the slice alive; ``find`` says what it makes of the record."""
        for attempt in range(ATTEMPTS):
            epoch = self._desk.ledgers.epoch
            entry = await self._record(call, first=attempt == 0)
            refusal = _not_placed(call.id, entry)
            if entry is None or (refusal is not None and call.sequence > entry.value.sequence):
                return self._refuse(call, refusal or _no_such(call.id))
            if call.sequence < entry.value.sequence or refusal is not None:
                return self._void(call, entry.value)
            if call.sequence == entry.value.sequence:
                answer = await self._finish(call, entry, epoch)
            else:
                answer = await self._apply(call, entry, epoch, find)
            if not isinstance(answer, Again):
                return answer
        raise ContendedError(call.id)

    async def _apply(
        self, call: Call, entry: Entry[SliceRecord], epoch: int, find: Callable[[Call, SliceRecord], Awaitable[Found]]
    ) -> Answered:
        desk, record = self._desk, entry.value
        for node in nodes_of(record.placements):
            if stands(desk.ledgers.of(node).value, record):
                continue
            await desk.ledgers.of(node).refresh()
            await desk.records.read(record.id)
            raise NotYetError(f"slice {record.id}: generation {record.generation} is not in the ledger yet")
        found = await find(call, record)
        if isinstance(found, Refusal):
            return self._refuse(call, found)
        tenant = record.request.tenant
        before, after = desk.cost_of(record), holding_of(found.record.placements)
        desk.fleet.reserve(record.id, found.record.placements)
        try:
            if after.vram_bytes > before.vram_bytes or after.share_ppm > before.share_ppm:
                most = replace(
                    after, vram_bytes=max(before.vram_bytes, after.vram_bytes), share_ppm=max(before.share_ppm, after.share_ppm)
                )
                charged = await desk.tenants.charge(tenant, record.id, most, desk.policies.tenant(tenant).quota)
                if isinstance(charged, Refusal):
                    return self._refuse(call, charged)
            try:
                entry = await desk.records.write(found.record, entry)
            except StaleRevisionError:
                await desk.settle_tenant(record.id, tenant)
                return AGAIN
            return await self._finish(call, entry, epoch)
        finally:
            desk.fleet.unreserve(record.id, found.record.placements)

    async def _finish(self, call: Call, entry: Entry[SliceRecord], epoch: int) -> Answered:
        """Bring the ledger up to a record that has the command in it; take the command back if it no longer fits."""
        outcome = await self._align(entry, epoch, None)
        if outcome is Outcome.APPLIED:
            return None
        if outcome is Outcome.OVERTAKEN:
            return AGAIN
        desk, record = self._desk, entry.value
        node = desk.ledgers.of(node_of(record.placements)).value
        standing = present(node, record.id)
        kept = _as_it_stands(record.placements, standing)
        suspended = any(each.suspended for each in standing.values())
        if len(kept) != len(record.placements):
            raise NotYetError(f"slice {record.id}: its ledger entry is not there yet")
        epoch = desk.ledgers.epoch
        try:
            back = records.changed(record, kept, call.sequence, desk.now_ns())
            back = replace(back, suspended=suspended, resumes=suspended and (record.resumes or not record.suspended))
            entry = await desk.records.write(back, entry)
        except StaleRevisionError:
            return AGAIN
        if await self._align(entry, epoch, None) is not Outcome.APPLIED:
            desk.untidy.add(record.id)
        await desk.settle_tenant(record.id, record.request.tenant)
        return self._refuse(call, outcome)

    async def _align(self, entry: Entry[SliceRecord], epoch: int, ending: Ending | None) -> Outcome | Refusal:
        record = entry.value
        for node in nodes_of(record.placements):
            outcome = await self._desk.ledgers.align(node, record, epoch, ending)
            if outcome is not Outcome.APPLIED:
                return outcome
        self._desk.mine.add(record.id)
        return Outcome.APPLIED

    async def _resize(self, call: Call, record: SliceRecord) -> Found:
        command = _of(call, ResizeSlice)
        desk, nodes = self._desk, nodes_of(record.placements)
        if len(nodes) > 1:
            return Refusal("id", record.id, f"a slice on one node; this one is a gang over {len(nodes)}: request another slice")
        if record.suspended:
            return Refusal("id", record.id, "a slice that is not suspended")
        state = desk.fleet.node(node_of(record.placements))
        _check_open(state.ledger, record)
        outcome = resized(state, record, command)
        if isinstance(outcome, Refusal):
            await desk.freshen(record.request.tenant)
            outcome = resized(state, record, command)
        order = Ordered(command, call.sequence, desk.now_ns())
        if isinstance(outcome, Refusal):
            return self._offer(record, order, outcome)
        changed = _sized(records.changed(record, outcome, call.sequence, order.at), command)
        return Change(replace(changed, size_sequence=call.sequence, resizing=resizing_of(state, record, outcome, order)))

    def _offer(self, record: SliceRecord, order: Ordered, refusal: Refusal) -> Found:
        """Where it could have the size, if anywhere; it goes there if the command allows that."""
        command = order.command
        offer = offered(self._desk.fleet, record, command, pins_of(self._desk, record.request.tenant))
        if offer is None:
            return refusal
        if not command.may_move:
            return with_offer(refusal, offer.placements)
        changed = _sized(records.changed(record, offer.placements, order.sequence, order.at), command)
        resizing = Resizing(before=record.placements, sequence=order.sequence, grace_s=command.grace_s)
        moved_there = replace(
            changed, decision=offer.decision, grace_s=command.grace_s, moved_generation=changed.generation, resizing=resizing
        )
        return Change(replace(moved_there, size_sequence=order.sequence))

    async def _control(self, call: Call, record: SliceRecord) -> Found:
        command = _of(call, ControlSlice)
        if command.control is Control.SUSPEND:
            return Refusal("control", command.control, "run, throttle, pause, drain or kill; for that there is slice.suspend")
        now = self._desk.now_ns()
        changed = records.changed(record, record.placements, call.sequence, now)
        return Change(replace(changed, control=command.control, control_sequence=call.sequence))

    async def _move(self, call: Call, record: SliceRecord) -> Found:
        command = _of(call, MoveSlice)
        desk = self._desk
        _check_open(desk.fleet.node(node_of(record.placements)).ledger, record)
        await desk.freshen(record.request.tenant)
        outcome = moved(desk.fleet, record, command, pins_of(desk, record.request.tenant))
        if isinstance(outcome, Refusal):
            return outcome
        changed = records.changed(record, outcome.placements, call.sequence, desk.now_ns())
        grace_s = command.grace_s if command.grace_s is not None else changed.grace_s
        moved_to = replace(
            changed, decision=outcome.decision, grace_s=grace_s, moved_generation=changed.generation, resizing=None
        )
        return Change(moved_to)

    def _refuse(self, call: Call, refusal: Refusal) -> Fact:
        return refused(call.sequence, call.delivery.subject, call.id, refusal, self._desk.now_ns())

    def _void(self, call: Call, record: SliceRecord) -> Fact | None:
        """A newer command was applied. One that may have been applied before that was answered then; any other is told."""
        if call.delivery.deliveries > 1 and not call.waits:
            return None
        return self._refuse(call, Refusal("id", call.id, f"a command newer than {record.sequence}, the last one applied"))


def _may_go_on(record: SliceRecord) -> bool:
    """Whether it can go on elsewhere: what a suspended slice has left is on its node, and a gang has several of them to leave."""
    return not record.suspended and len(nodes_of(record.placements)) == 1


def _of(call: Call, kind: type[C]) -> C:
    """The command, whose type the dispatcher has chosen the handler by."""
    assert isinstance(call.command, kind)
    return call.command


def _check_open(ledger: Ledger, record: SliceRecord) -> None:
    """A change may follow one that is not confirmed yet, unless the slice still has to leave another place.

    Raises:
        NotYetError: it has, or a resize was given up and that is not told yet.
    """
    if not is_open(ledger, record.id) or (record.resizing is not None and record.resizing.allowed):
        raise NotYetError(f"slice {record.id}: its last change is not confirmed yet")


def _sized(record: SliceRecord, command: ResizeSlice) -> SliceRecord:
    """With the size that it is to have wherever it goes."""
    return replace(
        record,
        vram_bytes=command.vram_bytes or record.vram_bytes,
        share_ppm=command.share_ppm or record.share_ppm,
        own_limits=record.placements[0].limits if command.limits.given else record.own_limits,
    )


def _as_it_stands(placements: tuple[Placement, ...], standing: Mapping[str, LedgerEntry]) -> tuple[Placement, ...]:
    """The placements with what the ledger gives, or gives back once the slice is no longer suspended."""
    return tuple(
        replace(
            placement, vram_bytes=size_of(entry)[0], share_ppm=size_of(entry)[1], partition=entry.partition,
            window=entry.window, limits=entry.limits,
        )
        for placement in placements
        for entry in [standing.get(placement.device_id)]
        if entry is not None
    )  # fmt: skip


def _no_such(slice_id: str) -> Refusal:
    return Refusal("id", slice_id, "the id of a slice")


def _not_placed(slice_id: str, entry: Entry[SliceRecord] | None) -> Refusal | None:
    if entry is None or records.is_unrequested(entry.value):
        return _no_such(slice_id)
    if entry.value.phase is not Phase.PLACED:
        return Refusal("id", slice_id, f"a slice that is placed; this one is {entry.value.phase}")
    return None
