"""What a node's ledger says, as a function of its slices' records.

Owns every edit of a ledger. Invariants: ``align`` makes the ledger say about a slice exactly what the slice's record says; what a
slice loses is held back until the enforcer has confirmed it; every function returns the same object when there is nothing to do.
"""

from collections.abc import Mapping
from typing import Final, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from mica.events import (
    NATIVE_RUNTIMES,
    Departure,
    Held,
    Ledger,
    LedgerEntry,
    Observed,
    ObservedSlice,
    ObservedState,
    Phase,
    Placement,
    Runtime,
    SliceRecord,
    Vendor,
)

V = TypeVar("V")


class Patience(Struct, frozen=True):
    """How long processes may stay where a slice was moved away, and hold more than it has now: that until ``until`` (Unix ns)."""

    moved_s: float = 5.0
    shrunk_s: float = 5.0
    until: int = 0


_USUAL: Final = Patience()
_NO_PATIENCE: Final = Patience(moved_s=0.0)


class Ending(Struct, frozen=True):
    """How the slice is to leave."""

    grace_s: float = 5.0
    evicted: bool = False
    message: str = ""
    traceparent: str = ""
    again: bool = False


def entries_of(record: SliceRecord, node: str) -> dict[str, LedgerEntry]:
    """By device, what a node's ledger has to say about a placed slice."""
    request, nodes = record.request, len(nodes_of(record.placements))
    entries = {
        placement.device_id: LedgerEntry(
            id=record.id,
            tenant=request.tenant,
            generation=record.generation,
            tier=request.tier,
            mode=placement.mode,
            vram_bytes=placement.vram_bytes,
            share_ppm=placement.share_ppm,
            priority=request.priority,
            control=record.control,
            partition=placement.partition,
            window=placement.window,
            limits=placement.limits,
            runtime=runtime_of(request.runtime, placement.vendor),
            uid=request.uid,
            traceparent=record.traceparent,
            nodes=nodes,
            apart=request.apart or "",
            apart_within=request.apart_within,
            apart_strict=request.apart_strict,
            cpu_milli=placement.cpu_milli,
            host_memory_bytes=placement.host_memory_bytes,
            again=record.lost is not None,
        )
        for placement in record.placements
        if placement.node == node
    }
    return {d: _away(entry, record.lock_s) for d, entry in entries.items()} if record.suspended else entries


def _away(entry: LedgerEntry, lock_s: float) -> LedgerEntry:
    """What a suspended slice has in place of that: nothing of the device, and as much more of the node's own memory."""
    return replace(
        entry, vram_bytes=0, share_ppm=0, window=None, host_memory_bytes=entry.host_memory_bytes + entry.vram_bytes,
        away_vram_bytes=entry.vram_bytes, away_share_ppm=entry.share_ppm, lock_s=lock_s,
    )  # fmt: skip


def size_of(entry: LedgerEntry) -> tuple[int, int]:
    """VRAM (bytes) and compute (ppm) that its tenant is charged for: also of what is suspended."""
    return entry.vram_bytes or entry.away_vram_bytes, entry.share_ppm or entry.away_share_ppm


def runtime_of(asked: Runtime, vendor: Vendor) -> Runtime:
    """What a process uses on that vendor's device; ``native`` stays where the vendor has no runtime of its own."""
    return NATIVE_RUNTIMES.get(vendor, asked) if asked is Runtime.NATIVE else asked


def node_of(placements: tuple[Placement, ...]) -> str:
    """The one node of a slice's devices; of a gang over several the first."""
    return placements[0].node


def nodes_of(placements: tuple[Placement, ...]) -> tuple[str, ...]:
    """The nodes of a slice's devices, in the order in which their ledgers are written: the same for every slice.

    So of two gangs that want the same devices one comes first everywhere, and the other has nothing to give back.
    """
    return tuple(sorted({placement.node for placement in placements}))


def present(ledger: Ledger, slice_id: str) -> dict[str, LedgerEntry]:
    """By device, what the ledger says about the slice now."""
    return {device_id: slices[slice_id] for device_id, slices in ledger.devices.items() if slice_id in slices}


def stands(ledger: Ledger, record: SliceRecord) -> bool:
    """Whether the ledger gives to the slice exactly what its record says for that node."""
    return present(ledger, record.id) == entries_of(record, ledger.node)


def is_barred(ledger: Ledger, record: SliceRecord) -> bool:
    """Whether the record's placement can no longer enter the ledger."""
    return ledger.fenced.get(record.id, -1) >= record.generation


def on_books(ledger: Ledger) -> frozenset[str]:
    """The slices of which anything is still on the node's books."""
    tables: tuple[Mapping[str, object], ...] = (ledger.departures, ledger.fenced, *ledger.devices.values(), *ledger.held.values())
    return frozenset(id_ for table in tables for id_ in table)


def align(ledger: Ledger, record: SliceRecord, generation: int, ending: Ending) -> Ledger:
    """Make the ledger say what the record says; ``generation`` is that of the ledger after the write."""
    here = [placement for placement in record.placements if placement.node == ledger.node]
    wanted = entries_of(record, ledger.node) if here and record.phase is Phase.PLACED else {}
    ledger = _replace_entries(ledger, record.id, wanted, generation, patience_of(record))
    if wanted and record.id in ledger.fenced:
        ledger = replace(ledger, fenced=_without(ledger.fenced, record.id))
    if record.phase is Phase.RELEASING and here and record.id not in ledger.departures:
        departure = Departure(
            tenant=record.request.tenant,
            generation=record.generation,
            ledger_generation=generation,
            grace_s=ending.grace_s,
            evicted=ending.evicted,
            message=ending.message,
            traceparent=ending.traceparent or record.traceparent,
            nodes=len(nodes_of(record.placements)),
            again=record.again,
        )
        ledger = replace(ledger, departures={**ledger.departures, record.id: departure})
    return ledger


def drop(ledger: Ledger, slice_id: str, generation: int, *, at_once: bool = False) -> Ledger:
    """Take a slice out without an announcement: it is lost, or was moved away; its processes end ``at_once``, or with a grace."""
    ledger = _replace_entries(ledger, slice_id, {}, generation, _NO_PATIENCE if at_once else _USUAL)
    if slice_id in ledger.departures:
        ledger = replace(ledger, departures=_without(ledger.departures, slice_id))
    return ledger


def forget(ledger: Ledger, slice_id: str) -> Ledger:
    """Clear a departure that was confirmed, and all that was held back for it."""
    if slice_id in ledger.departures:
        ledger = replace(ledger, departures=_without(ledger.departures, slice_id))
    held = {d: _without(slices, slice_id) if slice_id in slices else slices for d, slices in ledger.held.items()}
    if any(slice_id in slices for slices in ledger.held.values()):
        ledger = replace(ledger, held={d: slices for d, slices in held.items() if slices})
    return ledger


def settle(ledger: Ledger, slice_id: str, device_id: str) -> Ledger:
    """Clear what was held back on one device."""
    slices = ledger.held.get(device_id, {})
    if slice_id not in slices:
        return ledger
    held = {**ledger.held, device_id: _without(slices, slice_id)}
    return replace(ledger, held={d: left for d, left in held.items() if left})


def fence(ledger: Ledger, slice_id: str, generation: int) -> Ledger:
    """Bar every placement of the slice up to its ``generation`` from this node."""
    if ledger.fenced.get(slice_id, -1) >= generation:
        return ledger
    return replace(ledger, fenced={**ledger.fenced, slice_id: generation})


def unfence(ledger: Ledger, slice_id: str, generation: int) -> Ledger:
    """Lift a bar up to ``generation``, once the record has moved past it."""
    if slice_id not in ledger.fenced or ledger.fenced[slice_id] > generation:
        return ledger
    return replace(ledger, fenced=_without(ledger.fenced, slice_id))


def is_told_by_planner(departure: Departure) -> bool:
    """Whether the planner says how the slice has ended, and no enforcer: it left several nodes, or was to go on elsewhere."""
    return departure.nodes > 1 or departure.again


def has_left(slice_id: str, departure: Departure, observed: Observed) -> bool:
    """Whether the enforcer has confirmed that nothing of a departed slice is left."""
    if observed.generation < departure.ledger_generation:
        return False
    return not any(slice_id in slices for slices in observed.devices.values())


def is_confirmed(held: Held, entry: LedgerEntry | None, seen: ObservedSlice | None, observed: Observed) -> bool:
    """Whether the enforcer has confirmed that a slice has no more on a device than its entry says.

    Where it could not make what the entry says, the slice may go back to what it had.
    """
    if observed.generation < held.generation:
        return False
    if seen is None:
        return True
    if entry is not None and seen.state is ObservedState.FAILED:
        return False
    return entry is not None and seen.generation >= entry.generation and seen.vram_bytes <= entry.vram_bytes


def patience_of(record: SliceRecord) -> Patience:
    """What the record's last move and resize leave to its processes."""
    resizing = record.resizing
    if resizing is None or resizing.allowed:
        return Patience(moved_s=record.grace_s)
    return Patience(record.grace_s, resizing.grace_s, resizing.until)


def is_open(ledger: Ledger, slice_id: str) -> bool:
    """Whether what one change has not confirmed yet allows another: only sizes differ, so that the larger covers both."""
    for device_id, slices in ledger.held.items():
        held, entry = slices.get(slice_id), ledger.devices.get(device_id, {}).get(slice_id)
        if held is None:
            continue
        if entry is None or (held.entry.mode, held.entry.partition) != (entry.mode, entry.partition):
            return False
        if not _covers(held.entry, entry):
            return False
    return True


def is_shrinking(ledger: Ledger, slice_id: str) -> bool:
    """Whether a resize to less memory is not confirmed there."""
    return any(slice_id in slices and slices[slice_id].until for slices in ledger.held.values())


def _covers(before: LedgerEntry, after: LedgerEntry) -> bool:
    """Whether the time in which ``after`` runs lies in that of ``before``."""
    if before.window is None or after.window is None:
        return before.window == after.window
    end_ns = after.window.offset_ns + after.window.length_ns
    return before.window.offset_ns <= after.window.offset_ns and end_ns <= before.window.offset_ns + before.window.length_ns


def is_ignored(held: Held, entry: LedgerEntry | None, seen: ObservedSlice | None, observed: Observed, now_ns: int) -> bool:
    """Whether processes still hold more than a shrink leaves them, after the time that they had; the enforcer has applied it."""
    if entry is None or seen is None or not 0 < held.until <= now_ns:
        return False
    return observed.generation >= held.generation and seen.vram_used_bytes > entry.vram_bytes


def _replace_entries(
    ledger: Ledger, slice_id: str, wanted: Mapping[str, LedgerEntry], generation: int, patience: Patience = _USUAL
) -> Ledger:
    now = present(ledger, slice_id)
    if now == wanted:
        return ledger
    devices, held = dict(ledger.devices), ledger.held
    for device_id, entry in now.items():
        new = wanted.get(device_id)
        if new is None:
            devices[device_id] = _without(devices[device_id], slice_id)
        slices = held.get(device_id, {})
        earlier = slices.get(slice_id)
        loses = new is None or _loses(entry, new)
        if loses or earlier is not None:
            since = generation if loses or earlier is None else earlier.generation
            stays = new is not None and new.partition == entry.partition
            kept = Held(
                entry=entry if earlier is None else _most(earlier.entry, entry), generation=since,
                grace_s=patience.shrunk_s if stays else patience.moved_s, until=patience.until if stays else 0,
            )  # fmt: skip
            held = {**held, device_id: {**slices, slice_id: kept}}
    for device_id, entry in wanted.items():
        devices[device_id] = {**devices.get(device_id, {}), slice_id: entry}
    return replace(ledger, devices={d: slices for d, slices in devices.items() if slices}, held=held)


def _loses(before: LedgerEntry, after: LedgerEntry) -> bool:
    """Whether the slice is to have less on the device than before, or of its node's memory, or other slots or times."""
    if after.vram_bytes < before.vram_bytes or after.share_ppm < before.share_ppm:
        return True
    if before.suspended and not after.suspended:
        return True
    if before.window is not None and after.window is not None:
        end = before.window.offset_ns + before.window.length_ns
        return not after.window.offset_ns <= before.window.offset_ns <= end <= after.window.offset_ns + after.window.length_ns
    return before.partition != after.partition


def _most(before: LedgerEntry, after: LedgerEntry) -> LedgerEntry:
    """What covers both: the later one with the larger sizes, or the earlier where they lie in different places."""
    if (before.mode, before.partition) != (after.mode, after.partition) or not _covers(before, after):
        return before
    return replace(
        after, vram_bytes=max(before.vram_bytes, after.vram_bytes), share_ppm=max(before.share_ppm, after.share_ppm),
        window=before.window, cpu_milli=max(before.cpu_milli, after.cpu_milli),
        host_memory_bytes=max(before.host_memory_bytes, after.host_memory_bytes),
    )  # fmt: skip


def _without(table: Mapping[str, V], key: str) -> dict[str, V]:
    return {each: value for each, value in table.items() if each != key}
