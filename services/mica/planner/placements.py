"""A placement made durable: its record, its tenant's charge, its node's ledger, in that order.

Owns that order; ``consistency.md`` argues why a crash between any two of them is harmless. Invariant: the ledger gets its entry
after the record and the charge are written, or not at all.
"""

import asyncio

from msgspec import Struct

from mica.bus import BusError, Entry, StaleRevisionError
from mica.events import SliceRecord, TenantQuota
from mica.planner.commits import Outcome
from mica.planner.desk import AGAIN, Answered, Desk
from mica.planner.domain.answers import answer_of
from mica.planner.domain.ledgers import node_of
from mica.planner.domain.misfits import Refusal
from mica.planner.domain.quotas import holding_of
from mica.planner.waiting import Waiting

RECORD, CHARGE, LEDGER = WRITES = ("record", "charge", "ledger")
"""The writes of a placement, in their order."""


class Plan(Struct, frozen=True):
    """A record that is to be written, the epochs it was decided under, and the one it replaces."""

    record: SliceRecord
    epochs: dict[str, int]
    over: Entry[SliceRecord] | None = None


class Unpaid(Struct, frozen=True):
    """The record was written, and its tenant may not have it."""

    entry: Entry[SliceRecord]
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
        if LEDGER in written:
            return self._entered(record)
        charging = desk.tenants.charge(tenant, record.id, holding_of(record.placements), quota)
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
        answer = await self.enter(entry, plan.epochs)
        return AGAIN if isinstance(answer, Refusal) else answer

    async def enter(self, entry: Entry[SliceRecord], epochs: dict[str, int]) -> Answered | Refusal:
        """The ledger write that makes a placement real."""
        record = entry.value
        node = node_of(record.placements)
        outcome = await self._desk.ledgers.align(node, record, epochs.get(node, -1))
        if outcome is Outcome.OVERTAKEN or isinstance(outcome, Refusal):
            return AGAIN if outcome is Outcome.OVERTAKEN else outcome
        return self._entered(record)

    def _entered(self, record: SliceRecord) -> Answered:
        self._desk.mine.add(record.id)
        self._waiting.discard(record.id)
        return answer_of(record)

    async def _write_at_once(self, plan: Plan, quota: TenantQuota) -> dict[str, int]:
        """The revisions of what was written: nothing, the first few of ``WRITES``, or all."""
        desk, record = self._desk, plan.record
        tenant, node = record.request.tenant, node_of(record.placements)
        charge = desk.tenants.begin_charge(tenant, record.id, holding_of(record.placements), quota)
        if charge is None:
            return {}
        entry = desk.ledgers.begin_align(node, record, plan.epochs.get(node, -1))
        if entry is None:
            desk.tenants.of(tenant).abandon()
            return {}
        written: dict[str, int] = {}
        try:
            revisions = await desk.bus.state.chain((desk.records.begin(record, plan.over), charge.write, entry.write))
            written = dict(zip(WRITES, revisions, strict=False))
        finally:
            desk.tenants.of(tenant).end(charge, written.get(CHARGE))
            desk.ledgers.of(node).end(entry, written.get(LEDGER))
        return written
