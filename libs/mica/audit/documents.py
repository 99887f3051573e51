"""The documents against each other: records, tenants' holdings, ledgers and what is observed.

A subject carries the generations that were compared, so that a change in flight never looks like the same disagreement twice.
"""

from typing import Final

from mica.audit._finding import Tally
from mica.audit._world import Documents, World
from mica.events import (
    TERMINAL_PHASES,
    Holding,
    LedgerEntry,
    ObservedSlice,
    ObservedState,
    Phase,
    Placement,
    SliceRecord,
    TenantHoldings,
)

IN_FORCE: Final = (ObservedState.LIVE, ObservedState.SUSPENDED)
HOLDING_PHASES: Final = frozenset({Phase.PLACED, Phase.RELEASING})
OVERDUE_S: Final = 30.0
"""How long after its time a shrink may still wait: for a planner to give it up, or for processes that were killed to be gone."""


def check_documents(world: World, tally: Tally) -> None:
    """All of them."""
    documents = world.documents
    for record in documents.records.values():
        _check_record(documents, record, tally)
    for node in documents.ledgers:
        for (device_id, slice_id), entry in documents.entries(node).items():
            _check_entry(documents, (node, device_id), entry, tally)
            seen = documents.seen(node).get((device_id, slice_id))
            _check_seen(entry, device_id, (seen, is_replaced(documents, node, entry, device_id)), tally)
        _check_generations(documents, node, tally)
        _check_leftovers(documents, node, tally)
        _check_shrinks(world, node, tally)
    for holdings in documents.tenants.values():
        _check_holdings(documents, holdings, tally)


def _check_record(documents: Documents, record: SliceRecord, tally: Tally) -> None:
    if record.phase is not Phase.PLACED:
        return
    for placement in record.placements:
        entry = documents.entries(placement.node).get((placement.device_id, record.id))
        subject = f"slice {record.id} generation {record.generation} on {placement.device_id}"
        if tally.expect(entry is not None, "record-ledger", subject, f"is placed, but ledger {placement.node} has no entry"):
            assert entry is not None
            tally.same(
                "record-ledger", subject, ("the record", _given(placement, record.generation)), ("the ledger", _entry(entry))
            )
            tally.same(
                "record-ledger", f"{subject}, suspended", ("the record", record.suspended), ("the ledger", entry.suspended)
            )
    holdings = documents.tenants.get(record.request.tenant)
    held = holdings.holdings.get(record.id) if holdings else None
    subject = f"slice {record.id} generation {record.generation}"
    tally.expect(held is not None, "record-tenant", subject, f"is not charged to tenant {record.request.tenant}")


def _given(placement: Placement, generation: int) -> tuple[object, ...]:
    host = (placement.cpu_milli, placement.host_memory_bytes)
    return generation, str(placement.mode), placement.vram_bytes, placement.share_ppm, _slots(placement.partition), host


def _entry(entry: LedgerEntry) -> tuple[object, ...]:
    """What it gives, or would give if it were not suspended."""
    vram_bytes, share_ppm = entry.vram_bytes or entry.away_vram_bytes, entry.share_ppm or entry.away_share_ppm
    host = (entry.cpu_milli, entry.host_memory_bytes - entry.away_vram_bytes)
    return entry.generation, str(entry.mode), vram_bytes, share_ppm, _slots(entry.partition), host


def _slots(partition: object) -> object:
    return (getattr(partition, "profile", None), getattr(partition, "start", None), getattr(partition, "size", None))


def _check_entry(documents: Documents, where: tuple[str, str], entry: LedgerEntry, tally: Tally) -> None:
    node, device_id = where
    record = documents.records.get(entry.id)
    subject = f"slice {entry.id} generation {entry.generation} on {device_id}"
    placed = record is not None and any((p.node, p.device_id) == where for p in record.placements)
    phase = record.phase if record else "missing"
    alive = record is not None and record.phase in HOLDING_PHASES
    tally.expect(placed and alive, "ledger-record", subject, f"stands in ledger {node}, but its record is {phase} or elsewhere")


def is_replaced(documents: Documents, node: str, entry: LedgerEntry, device_id: str) -> bool:
    """Whether the slice is to have another partition of the device than the one that its processes may still be in."""
    held = documents.ledgers[node].held.get(device_id, {}).get(entry.id)
    return held is not None and _slots(held.entry.partition) != _slots(entry.partition)


def _check_seen(entry: LedgerEntry, device_id: str, sight: tuple[ObservedSlice | None, bool], tally: Tally) -> None:
    """``sight``: what is observed, and whether it waits for the processes in another partition."""
    seen, waits = sight
    subject = f"slice {entry.id} generation {entry.generation} on {device_id}"
    if not tally.expect(seen is not None, "ledger-observed", subject, "stands in the ledger, but the enforcer doesn't see it"):
        return
    assert seen is not None
    tally.expect(
        seen.generation <= entry.generation, "I5", subject, f"observed generation {seen.generation} is ahead of the ledger's"
    )
    if seen.generation == entry.generation and seen.state in IN_FORCE:
        tally.same("ledger-observed", subject, ("the ledger", _limits(entry)), ("the enforcer", _limits(seen)))
        suspended = seen.state is ObservedState.SUSPENDED
        said = ("the ledger", entry.suspended), ("the enforcer", suspended)
        tally.same("ledger-observed", f"{subject}, suspended", *said)
    elif entry.suspended or seen.state is ObservedState.SUSPENDED:
        return  # on its way: work may take as long as it was given to finish, and who comes back may wait for others
    elif seen.state is ObservedState.LIVE:
        over = waits or seen.vram_used_bytes > entry.vram_bytes
        tally.expect(over, "ledger-observed", subject, f"still at generation {seen.generation}, though no process holds it back")


def _limits(item: LedgerEntry | ObservedSlice) -> tuple[object, ...]:
    return str(item.mode), item.vram_bytes, item.share_ppm, _slots(item.partition)


def _check_generations(documents: Documents, node: str, tally: Tally) -> None:
    desired, observed = documents.ledgers[node].generation, documents.observed.get(node)
    seen = observed.generation if observed else 0
    subject = f"node {node}, ledger generation {desired}, observed {seen}"
    tally.expect(seen <= desired, "I5", subject, "more was applied than was ever asked for")


def _check_leftovers(documents: Documents, node: str, tally: Tally) -> None:
    ledger = documents.ledgers[node]
    entries = documents.entries(node)
    for (device_id, slice_id), seen in documents.seen(node).items():
        if (device_id, slice_id) in entries:
            continue
        subject = f"slice {slice_id} generation {seen.generation} on {device_id}"
        wanted = slice_id in ledger.departures or slice_id in ledger.held.get(device_id, {})
        draining = seen.state is ObservedState.DRAINING or wanted
        tally.expect(draining, "observed-ledger", subject, f"is {seen.state} on {node}, but ledger {node} doesn't know it")


def _check_shrinks(world: World, node: str, tally: Tally) -> None:
    """What a resize took away is let go of, or is given up, in time."""
    for device_id, slices in world.documents.ledgers[node].held.items():
        for slice_id, held in slices.items():
            entry = world.documents.entries(node).get((device_id, slice_id))
            seen = world.documents.seen(node).get((device_id, slice_id))
            if held.until and entry is not None and seen is not None and seen.vram_used_bytes > entry.vram_bytes:
                late_s = (world.now_ns - held.until) / 1e9
                subject = f"slice {slice_id} generation {entry.generation} on {device_id}"
                message = f"its shrink to {entry.vram_bytes} bytes should have been over {late_s:.0f} s ago"
                tally.expect(late_s < OVERDUE_S, "ledger-held", subject, message)


def _most_held(documents: Documents, slice_id: str) -> Holding:
    """What one slice had before changes that are not confirmed: the most of any one generation."""
    sums: dict[int, tuple[int, int]] = {}
    for ledger in documents.ledgers.values():
        for slices in ledger.held.values():
            if slice_id in slices:
                its = slices[slice_id].entry
                vram_bytes, share_ppm = sums.get(its.generation, (0, 0))
                sums[its.generation] = (vram_bytes + its.vram_bytes, share_ppm + its.share_ppm)
    vram_bytes, share_ppm = (max((each[at] for each in sums.values()), default=0) for at in (0, 1))
    return Holding(vram_bytes=vram_bytes, share_ppm=share_ppm)


def _check_holdings(documents: Documents, holdings: TenantHoldings, tally: Tally) -> None:
    for slice_id, held in holdings.holdings.items():
        record = documents.records.get(slice_id)
        subject = f"slice {slice_id} of tenant {holdings.tenant}, charged {held.vram_bytes} bytes and {held.share_ppm} ppm"
        living = record is not None and record.phase not in TERMINAL_PHASES
        if tally.expect(living, "tenant-record", subject, f"its record is {record.phase if record else 'missing'}"):
            assert record is not None
            if record.phase is Phase.PLACED:
                expected = Holding(
                    vram_bytes=sum(p.vram_bytes for p in record.placements), share_ppm=sum(p.share_ppm for p in record.placements)
                )
                most = _most_held(documents, slice_id)
                wanted = (
                    max(expected.vram_bytes, min(held.vram_bytes, most.vram_bytes)),
                    max(expected.share_ppm, min(held.share_ppm, most.share_ppm)),
                )
                message = f"the record says {expected}, and of what it had before {most} is not confirmed to be gone"
                tally.expect((held.vram_bytes, held.share_ppm) == wanted, "tenant-record", subject, message)
