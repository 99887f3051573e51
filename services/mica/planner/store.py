"""The planner's documents: records by id, holdings by tenant, ledgers by node.

Owns what is cached of them. Invariant: a cached record is the latest that this replica has written or read; whatever it is used
for ends in a compare-and-set that fails when it no longer is.
"""

import asyncio
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Final

from msgspec.structs import replace

from mica.bus import Bucket, Change, Clock, Entry, Write
from mica.events import TERMINAL_PHASES, Holding, Ledger, LedgerEntry, SliceRecord, TenantHoldings, TenantQuota
from mica.planner.commits import Begun, Edit, Epochs, GroupCommit, Key, Outcome, Spawn
from mica.planner.domain import ledgers as edits
from mica.planner.domain import quotas
from mica.planner.domain.admission import inadmissible
from mica.planner.domain.fleet import Fleet, NodeState
from mica.planner.domain.ledgers import Ending
from mica.planner.domain.misfits import Refusal
from mica.planner.domain.records import TOMBSTONE_S
from mica.planner.progress import Progress

LEDGERS: Final = "ledger.*"
KEPT: Final = 20_000
"""Records that are remembered, those first that were read or written last; others are read again when they are asked for."""

Answer = asyncio.Future[Outcome | Refusal]


class Records:
    """``slice.<id>``."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._living: dict[str, Entry[SliceRecord]] = {}

    def cached(self, slice_id: str) -> Entry[SliceRecord] | None:
        """A living record as last seen, if it is still remembered."""
        return self._living.get(slice_id)

    async def get(self, slice_id: str) -> Entry[SliceRecord] | None:
        """A record as last seen while it lives, else from the server."""
        return self._living.get(slice_id) or await self.read(slice_id)

    async def read(self, slice_id: str) -> Entry[SliceRecord] | None:
        """A record from the server."""
        self._living.pop(slice_id, None)
        entry = await self._bucket.get(f"slice.{slice_id}", SliceRecord)
        if entry is not None:
            self._keep(entry)
        return entry

    async def write(self, record: SliceRecord, over: Entry[SliceRecord] | None) -> Entry[SliceRecord]:
        """Write a record that does not exist, or over the one that was read.

        Raises:
            StaleRevisionError: somebody else wrote it first.
        """
        key = f"slice.{record.id}"
        ttl_s = TOMBSTONE_S if record.phase in TERMINAL_PHASES else 0
        self._living.pop(record.id, None)
        if over is None:
            revision = await self._bucket.create(key, record, ttl_s=ttl_s)
        else:
            revision = await self._bucket.update(key, record, over.revision, ttl_s=ttl_s)
        return self.wrote(record, revision)

    def begin(self, record: SliceRecord, over: Entry[SliceRecord] | None) -> Write:
        """The write of a record beside other documents; until it is noted with ``wrote``, nothing is known of the record."""
        self._living.pop(record.id, None)
        return Write(f"slice.{record.id}", record, over.revision if over is not None else 0)

    def wrote(self, record: SliceRecord, revision: int) -> Entry[SliceRecord]:
        """Note that a record was written beside other documents."""
        entry = Entry(f"slice.{record.id}", record, revision)
        self._keep(entry)
        return entry

    def prune(self, living: AbstractSet[str]) -> None:
        """Forget cached records of slices that live nowhere any more, because another replica has ended them."""
        self._living = {id_: entry for id_, entry in self._living.items() if id_ in living}

    async def sweep(self) -> list[Entry[SliceRecord]]:
        """Every record of the bucket."""
        changes = aiter(self._bucket.watch("slice.*", SliceRecord))
        first = await anext(changes)
        await changes.aclose()  # type: ignore[attr-defined]  # an iterator by its port, a generator in both adapters
        return [Entry(each.key, each.value, each.revision) for each in first if each.value is not None]

    def _keep(self, entry: Entry[SliceRecord]) -> None:
        if entry.value.phase in TERMINAL_PHASES:
            return
        if len(self._living) >= KEPT:
            del self._living[next(iter(self._living))]
        self._living[entry.value.id] = entry


class Tenants:
    """``tenant.<t>``."""

    def __init__(self, bucket: Bucket, spawn: Spawn) -> None:
        self._bucket = bucket
        self._spawn = spawn
        self._by_name: dict[str, GroupCommit[TenantHoldings]] = {}

    def names(self) -> list[str]:
        """The tenants that were seen."""
        return list(self._by_name)

    async def discover(self) -> None:
        """Find every tenant that has a document."""
        for key in await self._bucket.keys("tenant.*"):
            self.of(key.removeprefix("tenant."))

    def of(self, tenant: str) -> GroupCommit[TenantHoldings]:
        """The document of one tenant."""
        document = self._by_name.get(tenant)
        if document is None:
            empty = TenantHoldings(tenant=tenant)
            key = Key(self._bucket, f"tenant.{tenant}", empty, lambda holdings: holdings, lambda _: None)
            document = self._by_name[tenant] = GroupCommit(key, self._spawn)
        return document

    def charge(self, tenant: str, slice_id: str, asked: Holding, quota: TenantQuota) -> Answer:
        """Charge a slice, unless that would exceed the quota."""
        return self.of(tenant).submit(partial(_charge, slice_id, asked, quota))

    def begin_charge(self, tenant: str, slice_id: str, asked: Holding, quota: TenantQuota) -> Begun[TenantHoldings] | None:
        """The same beside other documents; see ``GroupCommit.begin``."""
        return self.of(tenant).begin(partial(_charge, slice_id, asked, quota))

    def settle(self, tenant: str, slice_id: str, holding: Holding, quota: TenantQuota) -> Answer:
        """Set what a slice is charged at to what it has. Refused only where that is more than before and over the quota."""

        def edit(holdings: TenantHoldings) -> TenantHoldings | Refusal:
            if quotas.is_more(holding, holdings.holdings.get(slice_id)):
                return _charge(slice_id, holding, quota, holdings)
            return quotas.charge(holdings, slice_id, holding)

        return self.of(tenant).submit(edit)

    def uncharge(self, tenant: str, slice_id: str) -> Answer:
        """Take a slice off. Never refused."""
        return self.of(tenant).submit(lambda holdings: quotas.uncharge(holdings, slice_id))


class Ledgers:
    """``ledger.<node>``, kept in step with the fleet."""

    def __init__(self, bucket: Bucket, fleet: Fleet, spawn: Spawn, clock: Clock) -> None:
        self._bucket = bucket
        self._progress = Progress(lambda: bucket.last_revision(LEDGERS), self._read_all, clock)
        self._fleet = fleet
        self._spawn = spawn
        self._by_node: dict[str, GroupCommit[Ledger]] = {}
        self._epochs = Epochs()

    def of(self, node: str) -> GroupCommit[Ledger]:
        """The document of one node."""
        document = self._by_node.get(node)
        if document is None:
            state = self._fleet.node(node)
            key = Key(
                self._bucket, f"ledger.{node}", Ledger(node=node),
                lambda ledger: replace(ledger, generation=ledger.generation + 1), state.take_ledger, self._epochs,
            )  # fmt: skip
            document = self._by_node[node] = GroupCommit(key, self._spawn, known=self._progress.begun)
        return document

    @property
    def epoch(self) -> int:
        """The epoch now: what is read of a record after this may be aligned under it, on any node."""
        return self._epochs.now

    def take(self, changes: Iterable[Change[bytes]]) -> None:
        """Take over what the watch of all ledgers has brought: the first time all that there are."""
        revision = 0
        for change in changes:
            self.of(change.key.removeprefix("ledger.")).hear(change.value, change.revision)
            revision = max(revision, change.revision)
        self._progress.come_to(revision)

    async def catch_up(self) -> None:
        """See to it that all that the server has now is known; costs a question, as long as the watch keeps up."""
        await self._progress.caught_up(self._spawn)

    async def _read_all(self) -> None:
        await asyncio.gather(*(document.refresh() for document in self._by_node.values()))

    def align(self, node: str, record: SliceRecord, epoch: int, ending: Ending | None = None) -> Answer:
        """Make the ledger say what the record says; refused when that does not fit beside the others."""
        return self.of(node).submit(partial(_align, self._fleet.node(node), record, ending or Ending()), epoch)

    def begin_align(self, node: str, record: SliceRecord, epoch: int) -> Begun[Ledger] | None:
        """The same beside other documents; see ``GroupCommit.begin``."""
        return self.of(node).begin(partial(_align, self._fleet.node(node), record, Ending()), epoch)

    def fence(self, node: str, record: SliceRecord, epoch: int) -> Answer:
        """Bar the record's placement from the node; refused when it stands there."""

        def edit(ledger: Ledger) -> Ledger | Refusal:
            if edits.present(ledger, record.id):
                return Refusal("id", record.id, "a slice that is not in the ledger")
            return edits.fence(ledger, record.id, record.generation)

        return self.of(node).submit(edit, epoch)

    def bar(self, node: str, record: SliceRecord, epoch: int, *, at_once: bool = False) -> Answer:
        """Take the record's placement out of the node and bar it from there; refused when a newer one stands.

        ``at_once``: what runs there still, or again, has no time to end.
        """

        def edit(ledger: Ledger) -> Ledger | Refusal:
            if any(entry.generation > record.generation for entry in edits.present(ledger, record.id).values()):
                return Refusal("id", record.id, f"a slice of generation {record.generation}")
            without = edits.drop(ledger, record.id, ledger.generation + 1, at_once=at_once)
            return edits.fence(without, record.id, record.generation)

        return self.of(node).submit(edit, epoch)

    def edit(self, node: str, edit: Edit[Ledger]) -> Answer:
        """Any other change, whatever has happened to the ledger since."""
        return self.of(node).submit(edit)


def _charge(slice_id: str, asked: Holding, quota: TenantQuota, holdings: TenantHoldings) -> TenantHoldings | Refusal:
    if holdings.holdings.get(slice_id) == asked:
        return holdings
    return quotas.over_quota(holdings, slice_id, asked, quota) or quotas.charge(holdings, slice_id, asked)


def _align(node: NodeState, record: SliceRecord, ending: Ending, ledger: Ledger) -> Ledger | Refusal:
    before: dict[str, LedgerEntry] = edits.present(ledger, record.id)
    aligned = edits.align(ledger, record, ledger.generation + 1, ending)
    after = edits.present(aligned, record.id)
    if after and ledger.fenced.get(record.id, -1) >= record.generation:
        return Refusal("node", ledger.node, "a node from which the slice is not barred")
    refusal = inadmissible(node, record.id, before, after)
    if refusal is None and aligned is not ledger:
        node.take_slice(aligned, record.id)
    return refusal or aligned
