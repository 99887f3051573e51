"""What the enforcer says: ``observed.<node>`` and the facts about slices. Invariant: pure; says only what the node holds."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from mica.enforcer.node import Node
from mica.enforcer.places import Failure, Held, Place, is_orphan, window_of
from mica.enforcer.suspensions import Suspensions, is_held_up
from mica.events import (
    Command,
    Control,
    Departure,
    Device,
    Fact,
    Ledger,
    LedgerEntry,
    Mode,
    Observed,
    ObservedSlice,
    ObservedState,
    Partition,
    Placement,
    SliceEvicted,
    SliceFact,
    SliceIntruder,
    SliceReady,
    SliceReleased,
    SliceResized,
    SliceResumed,
    SliceSuspended,
)

_NOTHING: Final = Held()

ByDevice = dict[str, dict[str, ObservedSlice]]
"""What is observed, by device and slice."""


class Announcement(Struct, frozen=True):
    """A fact to publish under the trace of its slice. ``message_id`` is the same for every repetition."""

    fact: SliceFact | SliceIntruder
    traceparent: str
    message_id: str

    @property
    def about(self) -> str:
        """The slice, or the node, that it is about."""
        return self.fact.node if isinstance(self.fact, SliceIntruder) else self.fact.id


class Arrival(Struct, frozen=True):
    """A slice whose entries are in force on all of its devices of this node."""

    id: str
    entries: Mapping[str, LedgerEntry]

    @property
    def first(self) -> LedgerEntry:
        """Any of its entries: generation, tenant and trace are the same in all."""
        return next(iter(self.entries.values()))


def arrivals(ledger: Ledger, in_force: Callable[[Place, LedgerEntry], bool], known: Mapping[str, int]) -> list[Arrival]:
    """The slices that are in force on all of their devices with a generation newer than the one in ``known``."""
    fresh: dict[str, dict[str, LedgerEntry]] = {}
    for device_id, entries in ledger.devices.items():
        for slice_id, entry in entries.items():
            if known.get(slice_id, -1) < entry.generation:
                fresh.setdefault(slice_id, {})[device_id] = entry
    return [
        Arrival(id_, entries)
        for id_, entries in fresh.items()
        if all(in_force(Place(device, id_), entry) for device, entry in entries.items())
    ]


def endings(ledger: Ledger, held: Iterable[Place], known: Mapping[str, int]) -> list[tuple[str, Departure]]:
    """The departures of which nothing is left on this node, with a generation newer than the one in ``known``."""
    if not ledger.departures:
        return []
    staying = {place.slice_id for place in held}
    return [
        (id_, departure)
        for id_, departure in ledger.departures.items()
        if id_ not in staying and known.get(id_, -1) < departure.generation
    ]


def arrival_fact(node: str, at: int, arrival: Arrival, devices: Mapping[str, Device], held: Mapping[Place, Held]) -> SliceReady:
    """The fact that the slice is live, with what each device gives to it."""
    first = arrival.first
    return SliceReady(
        at=at,
        id=arrival.id,
        tenant=first.tenant,
        generation=first.generation,
        placements=tuple(
            Placement(
                node=node,
                device_id=device_id,
                model=devices[device_id].model,
                vendor=devices[device_id].vendor,
                mode=entry.mode,
                vram_bytes=entry.vram_bytes or entry.away_vram_bytes,
                share_ppm=entry.share_ppm or entry.away_share_ppm,
                partition=held[Place(device_id, arrival.id)].partition,
                window=entry.window,
                limits=entry.limits,
                cpu_milli=entry.cpu_milli,
                host_memory_bytes=entry.host_memory_bytes,
            )
            for device_id, entry in arrival.entries.items()
        ),
    )


def announce_arrival(fact: SliceReady, traceparent: str, *, again: bool) -> Announcement:
    """Ready for a slice that never was in force, resized for one that was, on this node or on one that was lost."""
    if not again:
        return Announcement(fact, traceparent, f"slice.ready-{fact.id}-{fact.generation}")
    resized = SliceResized(at=fact.at, id=fact.id, tenant=fact.tenant, generation=fact.generation, placements=fact.placements)
    return Announcement(resized, traceparent, f"slice.resized-{fact.id}-{fact.generation}")


def announce_suspension(fact: SliceReady, traceparent: str, away_bytes: int, took_ns: tuple[int, int]) -> Announcement:
    """Nothing of the slice is on its devices any more."""
    suspended = SliceSuspended(
        at=fact.at, id=fact.id, tenant=fact.tenant, generation=fact.generation, placements=fact.placements,
        away_bytes=away_bytes, lock_ns=took_ns[0], copy_ns=took_ns[1],
    )  # fmt: skip
    return Announcement(suspended, traceparent, f"slice.suspended-{fact.id}-{fact.generation}")


def announce_return(fact: SliceReady, traceparent: str, took_ns: tuple[int, int]) -> Announcement:
    """It is back on its devices, or was never taken off them."""
    resumed = SliceResumed(
        at=fact.at, id=fact.id, tenant=fact.tenant, generation=fact.generation, placements=fact.placements,
        copy_ns=took_ns[0], unlock_ns=took_ns[1],
    )  # fmt: skip
    return Announcement(resumed, traceparent, f"slice.resumed-{fact.id}-{fact.generation}")


def announce_ending(at: int, slice_id: str, departure: Departure) -> Announcement:
    """Evicted or released: nothing of the slice is left."""
    tenant, generation, trace = departure.tenant, departure.generation, departure.traceparent
    if departure.evicted:
        evicted = SliceEvicted(at=at, id=slice_id, tenant=tenant, generation=generation, message=departure.message)
        return Announcement(evicted, trace, f"slice.evicted-{slice_id}-{generation}")
    released = SliceReleased(at=at, id=slice_id, tenant=tenant, generation=generation)
    return Announcement(released, trace, f"slice.released-{slice_id}-{generation}")


def observe(ledger: Ledger, node: Node, before: ByDevice, touched: Iterable[Place]) -> ByDevice:
    """What every device really gives, by device and slice: as ``before``, but for the places that were touched since."""
    holdings = node.holdings()
    devices = {device_id: dict(slices) for device_id, slices in before.items()}
    for place in touched:
        if is_orphan(place):
            continue
        entry = ledger.devices.get(place.device_id, {}).get(place.slice_id)
        slices = devices.setdefault(place.device_id, {})
        held, previous = holdings.get(place, _NOTHING), slices.pop(place.slice_id, None)
        seen = _observe_suspended(entry, place, held, node.suspensions, previous)
        if seen is None:
            seen = _observe_place(entry, held, node.failed.get(place), previous)
        if seen is not None:
            slices[place.slice_id] = replace(seen, restraint=node.restraints.get(place, Control.RUN))
    return {device_id: slices for device_id, slices in devices.items() if slices}


def _observe_suspended(
    entry: LedgerEntry | None, place: Place, held: Held, suspensions: Suspensions, previous: ObservedSlice | None
) -> ObservedSlice | None:
    """Of a place that is away, or on its way there or back; None for any other.

    On its way it is what it was before: what it had there is not free yet, and what it is to have not yet its own.
    """
    if held.limits is None:
        return None
    away_bytes = suspensions.away.get(place)
    if entry is not None and (entry.suspended or is_held_up(held) or away_bytes is not None):
        refused = suspensions.refused.get(place)
        if not (entry.suspended and suspensions.in_force(place, entry, held) and held.limits.generation == entry.generation):
            if previous is None:
                return None
            why = refused.message if refused is not None else suspensions.postponed.get(place, "")
            return replace(previous, refused=refused.generation if refused is not None else 0, message=why)
    if away_bytes is None:
        return None
    return ObservedSlice(
        generation=held.limits.generation,
        state=ObservedState.SUSPENDED if entry is not None and not held.draining else ObservedState.DRAINING,
        mode=_mode(entry, held, previous),
        vram_bytes=0,
        share_ppm=0,
        away_bytes=away_bytes,
    )


def _observe_place(
    entry: LedgerEntry | None, held: Held, failure: Failure | None, previous: ObservedSlice | None
) -> ObservedSlice | None:
    if failure is not None and entry is not None and failure.generation == entry.generation:
        return ObservedSlice(
            generation=entry.generation,
            state=ObservedState.FAILED,
            mode=entry.mode,
            vram_bytes=max(held.limits.vram_limit_bytes if held.limits is not None else 0, held.reading.vram_bytes),
            share_ppm=held.limits.share_ppm if held.limits is not None else 0,
            partition=held.partition,
            message=failure.message,
        )
    if held.limits is None:
        return None if entry is not None or held.partition is None else _departing_partition(held.partition)
    used = held.reading.vram_bytes
    over = used > held.limits.vram_limit_bytes
    return ObservedSlice(
        generation=previous.generation if over and previous is not None else held.limits.generation,
        state=ObservedState.LIVE if entry is not None and not held.draining else ObservedState.DRAINING,
        mode=_mode(entry, held, previous),
        vram_bytes=max(held.limits.vram_limit_bytes, used),
        share_ppm=held.limits.share_ppm,
        vram_used_bytes=used,
        partition=held.partition,
        window=window_of(held.limits),
    )


def _departing_partition(partition: Partition) -> ObservedSlice:
    """A partition that nobody wants any more before it ever had a record: its slots are taken until it is destroyed."""
    return ObservedSlice(
        generation=0, state=ObservedState.DRAINING, mode=Mode.HARDWARE, vram_bytes=0, share_ppm=0, partition=partition
    )


def _mode(entry: LedgerEntry | None, held: Held, previous: ObservedSlice | None) -> Mode:
    if entry is not None:
        return entry.mode
    if previous is not None:
        return previous.mode
    if held.partition is not None:
        return Mode.HARDWARE
    return Mode.TIMESLICE if held.limits is not None and window_of(held.limits) is not None else Mode.FCSP


def announced_in(events: Iterable[Command | Fact]) -> dict[str, int]:
    """What facts, oldest first, say of slices that have not ended since; ``slice.ready`` may be repeated after a resize."""
    generations: dict[str, int] = {}
    for event in events:
        if isinstance(event, SliceReady | SliceResized | SliceSuspended | SliceResumed):
            generations[event.id] = max(generations.get(event.id, 0), event.generation)
        elif isinstance(event, SliceReleased | SliceEvicted):
            generations.pop(event.id, None)
    return generations


def suspended_before(observed: Observed) -> set[str]:
    """The slices that were suspended before a restart, or could not be."""
    return {
        id_
        for slices in observed.devices.values()
        for id_, seen in slices.items()
        if seen.state is ObservedState.SUSPENDED or seen.refused
    }


def announced_before(observed: Observed) -> dict[str, int]:
    """What was announced before a restart: an observed slice was announced first, so it must not be announced anew."""
    generations: dict[str, int] = {}
    for slices in observed.devices.values():
        for id_, slice_ in slices.items():
            if slice_.state in (ObservedState.LIVE, ObservedState.SUSPENDED):
                generations[id_] = min(generations.get(id_, slice_.generation), slice_.generation)
    return generations
