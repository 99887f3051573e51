"""What becomes of a request that goes on waiting: whom it has evicted, and what it tells of its wait.

Invariant: victims are chosen once for a request. They stand in its record before the first of them is evicted, so that whoever
goes on after a crash evicts the same ones and no others; each goes by an ordinary ``slice.evict``. Until the request has its
place, or the victims have left in vain, nothing else is placed on the devices that they leave.
"""

import logging
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from mica.bus import Entry, StaleRevisionError
from mica.events import EvictSlice, Held, LedgerEntry, Phase, SliceRecord, SuspendSlice, WaitsFor
from mica.planner.deciding import ask_of, decided, pins_of, sized_now
from mica.planner.desk import AGAIN, Answered, Desk
from mica.planner.domain.answers import answer_of
from mica.planner.domain.draining import GRACE_S
from mica.planner.domain.fleet import NodeState
from mica.planner.domain.host_claims import wants_host
from mica.planner.domain.misfits import Refusal
from mica.planner.domain.placing import Ask, Placed, Unplaced
from mica.planner.domain.preempting import Clearance, clear, may_evict, promising
from mica.planner.domain.quotas import holding_of, over_quota
from mica.planner.domain.suspending import makes_room, not_suspendable
from mica.planner.standing import standing_of
from mica.planner.waiting import Head, Waiting

TELL_NS: Final = 5_000_000_000
"""What a request waits for is told anew at most so often, and when victims are chosen."""
MARGIN_NS: Final = 2_000_000_000
"""Nobody is evicted for a request whose time is up less than this after the victims' programs must have ended."""
REASON_MAX: Final = 256

log = logging.getLogger(__name__)


class Preemptions:
    """Looks after requests that do not fit."""

    def __init__(self, desk: Desk, waiting: Waiting) -> None:
        self._desk = desk
        self._waiting = waiting

    def ask(self, record: SliceRecord) -> Ask | None:
        """What the request asks for, away from what is kept for others; None when it has no size."""
        size = sized_now(self._desk, record)
        if isinstance(size, Refusal):
            return None
        return ask_of(
            self._desk,
            record,
            size,
            self._waiting.barred(record, lambda: standing_of(self._desk, self._waiting, record.request.tenant)),
        )

    def keep_for(self, record: SliceRecord) -> bool:
        """Keep the devices where the least has to leave for the request; False where it would not fit if all left."""
        ask = self.ask(record)
        found = clear(self._desk.fleet, ask, lambda _node, _entry: True) if ask is not None else None
        if found is None:
            return False
        self._waiting.head = Head(record.id, frozenset(placement.device_id for placement in found.placed.placements))
        return True

    async def review(self, entry: Entry[SliceRecord], place: tuple[int, int]) -> Answered:
        """Go on with a request that does not fit: evict for it, tell what it waits for."""
        record, ask = entry.value, self.ask(entry.value)
        outcome = decided(self._desk, ask) if ask is not None else None
        if ask is None or not isinstance(outcome, Unplaced):
            return None
        now, told = record, record.waits_for
        if told.victims:
            await self._evict(record)
            if record.nominated and self._have_left(record):
                if isinstance(decided(self._desk, ask), Placed):  # they have left since it was decided
                    self._waiting.wake()
                    return None
                now = replace(now, nominated=())
        else:
            clearance = await self.choose(record, ask)
            if clearance is not None and clearance.victims:
                told = replace(told, victims=tuple(each.id for each in clearance.victims))
                now = replace(now, nominated=clearance.placed.placements)
        refusal = outcome.refusal
        told = replace(
            told, position=place[0], length=place[1], field=refusal.field, asked=refusal.given, free_now=refusal.allowed
        )
        return await self._tell(entry, now, told)

    async def _tell(self, entry: Entry[SliceRecord], now: SliceRecord, told: WaitsFor) -> Answered:
        desk, record = self._desk, entry.value
        at_once = told.victims != record.waits_for.victims or now.nominated != record.nominated
        is_news = replace(told, length=record.waits_for.length) != record.waits_for
        if not at_once and not (is_news and desk.now_ns() - record.updated_at >= TELL_NS):
            return None
        now = replace(
            now, waits_for=replace(told, change=told.change + 1), updated_at=desk.now_ns(), field=told.field, given=told.asked,
            allowed=told.free_now, message=Refusal(told.field, told.asked, told.free_now).message,
        )  # fmt: skip
        try:
            await desk.records.write(now, entry)
        except StaleRevisionError:
            return AGAIN
        self._waiting.add(now)
        await desk.say_record(now)
        if told.victims != record.waits_for.victims:
            log.warning("slice %s: %s are evicted for it", now.id, ", ".join(told.victims))
            await self._evict(now)
        return answer_of(now)

    async def choose(self, record: SliceRecord, ask: Ask) -> Clearance | None:
        """Whom to evict for it, on what the server has now; None where nobody may be, or nobody's leaving helps."""
        desk = self._desk
        if self._clearance(record, ask, {}) is None:
            return None
        await desk.freshen(record.request.tenant)
        if isinstance(decided(desk, ask), Placed):
            self._waiting.wake()
            return None
        found = self._clearance(record, ask, await self._sequences(record, ask))
        if found is None:
            return None
        tenant = record.request.tenant
        quota, held = desk.policies.tenant(tenant).quota, desk.tenants.of(tenant).value
        return None if over_quota(held, record.id, holding_of(found.placed.placements), quota) is not None else found

    def _clearance(self, record: SliceRecord, ask: Ask, sequences: dict[str, int]) -> Clearance | None:
        return clear(self._desk.fleet, ask, self._judge(record), sequences)

    def _judge(self, record: SliceRecord) -> Callable[[NodeState, LedgerEntry], bool]:
        """Whether a slice on a node may be evicted for the request, as policies have it now."""
        pins, left_ns = pins_of(self._desk, record.request.tenant), record.until - self._desk.now_ns()
        in_time = {tier: left_ns >= grace_s * 1e9 + MARGIN_NS for tier, grace_s in GRACE_S.items()}

        def may(node: NodeState, entry: LedgerEntry) -> bool:
            return in_time[entry.tier] and may_evict(record.request, entry, pins.pool(node.pool).preemption)

        return may

    async def _sequences(self, record: SliceRecord, ask: Ask) -> dict[str, int]:
        """By slice that may be evicted, its request's place in the stream: the higher, the younger."""
        found: dict[str, int] = {}
        may = self._judge(record)
        for node in promising(self._desk.fleet, ask, may):
            for slices in list(node.ledger.devices.values()):
                for each in list(slices.values()):
                    if may(node, each):
                        entry = await self._desk.records.get(each.id)
                        found[each.id] = entry.value.request_sequence if entry is not None else 0
        return found

    async def _evict(self, record: SliceRecord) -> None:
        """Ask for every victim to leave that has not been told to; a repetition is dropped by the stream."""
        request = record.request
        why = f"preempted for slice {record.id} of tenant {request.tenant} ({request.tier}, priority {request.priority})"
        for id_ in record.waits_for.victims:
            entry = await self._desk.records.read(id_)
            if entry is None or entry.value.phase is not Phase.PLACED:
                continue
            if any(_is_to_clear(record, each.node, each.device_id) for each in entry.value.placements):
                await self._ask_to_leave(record, entry.value, why[:REASON_MAX])

    async def _ask_to_leave(self, record: SliceRecord, victim: SliceRecord, why: str) -> None:
        """To be suspended where that is enough, and to come back by itself; else to go."""
        command: EvictSlice | SuspendSlice = EvictSlice(id=victim.id, grace_s=GRACE_S[victim.request.tier], reason=why)
        how = "preempt"
        if self._yields(record, victim):
            if victim.suspended:
                return
            how = "preempt-suspend"
            command = SuspendSlice(id=victim.id, lock_s=GRACE_S[victim.request.tier], resumes=True, reason=why)
        await self._desk.bus.publish(command, message_id=f"{how}-{record.id}-{record.generation}-{victim.id}")

    def _yields(self, record: SliceRecord, victim: SliceRecord) -> bool:
        """Whether suspending the victim leaves the devices to the request."""
        desk, node = self._desk, self._desk.fleet.node(victim.placements[0].node)
        if not pins_of(desk, record.request.tenant).pool(node.pool).suspend or wants_host(record.request):
            return False
        wanted = {each.device_id: each for each in record.nominated}
        pairs = [(each, wanted[each.device_id]) for each in victim.placements if each.device_id in wanted]
        if not pairs or not all(makes_room(victim, mine, theirs) for mine, theirs in pairs):
            return False
        return victim.suspended or not_suspendable(desk.fleet, victim) is None

    def _have_left(self, record: SliceRecord) -> bool:
        """Whether nothing of the victims is left where they were to make room."""
        ledgers = [self._desk.fleet.node(placement.node).ledger for placement in record.nominated]
        return not any(
            id_ in ledger.departures
            or any(
                id_ in slices and _is_to_clear(record, ledger.node, device_id) and _is_there(slices[id_])
                for table in (ledger.devices, ledger.held)
                for device_id, slices in table.items()
            )
            for ledger in ledgers
            for id_ in record.waits_for.victims
        )


def _is_there(what: LedgerEntry | Held) -> bool:
    """Whether it has something of the device, or may still have."""
    return not (isinstance(what, LedgerEntry) and what.suspended)


def _is_to_clear(record: SliceRecord, node: str, device_id: str) -> bool:
    """Whether a victim there is in the way: on the request's devices, or anywhere on its nodes where it takes a part of those."""
    if wants_host(record.request):
        return any(each.node == node for each in record.nominated)
    return any(each.device_id == device_id for each in record.nominated)
