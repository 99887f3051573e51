"""Nodes with slices scattered over them, and every plan of moves there is. Invariant: drawn sizes always fit where they stand."""

from collections.abc import Iterator, Sequence

from hypothesis import strategies as st
from msgspec.structs import replace
from planner_house import GIB, h100, l4, p40

from mica.audit import Documents
from mica.audit.invariants import check_invariants
from mica.events import (
    Inventory,
    Ledger,
    Observed,
    ObservedSlice,
    ObservedState,
    Phase,
    Placement,
    PlannedMove,
    RequestSlice,
    SliceRecord,
    Tier,
)
from mica.planner.domain.asks import Ask, Pins
from mica.planner.domain.fleet import Fleet, NodeState
from mica.planner.domain.ledgers import entries_of
from mica.planner.domain.placing import Placed, decide
from mica.planner.domain.repack_sites import Candidate, Rules, Site, site_of
from mica.planner.domain.repacking import worth
from mica.planner.domain.sizing import Size
from mica.planner.domain.windows import first_fit

PINS = Pins(now_ns=0)
KINDS = {"l4": l4, "h100": h100, "p40": p40}
RULES = Rules(pins_of=lambda _: PINS, tiers=frozenset(Tier), restarts=True, changed_before=1 << 62)


class Row:
    """A node under construction."""

    def __init__(self, kind: str, devices: int, name: str = "n1") -> None:
        self.node = NodeState(name)
        self.node.take_inventory(
            Inventory(
                node=name,
                pool="p",
                boot_id="b",
                devices=tuple(KINDS[kind](f"{name}-d{number}", number) for number in range(devices)),
            )
        )
        self.node.take_observed(Observed(node=name, boot_id="b", lease_until=1 << 62))
        self.records: dict[str, SliceRecord] = {}

    def put(self, device: int, request: RequestSlice, *, used_bytes: int = 0) -> bool:
        """A slice on a device, if it fits there."""
        fleet = Fleet()
        fleet.adopt(self.node)
        assert request.id is not None
        assert request.vram_bytes is not None
        size = Size(request.vram_bytes, request.share_ppm)
        ask = Ask(id=request.id, request=request, size=size, pins=PINS, members=1, device_id=f"{self.node.name}-d{device}")
        outcome = decide(fleet, ask)
        if not isinstance(outcome, Placed):
            return False
        record = SliceRecord(
            id=request.id, request=request, phase=Phase.PLACED, generation=1, sequence=1, request_sequence=1,
            placements=outcome.placements,
        )  # fmt: skip
        self.records[request.id] = record
        (placement,) = outcome.placements
        entry = entries_of(record, self.node.name)[placement.device_id]
        ledger, observed = self.node.ledger, self.node.observed
        assert observed is not None
        devices = {**ledger.devices, placement.device_id: {**ledger.devices.get(placement.device_id, {}), request.id: entry}}
        self.node.take_ledger(Ledger(node=self.node.name, devices=devices))
        seen = ObservedSlice(
            generation=1, state=ObservedState.LIVE, mode=placement.mode, vram_bytes=placement.vram_bytes,
            share_ppm=placement.share_ppm, vram_used_bytes=used_bytes, partition=placement.partition, window=placement.window,
        )  # fmt: skip
        there = {**observed.devices, placement.device_id: {**observed.devices.get(placement.device_id, {}), request.id: seen}}
        self.node.take_observed(Observed(node=self.node.name, boot_id="b", lease_until=1 << 62, devices=there))
        return True

    def site(self) -> Site:
        site, _ = site_of(self.node, self.records, RULES)
        return site


@st.composite
def rows(draw: st.DrawFn, kinds: Sequence[str] = tuple(KINDS), devices: int = 3, slices: int = 6, name: str = "n1") -> Row:
    """A few slices on a few devices of one kind, in any order."""
    kind = draw(st.sampled_from(kinds))
    row = Row(kind, devices, name)
    for number in range(draw(st.integers(1, slices))):
        request = RequestSlice(
            tenant=draw(st.sampled_from(["t1", "t2"])),
            id=f"{name}-s{number}",
            vram_bytes=draw(st.sampled_from([2, 5, 9, 14])) * GIB,
            share_ppm=draw(st.sampled_from([50_000, 200_000, 400_000])) if kind != "h100" else None,
            tier=draw(st.sampled_from(list(Tier))),
            apart=draw(st.sampled_from([None, None, None, "g"])),
        )
        row.put(draw(st.integers(0, devices - 1)), request, used_bytes=draw(st.sampled_from([0, 0, GIB])))
    return row


def every_plan(site: Site, moves_max: int) -> Iterator[float]:
    """What every sequence of moves gains after costs: the oracle, by trying them all."""
    base = worth(site)

    def go(now: Site, left: int, cost: float) -> Iterator[float]:
        yield worth(now) - base - cost
        for slice_id in sorted(site.movables) if left else ():
            for candidate in _ways(now, slice_id):
                after = now.after(candidate)
                if after is not None:
                    yield from go(after, left - 1, cost + site.movables[slice_id].cost)

    return go(site, moves_max, 0.0)


def _ways(site: Site, slice_id: str) -> Iterator[Candidate]:
    partition = site.movables[slice_id].placement.partition
    for device_id in site.devices:
        if device_id != site.movables[slice_id].placement.device_id:
            yield from (Candidate(slice_id, device_id, start) for start in (range(8) if partition is not None else (-1,)))


def after_each(row: Row, moves: Sequence[PlannedMove]) -> Iterator[Documents]:
    """The books after each move, written by hand: the slice leaves its device and stands on the other with what it was told."""
    ledger = row.node.ledger
    assert row.node.inventory is not None
    for move in moves:
        entry = ledger.devices[move.device_id][move.id]
        assert move.id not in ledger.devices.get(move.to_device_id, {})
        if entry.partition is not None:
            assert move.start is not None
            entry = replace(entry, partition=replace(entry.partition, start=move.start))
        if entry.window is not None:
            beside = [each.window for each in ledger.devices.get(move.to_device_id, {}).values() if each.window is not None]
            window = first_fit(beside, entry.window.length_ns)
            assert window is not None
            entry = replace(entry, window=window)
        devices = {device_id: {i: e for i, e in slices.items() if i != move.id} for device_id, slices in ledger.devices.items()}
        devices[move.to_device_id] = {**devices.get(move.to_device_id, {}), move.id: entry}
        ledger = Ledger(node=ledger.node, devices=devices)
        yield Documents(
            inventories={row.node.name: row.node.inventory}, records=row.records, tenants={}, ledgers={row.node.name: ledger},
            observed={}, policies={},
        )  # fmt: skip


def violations(row: Row, moves: Sequence[PlannedMove]) -> list[object]:
    """Whatever is wrong with the books after any of the moves."""
    return [each for documents in after_each(row, moves) for each in check_invariants(documents)]


__all__ = ["KINDS", "PINS", "RULES", "Placement", "Row", "every_plan", "rows", "violations"]
