"""What the enforcer tells the bus: facts about slices, and ``observed.<node>``.

Owns what was said already. Facts are on their way while the next ledger is being applied. Invariant: a fact is published
after what it says is in force, and ``observed`` shows that only after the fact is stored; so a crash in between repeats a
fact under the same message id, but never loses one.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from mica.bus import BusError
from mica.enforcer.errors import CannotApplyError
from mica.enforcer.intruders import Sighting, Stranger
from mica.enforcer.node import Node
from mica.enforcer.places import Place
from mica.enforcer.placing import part_in
from mica.enforcer.report import (
    Announcement,
    Arrival,
    ByDevice,
    announce_arrival,
    announce_ending,
    announce_return,
    announce_suspension,
    announced_before,
    announced_in,
    arrival_fact,
    arrivals,
    endings,
    observe,
    suspended_before,
)
from mica.enforcer.shrinks import Over
from mica.enforcer.tenancy import Seat, attach_document
from mica.enforcer.world import World
from mica.events import (
    Departure,
    Device,
    Ledger,
    Observed,
    SliceAsked,
    SliceAttached,
    SliceEvicted,
    SliceIntruder,
    SliceOverran,
    SliceReady,
    SliceReleased,
    SliceResized,
    SliceResumed,
    SliceSuspended,
    Tier,
)

NEVER: Final = -1
"""Older than any generation."""
LEASE_S: Final = 30.0
RENEW_S: Final = 5.0
"""How old ``observed`` may grow before it is written for its lease alone."""


class Voice:
    """One node's voice on the bus."""

    def __init__(self, world: World, before: Observed) -> None:
        """``before`` is what the node's enforcer wrote last, maybe in another life."""
        self._world = world
        self.observed = before
        self._announced = announced_before(before)
        self._suspended = suspended_before(before)
        self._described: dict[str, int] = dict.fromkeys(world.regions.slices(), NEVER)
        self._ended: dict[str, int] = {}
        self._outbox: list[Announcement] = []
        self._renewed_ns: int | None = None
        self.unsure = False
        self._seen = before.devices
        self._flying: list[asyncio.Future[None]] = []
        self._unwritten: tuple[int, ByDevice] | None = None
        self._refused: BusError | None = None

    async def recall(self, ledger: Ledger) -> None:
        """Learn from the stream what was said of slices by an enforcer that was killed, or that did not hear the answer.

        Raises:
            BusError: the bus does not answer.
        """
        unknown = {id_ for slices in ledger.devices.values() for id_ in slices} - self._announced.keys()
        if unknown:
            subjects = [f"slice.*.{id_}" for id_ in sorted(unknown)]
            self._announced |= announced_in(heard.event for heard in await self._world.bus.history("SLICES", subjects))
        self.unsure = False

    @property
    def key(self) -> str:
        """The key of the document."""
        return f"observed.{self._world.node}"

    @property
    def stale(self) -> bool:
        """Whether the lease should be renewed."""
        return self._age_s is None or self._age_s >= RENEW_S

    @property
    def has_news(self) -> bool:
        """Whether something waits for the next ``speak``."""
        return bool(self._outbox)

    @property
    def lease_over(self) -> bool:
        """Whether others may take this node's slices for lost.

        Counted on the monotonic clock from before the last write that was answered: a wall clock that is set must fence nobody.
        """
        return self._age_s is not None and self._age_s >= LEASE_S

    @property
    def _age_s(self) -> float | None:
        """How old the lease is; None before the first write of this life."""
        return None if self._renewed_ns is None else (self._world.clock.monotonic_ns() - self._renewed_ns) / 1e9

    def vram_used_bytes(self, place: Place) -> int:
        """What was last written about the memory that the place's processes hold."""
        seen = self.observed.devices.get(place.device_id, {}).get(place.slice_id)
        return seen.vram_used_bytes if seen is not None else 0

    def attached(self, place: Place, pid: int, slot: int, ledger: Ledger) -> None:
        """A process started inside a slice; told with the next ``speak``."""
        entry = ledger.devices.get(place.device_id, {}).get(place.slice_id)
        if entry is None:
            return
        fact = SliceAttached(
            at=self._world.clock.unix_ns(),
            id=place.slice_id,
            tenant=entry.tenant,
            generation=entry.generation,
            node=self._world.node,
            device_id=place.device_id,
            pid=pid,
            slot=slot,
        )
        message_id = f"slice.attached-{place.slice_id}-{entry.generation}-{place.device_id}-{pid}-{slot}"
        self._outbox.append(Announcement(fact, entry.traceparent, message_id))

    def asked(self, over: Over) -> None:
        """A slice is to let go of memory; told with the next ``speak``."""
        entry, place = over.entry, over.place
        fact = SliceAsked(
            at=self._world.clock.unix_ns(), id=place.slice_id, tenant=entry.tenant, generation=entry.generation,
            node=self._world.node, device_id=place.device_id, what="shrink", vram_bytes=entry.vram_bytes,
            used_bytes=over.used_bytes, until=over.due.until, then="terminated" if entry.tier is Tier.SPOT else "given_up",
            times=over.times,
        )  # fmt: skip
        message_id = f"slice.asked-{place.slice_id}-{over.due.generation}-{place.device_id}-{over.times}"
        self._outbox.append(Announcement(fact, entry.traceparent, message_id))

    def intruder(self, stranger: Stranger, sighting: Sighting, action: str) -> None:
        """A process uses a device around the slices, and ``action`` was taken; told with the next ``speak``."""
        node, at = self._world.node, self._world.clock.unix_ns()
        fact = SliceIntruder(
            at=at,
            node=node,
            device_id=stranger.device_id,
            pid=stranger.pid,
            vram_bytes=sighting.vram_bytes,
            action=action,
            id=sighting.slice_id,
            charged_bytes=sighting.charged_bytes,
        )
        self._outbox.append(Announcement(fact, "", f"slice.intruder-{node}-{stranger.device_id}-{stranger.pid}-{action}-{at}"))

    def overran(self, fact: SliceOverran, traceparent: str) -> None:
        """A process overruns its time, or does not any more; told with the next ``speak``."""
        message_id = f"slice.overran-{fact.id}-{fact.device_id}-{fact.pid}-{fact.step}-{fact.at}"
        self._outbox.append(Announcement(fact, traceparent, message_id))

    def speak(self, ledger: Ledger, node: Node, devices: Mapping[str, Device]) -> None:
        """Send what is new on its way; ``flush`` sees to it that it arrived. Not to be called while ``unsure``."""
        for id_ in node.take_divided() & self._described.keys():
            self._described[id_] = NEVER
        self._suspended |= {place.slice_id for place in node.suspensions.refused}
        arrived = [
            arrival for arrival in arrivals(ledger, node.in_force, self._described) if self._describe(arrival, node, devices)
        ]
        gone = endings(ledger, node.holdings(), self._ended)
        touched = node.take_touched()
        self._seen = observe(ledger, node, self._seen, touched)
        self._unwritten = (ledger.generation, self._seen)
        outbox, self._outbox = self._outbox, []
        said = [*self._arrival_announcements(arrived, node, devices), *self._ending_announcements(gone), *outbox]
        self._flying += [asyncio.ensure_future(self._publish(announcement)) for announcement in said]
        for arrival in arrived:
            self._announced[arrival.id] = self._described[arrival.id] = arrival.first.generation
        self._ended |= {id_: departure.generation for id_, departure in gone}
        self._forget(ledger, node, {place.slice_id for place in touched})

    async def flush(self) -> None:
        """Wait for everything that was said, then write ``observed`` as it was when the last of it was said.

        Raises:
            BusError: the bus did not take all of it. Speak again: nothing is lost, repetitions carry the same message ids.
        """
        while self._flying or self._unwritten is not None:
            flying, self._flying = self._flying, []
            unwritten, self._unwritten = self._unwritten, None
            await asyncio.gather(*flying)
            if self._refused is not None:
                refused, self._refused, self._unwritten = self._refused, None, None
                raise refused
            if unwritten is not None:
                await self._write(*unwritten)

    def close(self) -> None:
        """Say no more."""
        for flying in self._flying:
            flying.cancel()

    def _arrival_announcements(self, arrived: list[Arrival], node: Node, devices: Mapping[str, Device]) -> list[Announcement]:
        """Say that the slices are there, unless that was said in another life; of a gang over several nodes the planner does."""
        said = []
        for arrival in arrived:
            if arrival.first.nodes > 1:
                continue
            before = self._announced.get(arrival.id)
            if before is None or before < arrival.first.generation:
                fact = arrival_fact(self._world.node, self._world.clock.unix_ns(), arrival, devices, node.held)
                again = before is not None or arrival.first.again
                said.append(self._arrival_announcement(fact, arrival, node, again=again))
        return said

    def _arrival_announcement(self, fact: SliceReady, arrival: Arrival, node: Node, *, again: bool) -> Announcement:
        trace, took_ns = arrival.first.traceparent, node.suspensions.took_ns.get(arrival.id, (0, 0))
        if arrival.first.suspended:
            self._suspended.add(arrival.id)
            away_bytes = sum(node.suspensions.away.get(Place(device, arrival.id), 0) for device in arrival.entries)
            return announce_suspension(fact, trace, away_bytes, took_ns)
        if arrival.id in self._suspended:
            self._suspended.discard(arrival.id)
            return announce_return(fact, trace, took_ns)
        return announce_arrival(fact, trace, again=again)

    def _ending_announcements(self, gone: list[tuple[str, Departure]]) -> list[Announcement]:
        at = self._world.clock.unix_ns()
        own = ((id_, departure) for id_, departure in gone if departure.nodes == 1 and not departure.again)
        return [announce_ending(at, id_, departure) for id_, departure in own]

    def _describe(self, arrival: Arrival, node: Node, devices: Mapping[str, Device]) -> bool:
        """Write what the slice's processes need to start; False, and the slice has failed, when that cannot be."""

        def visible(device_id: str) -> str:
            partition = node.held[Place(device_id, arrival.id)].partition
            return partition.uuid if partition is not None else device_id

        world = self._world
        if arrival.first.suspended:
            self._described.setdefault(arrival.id, NEVER)
            return True
        entries = {
            device_id: Seat(
                entry=entry,
                visible=visible(device_id),
                mps_pipe=device.mps_pipe if device is not None else "",
                opencl_id=device.opencl_id if device is not None else "",
                part=part_in(node.limits_at(Place(device_id, arrival.id))),
                access=node.access_at(Place(device_id, arrival.id)),
                numa_node=device.numa_node if device is not None else -1,
                cpus=world.cpus_of(device.numa_node) if device is not None else "",
            )
            for device_id, entry in arrival.entries.items()
            for device in [devices.get(device_id)]
        }
        document = attach_document(world.node, arrival.id, entries, world.runtime, world.libraries)
        self._described.setdefault(arrival.id, NEVER)
        try:
            world.regions.write_attach(arrival.id, document)
        except CannotApplyError as error:
            for device_id, seat in entries.items():
                node.fail(Place(device_id, arrival.id), seat.entry.generation, str(error))
            return False
        return True

    async def _publish(self, said: Announcement) -> None:
        name = f"enforcer.{said.message_id.split('-', 1)[0].removeprefix('slice.')}"
        try:
            with self._world.tracer.span(name, said.traceparent, about=said.about) as span:
                await self._world.bus.publish(said.fact, traceparent=span.traceparent, message_id=said.message_id)
        except BusError as error:
            self._retract(said)
            self._refused = error

    def _retract(self, said: Announcement) -> None:
        """Nobody knows whether it was said: ask the stream, and say it again unless it was."""
        self.unsure = True
        match said.fact:
            case SliceReady(id=id_) | SliceResized(id=id_) | SliceSuspended(id=id_) | SliceResumed(id=id_):
                self._described[id_] = NEVER
                self._announced.pop(id_, None)
            case SliceReleased(id=id_) | SliceEvicted(id=id_):
                self._ended.pop(id_, None)
            case _:
                self._outbox.append(said)

    async def _write(self, generation: int, devices: ByDevice) -> None:
        if generation == self.observed.generation and devices == self.observed.devices and not self.stale:
            return
        now, since_ns = self._world.clock.unix_ns(), self._world.clock.monotonic_ns()
        observed = Observed(
            node=self._world.node,
            boot_id=self._world.boot_id,
            generation=generation,
            lease_until=now + int(LEASE_S * 1e9),
            devices=devices,
        )
        await self._world.bus.state.put(self.key, observed)
        self.observed, self._renewed_ns = observed, since_ns

    def _forget(self, ledger: Ledger, node: Node, candidates: set[str]) -> None:
        """Drop what is known of slices that are neither wanted nor held, and their directories."""
        candidates |= {id_ for id_, generation in self._described.items() if generation == NEVER}
        gone = (
            candidates.difference(*ledger.devices.values(), (place.slice_id for place in node.holdings()))
            if candidates
            else set()
        )
        for id_ in gone:
            self._announced.pop(id_, None)
            self._suspended.discard(id_)
            if self._described.pop(id_, None) is not None:
                self._world.regions.remove_slice(id_)
        for id_ in [id_ for id_ in self._ended if id_ not in ledger.departures]:
            del self._ended[id_]
