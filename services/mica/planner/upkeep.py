"""What is looked at from time to time: leases, sick devices, waiting requests, and what a crash or another replica has left.

Invariant: every difference between records, charges and ledgers that a crash can leave is found here or by the redelivery of the
command that made it; nothing is given up on a single look.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Final

from mica.bus import Entry, StaleRevisionError
from mica.events import TERMINAL_PHASES, Fact, Holding, Ledger, Observed, Phase, SliceLost, SliceRecord, SliceRejected
from mica.planner.deciding import ask_of, sized_now
from mica.planner.desk import ATTEMPTS, Again, Answered, Desk
from mica.planner.domain import records
from mica.planner.domain.fleet import NodeState
from mica.planner.domain.ledgers import nodes_of, present, size_of, stands
from mica.planner.domain.pools import NS
from mica.planner.domain.queueing import is_kept_for
from mica.planner.domain.sizing import Size
from mica.planner.drains import Drains
from mica.planner.followups import Followups
from mica.planner.requests import Requests
from mica.planner.standing import standing_of
from mica.planner.waiting import Waiting

log = logging.getLogger(__name__)

LEAVING: Final = Holding(vram_bytes=0, share_ppm=0)
HEADS: Final = 4
"""Devices are kept for the first of so many in front of the queue that would fit if others left."""
AT_ONCE: Final = 256
"""Devices for which it takes no more than some milliseconds to look ahead."""
AT_A_TIME: Final = 64
"""So many nodes are looked at in well below a millisecond."""
LEASE_MARGIN_NS: Final = 10_000_000_000
"""How long a lease must be seen to be over, on a connection that works, before the node's slices are given up."""


class Upkeep:
    """The planner's housekeeping."""

    def __init__(self, desk: Desk, requests: Requests, followups: Followups, waiting: Waiting) -> None:
        self._desk = desk
        self._suspensions = followups.suspensions
        self._requests = requests
        self._followups = followups
        self._waiting = waiting
        self._drains = Drains(desk, followups)
        self._expired_since: dict[str, int] = {}
        self._suspects: set[tuple[str, str]] = set()
        self._fenced: set[str] = set()

    async def review(self) -> None:
        """Look at every node anew, as if nothing had been followed; a bar that stays is what somebody has left half done."""
        desk = self._desk
        await desk.ledgers.catch_up()
        async for node in unhurried(list(desk.fleet.nodes.values())):
            self._followups.review(node, everybody=True)
            await self._look_for_losses(node)
            await self._drains.review(node)
        fenced = {id_ for node in desk.fleet.nodes.values() for id_ in node.ledger.fenced}
        untidy, desk.untidy = desk.untidy | (fenced & self._fenced), set()
        self._fenced = fenced
        for slice_id in sorted(untidy):
            await self._tidy(slice_id)

    async def _look_for_losses(self, node: NodeState) -> None:
        ledger = node.ledger
        on_books = {id_ for slices in ledger.devices.values() for id_ in slices} | set(ledger.departures)
        if not on_books:
            return
        if await self._is_gone(node):
            for id_ in sorted(on_books):
                await self._followups.lose(node.name, id_, f"node {node.name}: its lease ended and nobody renewed it", again=True)
        elif node.inventory is not None:
            known = {device.id for device in node.inventory.devices}
            for device_id in sorted(set(ledger.devices) - known):
                for id_ in list(ledger.devices[device_id]):
                    await self._followups.lose(node.name, id_, f"device {device_id} of node {node.name} is gone")

    async def _is_gone(self, node: NodeState) -> bool:
        """Whether the lease has been over for long enough, each look of which was at what the server has now."""
        desk, now = self._desk, self._desk.clock.monotonic_ns()
        if not node.leased(desk.now_ns()):
            entry = await desk.bus.state.get(f"observed.{node.name}", Observed)
            if entry is None or entry.value.lease_until <= desk.now_ns():
                return now - self._expired_since.setdefault(node.name, now) >= LEASE_MARGIN_NS
        self._expired_since.pop(node.name, None)
        return False

    async def recall(self) -> list[Entry[SliceRecord]]:
        """Read every record once, and know who waits, and which devices are kept for whom, before anything is decided."""
        entries = await self._desk.records.sweep()
        for entry in entries:
            if records.is_waiting(entry.value):
                self._waiting.add(entry.value)
        self._learn(entries)
        return entries

    def _learn(self, entries: Iterable[Entry[SliceRecord]]) -> None:
        """What is there says what may be expected to come."""
        desk, index = self._desk, self._desk.fleet.index
        for record in sorted((each.value for each in entries), key=lambda each: each.sequence):
            size = sized_now(desk, record) if record.phase is Phase.PLACED and record.placements else None
            if isinstance(size, Size):
                ask = ask_of(desk, record, size)
                index.refresh(ask.pins)
                index.recall(ask, record.placements, record.updated_at)

    async def look_ahead(self) -> None:
        """Keep places for what is expected, where enough has come for another look; a long search runs in a thread."""
        for foresighted in self._desk.fleet.index.due():
            outlook = foresighted.look(self._desk.now_ns() / NS)
            quick = foresighted.board.devices <= AT_ONCE
            foresighted.adopt(outlook.plan() if quick else await asyncio.to_thread(outlook.plan))

    async def sweep(self, entries: Iterable[Entry[SliceRecord]]) -> None:
        """Go on with whatever stands half done."""
        desk = self._desk
        seen: set[str] = set()
        for entry in entries:
            seen.add(entry.value.id)
            if entry.value.phase is Phase.QUEUED or records.is_unannounced(entry.value):
                self._waiting.add(entry.value)
                continue
            if records.is_waiting(entry.value):
                self._waiting.add(entry.value)
            if self._is_half_done(entry.value):
                await self._tidy(entry.value.id)
        for node in list(desk.fleet.nodes.values()):
            for id_ in sorted({id_ for slices in node.ledger.devices.values() for id_ in slices} - seen):
                await self._tidy(id_)
        self._waiting.wake()

    def _is_half_done(self, record: SliceRecord) -> bool:
        fleet = self._desk.fleet
        if record.phase in TERMINAL_PHASES:
            return any(
                present(node.ledger, record.id) or record.id in node.ledger.departures or record.id in node.ledger.fenced
                for node in fleet.census.holders(record.id)
            )
        nodes = nodes_of(record.placements)
        if not nodes or not fleet.nodes.keys() >= set(nodes):
            return False
        ledgers = [fleet.nodes[node].ledger for node in nodes]
        if record.phase is Phase.RELEASING:
            return any(record.id not in ledger.departures for ledger in ledgers)
        return not all(stands(ledger, record) for ledger in ledgers)

    async def cross_check(self) -> None:
        """Compare what tenants are charged for with what ledgers hold; act on what differs twice in a row."""
        desk = self._desk
        await desk.tenants.discover()
        await desk.ledgers.catch_up()
        for tenant in desk.tenants.names():
            await desk.tenants.of(tenant).refresh()
        given: dict[tuple[str, str], Holding] = {}
        shrinking: set[str] = set()
        async for node in unhurried(list(desk.fleet.nodes.values())):
            add_charges(given, node.ledger)
            shrinking.update(id_ for slices in node.ledger.held.values() for id_ in slices)
        documents = [desk.tenants.of(tenant).value for tenant in desk.tenants.names()]
        charged = {(each.tenant, id_): holding for each in documents for id_, holding in each.holdings.items()}
        suspects = {
            key
            for key in given.keys() | charged.keys()
            if not _agree(given.get(key), charged.get(key), shrinking=key[1] in shrinking)
        }
        for tenant, slice_id in sorted(suspects & self._suspects):
            await self._resolve(tenant, slice_id)
        self._suspects = suspects
        known = {id_ for _, id_ in given.keys() | charged.keys()}
        desk.mine &= known
        desk.records.prune(known | self._waiting.ids())

    async def _resolve(self, tenant: str, slice_id: str) -> None:
        """A charge without a slice, or a slice without a charge: the record decides, and one that is missing is barred first."""
        desk = self._desk
        async with desk.turns.of(slice_id):
            if await desk.records.read(slice_id) is None:
                try:
                    await desk.records.write(records.released_early(slice_id, 0, desk.now_ns()), None)
                except StaleRevisionError:
                    return
            log.warning("slice %s: the charge to tenant %s and the ledgers differ; set right by the record", slice_id, tenant)
            await self._tidy_locked(slice_id)
            await desk.settle_tenant(slice_id, tenant)

    async def _tidy(self, slice_id: str) -> None:
        async with self._desk.turns.of(slice_id):
            await self._tidy_locked(slice_id)

    async def _tidy_locked(self, slice_id: str) -> None:
        """On every node that is or should be concerned, make the ledger say what the record says."""
        desk = self._desk
        entry = await desk.records.read(slice_id)
        nodes = {node.name for node in desk.fleet.census.holders(slice_id)}
        if entry is not None and entry.value.placements and entry.value.phase not in TERMINAL_PHASES:
            own = nodes_of(entry.value.placements)
            nodes -= set(own)
            for node in own:
                await self._followups.tidy(node, slice_id)
        for node in sorted(nodes):
            await self._followups.tidy(node, slice_id)

    async def retry_waiting(self) -> None:
        """Try everybody who waits, in order."""
        self._waiting.changed.clear()
        for tenant in sorted(self._waiting.tenants()):
            await self._desk.load_tenant(tenant)
        self._waiting.total = self._desk.fleet.census.total
        order = self._waiting.in_order(standing_of(self._desk, self._waiting))
        heads = HEADS
        position = 0
        for slice_id in order:
            async with self._desk.turns.of(slice_id):
                for attempt in range(ATTEMPTS):
                    answer = await self._retry(slice_id, (position + 1, len(order)), fresh=attempt > 0)
                    if not isinstance(answer, Again):
                        break
            record = self._waiting.get(slice_id)
            if record is None or record.phase is not Phase.QUEUED:
                continue
            position += 1
            if heads and is_kept_for(record, self._desk.now_ns()):
                heads = 0 if self._requests.preemptions.keep_for(record) else heads - 1

    async def _retry(self, slice_id: str, place: tuple[int, int], *, fresh: bool) -> Answered:
        desk = self._desk
        epoch = desk.ledgers.epoch
        entry: Entry[SliceRecord] | None = await (desk.records.read(slice_id) if fresh else desk.records.get(slice_id))
        if entry is not None and records.is_unannounced(entry.value):
            return await self._announce(entry)
        if entry is None or entry.value.phase not in (Phase.QUEUED, Phase.PLACED):
            self._waiting.discard(slice_id)
            return None
        queued = entry.value.phase is Phase.QUEUED
        if records.is_waiting(entry.value) and not queued:
            answer = await self._come_back(entry, place)
        else:
            answer = await (self._requests.retry_queued(entry, place) if queued else self._requests.resume(entry, epoch))
        if isinstance(answer, SliceRejected | SliceLost):
            return Again.AGAIN
        if isinstance(answer, Fact):
            await desk.say(answer, entry.value.traceparent)
        return answer

    async def _come_back(self, entry: Entry[SliceRecord], place: tuple[int, int]) -> Answered:
        """Of a suspended slice: once its ledgers say that it is."""
        ledgers = self._desk.ledgers
        if all(stands(ledgers.of(node).value, entry.value) for node in nodes_of(entry.value.placements)):
            return await self._suspensions.retry(entry, place)
        return None

    async def _announce(self, entry: Entry[SliceRecord]) -> Answered:
        """Tell that a request has waited in vain, then note that it was told."""
        await self._desk.say_record(entry.value)
        self._waiting.discard(entry.value.id)
        with suppress(StaleRevisionError):
            await self._desk.records.write(records.announced(entry.value), entry)
        return None

    def wake_due(self) -> None:
        """Have the queue tried when somebody's time is up."""
        if self._waiting.due(self._desk.now_ns()):
            self._waiting.wake()


def add_charges(sums: dict[tuple[str, str], Holding], ledger: Ledger) -> None:
    """Add by tenant and slice what a ledger gives; nothing, but charged all the same, for what is on its way out."""
    for id_, departure in ledger.departures.items():
        sums[departure.tenant, id_] = LEAVING
    for slices in ledger.devices.values():
        for id_, entry in slices.items():
            before, (vram_bytes, share_ppm) = sums.get((entry.tenant, id_), LEAVING), size_of(entry)
            sums[entry.tenant, id_] = Holding(vram_bytes=before.vram_bytes + vram_bytes, share_ppm=before.share_ppm + share_ppm)


async def unhurried(nodes: list[NodeState]) -> AsyncIterator[NodeState]:
    """One after the other, and now and then whoever else waits for the processor: no command waits for a large fleet."""
    for number, node in enumerate(nodes, start=1):
        yield node
        if number % AT_A_TIME == 0:
            await asyncio.sleep(0)


def _agree(given: Holding | None, charged: Holding | None, *, shrinking: bool) -> bool:
    """Whether a charge is right: what is on its way out, or down, stays charged in full until the enforcer confirms it."""
    if given is None or charged is None:
        return given is None and shrinking
    if given == LEAVING:
        return True
    return given == charged or (shrinking and charged.vram_bytes >= given.vram_bytes and charged.share_ppm >= given.share_ppm)
