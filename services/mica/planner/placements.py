"""A placement made durable: its record, its tenant's charge, the ledgers of its nodes, in that order.

Owns that order; ``consistency.md`` argues why a crash between any two of them is harmless. Invariant: a ledger gets its entry
after the record and the charge are written, or not at all.
"""

import asyncio

from msgspec import Struct

from mica.bus import BusError, Entry, StaleRevisionError
from mica.events import Ledger, SliceRecord, TenantQuota
from mica.planner.commits import Begun, Outcome
from mica.planner.desk import AGAIN, Answered, Desk
from mica.planner.domain.answers import answer_of
from mica.planner.domain.ledgers import nodes_of
from mica.planner.domain.misfits import Refusal
from mica.planner.waiting import Waiting

RECORD, CHARGE = "$record", "$charge"
"""The first two writes of a placement; those of its nodes' ledgers follow, by the nodes' names, in which there is no ``$``."""


class Plan(Struct, frozen=True):
    """A record that is to be written, the epoch it was decided under, and the one it replaces."""

    record: SliceRecord
    epoch: int
    over: Entry[SliceRecord] | None = None


class Unpaid(Struct, frozen=True):
    """The record was written, and its tenant may not have it."""

    entry: Entry[SliceRecord]
    refusal: Refusal


class Barrier(Struct, frozen=True):
    """A node whose ledger does not take the placement."""

    node: str
    refusal: Refusal


class Placements:
    """Writes placements."""

    def __init__(self, desk: Desk, waiting: Waiting) -> None:
        self._desk = desk
        self._waiting = waiting

    async def commit(self, plan: Plan) -> Answered | Unpaid:
        """Make a planned placement real: all three writes at once where nothing stands in the way, else one after the other."""
        desk, record = self._desk, plan.record
        tenant = record.request.tenant
        quota = desk.policies.tenant(tenant).quota
        written = await self._write_at_once(plan, quota)
        entry = desk.records.wrote(record, written[RECORD]) if RECORD in written else None
        if set(nodes_of(record.placements)) <= written.keys():
            return self._entered(record)
        charging = desk.tenants.charge(tenant, record.id, desk.cost_of(record), quota)
        try:
            entry = entry or await desk.records.write(record, plan.over)
        except BusError as error:
            await asyncio.wait((charging,))
            if not isinstance(error, StaleRevisionError):
                raise
            await desk.settle_tenant(record.id, tenant)
            return AGAIN
        charged = await charging
        if isinstance(charged, Refusal):
            return Unpaid(entry, charged)
        answer = await self.enter(entry, plan.epoch)
        return AGAIN if isinstance(answer, Barrier) else answer

    async def enter(self, entry: Entry[SliceRecord], epoch: int) -> Answered | Barrier:
        """The ledger writes that make a placement real, one node after the other."""
        record = entry.value
        for node in nodes_of(record.placements):
            outcome = await self._desk.ledgers.align(node, record, epoch)
            if outcome is Outcome.OVERTAKEN or isinstance(outcome, Refusal):
                return AGAIN if outcome is Outcome.OVERTAKEN else Barrier(node, outcome)
        return self._entered(record)

    def _entered(self, record: SliceRecord) -> Answered:
        self._desk.mine.add(record.id)
        self._waiting.settle(record)
        return answer_of(record)

    async def _write_at_once(self, plan: Plan, quota: TenantQuota) -> dict[str, int]:
        """The revisions of what was written, nodes' ledgers by their names: nothing, the first few, or all."""
        desk, record = self._desk, plan.record
        tenant = record.request.tenant
        charge = desk.tenants.begin_charge(tenant, record.id, desk.cost_of(record), quota)
        if charge is None:
            return {}
        entries: dict[str, Begun[Ledger]] = {}
        for node in nodes_of(record.placements):
            entry = desk.ledgers.begin_align(node, record, plan.epoch)
            if entry is None:
                for begun in entries:
                    desk.ledgers.of(begun).abandon()
                desk.tenants.of(tenant).abandon()
                return {}
            entries[node] = entry
        written: dict[str, int] = {}
        try:
            writes = (desk.records.begin(record, plan.over), charge.write, *(entry.write for entry in entries.values()))
            revisions = await desk.bus.state.chain(writes)
            written = dict(zip((RECORD, CHARGE, *entries), revisions, strict=False))
        finally:
            desk.tenants.of(tenant).end(charge, written.get(CHARGE))
            for node, entry in entries.items():
                desk.ledgers.of(node).end(entry, written.get(node))
        return written
