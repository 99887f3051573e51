"""What follows from what the enforcers report: confirmed departures and changes, failures, lost nodes and devices.

Invariants: capacity is given back only after the node's enforcer has confirmed it. A slice that cannot stay is taken out of its
node's ledger and barred from it first, then the stream is asked whether it was told ready, and only then it is answered anew.
"""

import asyncio
import logging
from collections.abc import Iterator
from functools import partial

from msgspec import Struct

from mica.bus import Entry, StaleRevisionError
from mica.events import Departure, Fact, Ledger, Observed, Phase, SliceFact, SliceRecord, Tier
from mica.planner.commits import Outcome
from mica.planner.desk import AGAIN, ATTEMPTS, Again, Answered, Desk
from mica.planner.domain import ledgers as edits
from mica.planner.domain import records
from mica.planner.domain.fleet import NodeState
from mica.planner.domain.ledgers import (
    Ending,
    has_left,
    is_barred,
    is_confirmed,
    is_ignored,
    is_told_by_planner,
    nodes_of,
    present,
    stands,
)
from mica.planner.domain.misfits import Refusal
from mica.planner.requests import Requests
from mica.planner.retreats import Retreats
from mica.planner.suspensions import Suspensions
from mica.planner.waiting import Waiting

log = logging.getLogger(__name__)


class Due(Struct, frozen=True):
    """Something that a node's documents ask for.

    ``what`` is left, settled, overdue (a shrink), failed, refused (to be suspended) or, of a gang over several nodes, ready.
    """

    what: str
    slice_id: str
    device_id: str = ""


def due(node: NodeState, now_ns: int) -> Iterator[Due]:
    """What follows from the ledger and what is observed, as they stand side by side."""
    ledger, observed = node.ledger, node.observed
    if observed is None:
        return
    for id_, departure in ledger.departures.items():
        if has_left(id_, departure, observed):
            yield Due("left", id_)
    for device_id, slices in ledger.held.items():
        entries, present_there = ledger.devices.get(device_id, {}), observed.devices.get(device_id, {})
        for id_, held in slices.items():
            entry = entries.get(id_)
            if id_ not in ledger.departures and is_confirmed(held, entry, present_there.get(id_), observed):
                yield Due("settled", id_, device_id)
            elif held.entry.tier is not Tier.SPOT and is_ignored(held, entry, present_there.get(id_), observed, now_ns):
                yield Due("overdue", id_, device_id)
    yield from (Due("failed", id_) for id_ in node.failing if _is_failed(ledger, observed, id_))
    yield from (Due("refused", id_) for id_, (generation, _) in node.unsuspended.items() if _wants_away(ledger, id_, generation))
    yield from (Due("ready", id_) for id_, entry in node.gangs.items() if node.is_live(id_, entry.generation))


def _is_failed(ledger: Ledger, observed: Observed, slice_id: str) -> bool:
    return any(
        seen.generation == entry.generation
        for device_id, entry in present(ledger, slice_id).items()
        if (seen := observed.devices.get(device_id, {}).get(slice_id)) is not None
    )


def _wants_away(ledger: Ledger, slice_id: str, generation: int) -> bool:
    """Whether the slice is still to be suspended as it could not be."""
    return any(entry.suspended and entry.generation == generation for entry in present(ledger, slice_id).values())


class Followups:
    """Acts on what is due."""

    def __init__(self, desk: Desk, requests: Requests, waiting: Waiting, suspensions: Suspensions) -> None:
        self._desk = desk
        self.suspensions = suspensions
        self._requests = requests
        self._waiting = waiting
        self._under_way: set[str] = set()
        self._gangs = requests.gangs
        self._retreats = Retreats(desk)

    def review(self, node: NodeState, *, everybody: bool) -> None:
        """Start on what is due on a node: for the slices of this replica, or for ``everybody``'s."""
        for each in due(node, self._desk.now_ns()):
            if each.what == "ready" and not self._gangs.is_due(each.slice_id):
                continue
            if (everybody or each.slice_id in self._desk.mine) and each.slice_id not in self._under_way:
                self._under_way.add(each.slice_id)
                self._desk.spawn(self._act(node.name, each))

    async def _act(self, node: str, each: Due) -> None:
        try:
            async with self._desk.turns.of(each.slice_id):
                if each.what == "left":
                    await self._left(node, each.slice_id)
                elif each.what == "settled":
                    await self._settled(node, each)
                elif each.what == "overdue":
                    await self._retreats.overdue(node, each.slice_id)
                elif each.what == "refused":
                    await self.suspensions.take_back(each.slice_id)
                elif each.what == "ready":
                    await self._gangs.ready(each.slice_id)
                else:
                    await self._failed(node, each.slice_id)
        except Exception as error:  # noqa: BLE001 - what is due stays due, or is untidy: the next review finds it again
            log.warning("slice %s: %s is not done yet: %s", each.slice_id, each.what, error)
            self._desk.untidy.add(each.slice_id)
        finally:
            self._under_way.discard(each.slice_id)

    async def _left(self, node: str, slice_id: str) -> None:
        """Nothing of a departed slice is left: uncharge it, bury its record, clear the departure."""
        desk = self._desk
        departure = desk.fleet.node(node).ledger.departures.get(slice_id)
        if departure is None:
            return
        entry = await self._leaving(slice_id)
        for _ in range(ATTEMPTS):
            if entry is None or entry.value.phase is not Phase.RELEASING:
                break
            if not self._gangs.has_left(entry.value):
                return
            if entry.value.again and await self._go_on(node, entry) is not AGAIN:
                return
            if not entry.value.again and await self._bury(entry, departure) is not AGAIN:
                break
            entry = await desk.records.read(slice_id)
        else:
            return
        if entry is not None and entry.value.phase is not Phase.RELEASING:
            await desk.settle_tenant(slice_id, departure.tenant)
        for each in sorted({node, *await self._gangs.gone(slice_id, departure)}):
            await desk.ledgers.edit(each, lambda ledger: edits.forget(ledger, slice_id))
        desk.mine.discard(slice_id)
        self._waiting.wake()

    async def _bury(self, entry: Entry[SliceRecord], departure: Departure) -> Answered:
        """Uncharge a slice and end its record, both at once."""
        desk, record = self._desk, entry.value
        phase = Phase.EVICTED if record.evicted else Phase.RELEASED
        end = records.ended(record, phase, departure.message, desk.now_ns())
        uncharging = desk.tenants.uncharge(departure.tenant, record.id)
        written, uncharged = await asyncio.gather(desk.records.write(end, entry), uncharging, return_exceptions=True)
        if isinstance(written, StaleRevisionError):
            return AGAIN
        for failure in (written, uncharged):
            if isinstance(failure, BaseException):
                raise failure
        return None

    async def _go_on(self, node: str, entry: Entry[SliceRecord]) -> Answered:
        """Place an evicted slice elsewhere, of which nothing is left.

        Its departure goes first: whoever goes on after a crash finds a record that is leaving, and lets it leave once more.
        """
        desk, record = self._desk, entry.value
        await desk.ledgers.edit(node, lambda ledger: edits.forget(ledger, record.id))
        why = f"evicted from node {node}" + (f": {record.message}" if record.message else "")
        ready = record.lost is not None or await desk.was_ready(record)
        answer = await (self._requests.go_on(entry, why) if ready else self._requests.replace_failed(entry, frozenset(), why))
        if isinstance(answer, Again):
            return answer
        if isinstance(answer, Fact):
            await desk.say(answer, record.traceparent)
        await desk.settle_tenant(record.id, record.request.tenant)
        self._waiting.wake()
        return answer

    async def _leaving(self, slice_id: str) -> Entry[SliceRecord] | None:
        """The record of a slice that its ledger has let go; if another replica did that, what is cached is its placement."""
        entry = await self._desk.records.get(slice_id)
        if entry is not None and entry.value.phase is not Phase.RELEASING:
            return await self._desk.records.read(slice_id)
        return entry

    async def _settled(self, node: str, each: Due) -> None:
        """A change is confirmed: what it gave back is free."""
        desk = self._desk
        held = desk.fleet.node(node).ledger.held.get(each.device_id, {}).get(each.slice_id)
        await self._retreats.tell(each.slice_id)
        await desk.ledgers.edit(node, lambda ledger: _settle_if_due(desk.fleet.node(node), each, ledger))
        entry = await desk.records.get(each.slice_id)
        if entry is not None and entry.value.phase is Phase.PLACED:
            tenant = entry.value.request.tenant
            await desk.settle_tenant(each.slice_id, tenant)
        elif held is not None and each.slice_id in desk.tenants.of(held.entry.tenant).value.holdings:
            await desk.settle_tenant(each.slice_id, held.entry.tenant)
        self._waiting.wake()

    async def give_up(self, node: str, slice_id: str, why: str) -> None:
        """Take a slice off devices that are of no use: lost if it was ready, else placed elsewhere."""
        async with self._desk.turns.of(slice_id):
            await self._failed(node, slice_id, why)

    async def _failed(self, node: str, slice_id: str, why: str = "") -> None:
        """The enforcer can not hold it, or ``why`` it is not to stay: elsewhere, or give it up."""
        desk, message = self._desk, why
        nodes = {node}
        for _ in range(ATTEMPTS):
            epoch = desk.ledgers.epoch
            entry = await desk.records.read(slice_id)
            message = message or desk.fleet.node(node).failing.get(slice_id, "")
            if entry is None or entry.value.phase is not Phase.PLACED or not message:
                break
            nodes |= set(nodes_of(entry.value.placements))
            if await self._retake(entry, epoch, node, message) is not AGAIN:
                break
        for each in sorted(nodes):
            await self.tidy(each, slice_id)

    async def _retake(self, entry: Entry[SliceRecord], epoch: int, node: str, message: str) -> Answered:
        desk, record = self._desk, entry.value
        ledger = desk.fleet.node(node).ledger
        if not stands(ledger, record) and not is_barred(ledger, record):
            answer = await self._requests.resume(entry, epoch)
        elif record.moved_generation == record.generation and await self._retreats.elsewhere(entry, epoch):
            return None
        elif await desk.ledgers.bar(node, record, epoch) is not Outcome.APPLIED:
            return AGAIN
        elif await desk.was_ready(record):
            return await self._requests.end(entry, Phase.LOST, f"node {node}: {message}")
        else:
            failed = frozenset(placement.device_id for placement in record.placements if placement.node == node)
            answer = await self._requests.replace_failed(entry, failed, f"node {node}: {message}")
        if isinstance(answer, Fact):
            await desk.say(answer, record.traceparent)
        return answer

    async def lose(self, node: str, slice_id: str, why: str, *, again: bool = False) -> None:
        """Give up a slice whose node or device is gone; with ``again`` it is placed elsewhere if its tier is to be."""
        desk = self._desk
        nodes = {node}
        async with desk.turns.of(slice_id):
            for _ in range(ATTEMPTS):
                epoch = desk.ledgers.epoch
                entry = await desk.records.read(slice_id)
                if entry is None or entry.value.phase not in (Phase.PLACED, Phase.RELEASING):
                    break
                if entry.value.phase is Phase.PLACED and node not in nodes_of(entry.value.placements):
                    break
                nodes |= set(nodes_of(entry.value.placements))
                if await self._give_up(entry, epoch, (node, why), again=again) is not AGAIN:
                    break
            for each in sorted(nodes):
                await self.tidy(each, slice_id)

    async def _give_up(self, entry: Entry[SliceRecord], epoch: int, cause: tuple[str, str], *, again: bool) -> Answered:
        node, why = cause
        if await self._desk.ledgers.bar(node, entry.value, epoch, at_once=again) is not Outcome.APPLIED:
            return AGAIN
        if entry.value.phase is not Phase.PLACED and not entry.value.again:
            ready = entry.value.lost is not None or await self._desk.was_ready(entry.value)
            phase = Phase.LOST if ready else Phase.FAILED
            return await self._requests.end(entry, phase, why)
        if await self._desk.was_ready(entry.value):
            moves = again and not entry.value.suspended  # what a suspended slice has left of its programs is on the node
            answer = await (self._requests.lose(entry, why) if moves else self._requests.end(entry, Phase.LOST, why))
        else:
            answer = await self._requests.replace_failed(entry, frozenset(), why)
        if isinstance(answer, Fact):
            await self._desk.say(answer, entry.value.traceparent)
        return answer

    async def tidy(self, node: str, slice_id: str) -> None:
        """Make a node's ledger and the tenant's charge follow the slice's record; repeat the answer of one that ended."""
        desk = self._desk
        for _ in range(ATTEMPTS):
            epoch = desk.ledgers.epoch
            ledger = desk.ledgers.of(node).value
            entry = await desk.records.read(slice_id)
            record = entry.value if entry is not None else None
            here = record is not None and node in nodes_of(record.placements)
            outcome: Outcome | Refusal
            if entry is not None and here and entry.value.phase is Phase.PLACED and entry.value.suspended:
                outcome = await self.suspensions.bring_up(entry, epoch)
            elif record is not None and here and record.phase is Phase.PLACED:
                answer = await self._requests.resume(entry, epoch) if entry is not None else None
                if isinstance(answer, SliceFact) and answer.generation > record.generation:
                    await desk.say(answer, record.traceparent)
                outcome = Outcome.OVERTAKEN if isinstance(answer, Again) else Outcome.APPLIED
            elif record is not None and here and record.phase is Phase.RELEASING:
                ending = Ending(evicted=record.evicted, message=record.message)
                outcome = await desk.ledgers.align(node, record, epoch, ending)
            elif record is not None and _asks_for_its_end(ledger, record):
                outcome = await desk.ledgers.align(node, record, epoch)
            else:
                if record is not None:
                    await self._hear(record)
                outcome = await desk.ledgers.of(node).submit(partial(_drop, slice_id), epoch)
            if outcome is Outcome.APPLIED:
                tenants = {each.tenant for each in present(ledger, slice_id).values()}
                await desk.settle_tenant(slice_id, *sorted(tenants | ({record.request.tenant} if record is not None else set())))
                self._waiting.wake()
                return

    async def _hear(self, record: SliceRecord) -> None:
        """Of a slice that is on no node: repeat an end that may not have been told, and remember one that waits."""
        if record.phase in (Phase.LOST, Phase.FAILED) or records.is_unannounced(record):
            await self._desk.say_record(record)
        elif record.phase is Phase.QUEUED:
            self._waiting.add(record)


def _asks_for_its_end(ledger: Ledger, record: SliceRecord) -> bool:
    """Whether a slice is gone of which no enforcer says so, and its departure still asks the planner to."""
    departure = ledger.departures.get(record.id)
    asks = departure is not None and is_told_by_planner(departure)
    return asks and record.phase in (Phase.RELEASED, Phase.EVICTED)


def _drop(slice_id: str, ledger: Ledger) -> Ledger:
    return edits.unfence(edits.drop(ledger, slice_id, ledger.generation + 1), slice_id, 1 << 62)


def _settle_if_due(node: NodeState, each: Due, ledger: Ledger) -> Ledger:
    """Look again at what is held: it may have been taken back and given again since."""
    held = ledger.held.get(each.device_id, {}).get(each.slice_id)
    if held is None or node.observed is None:
        return ledger
    entry = ledger.devices.get(each.device_id, {}).get(each.slice_id)
    seen = node.observed.devices.get(each.device_id, {}).get(each.slice_id)
    return edits.settle(ledger, each.slice_id, each.device_id) if is_confirmed(held, entry, seen, node.observed) else ledger
