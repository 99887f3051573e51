"""A planner that keeps to its side of the protocol, tenants that keep to theirs, and an enforcer that may die at any effect."""

import asyncio

from mica.bus import BusUnavailableError, Change, ManualClock, MemoryBus
from mica.enforcer.handlers import Enforcer, take_over
from mica.enforcer.memory import MemoryNode
from mica.enforcer.places import Holder, Place
from mica.events import (
    Control,
    Departure,
    Device,
    Document,
    Fact,
    Inventory,
    Ledger,
    LedgerEntry,
    Mode,
    Observed,
    ObservedState,
    Partition,
    SliceAttached,
    SliceFact,
    SliceReady,
    SliceReleased,
    SliceResized,
    Tier,
    Vendor,
)

SOFT, HARD = "GPU-soft", "GPU-hard"
PASSES_MAX = 50

Wish = tuple[str, int, int]
"""What is asked for one slice: its device, its size in bytes, and its start slot on the hardware device."""


class KilledError(BaseException):
    """The enforcer was killed between two instructions."""


class Machine:
    """One node and everybody around it."""

    def __init__(self) -> None:
        self.bus, self.clock = MemoryBus(), ManualClock()
        self.node = MemoryNode(self.bus, self.clock)
        self.enforcer: Enforcer | None = None
        self.ledger = Ledger(node="n1")
        self.generations: dict[str, int] = {}
        self.starts: dict[str, int] = {}
        self.kill_in = 0
        self.lagging = False
        self.pids = 100
        self.charged: dict[tuple[Place, Holder], int] = {}
        self.node.crash_at(self.effect)
        self._publish, self.bus.publish = self.bus.publish, self.publish
        self._put, self.bus.state.put = self.bus.state.put, self.put

    async def open(self) -> None:
        devices = tuple(Device(id=id_, index=0, vendor=Vendor.NVIDIA, model="m", vram_bytes=1) for id_ in (SOFT, HARD))
        await self._put("inventory.n1", Inventory(node="n1", pool="default", boot_id="b", devices=devices))

    def effect(self, name: str) -> None:
        """Before every effect: the enforcer dies here if its time has come."""
        self.kill_in -= 1
        if self.kill_in == 0:
            raise KilledError(name)

    async def publish(self, event: Fact, *, traceparent: str = "", message_id: str = "") -> int:
        """What is announced must be true at that moment."""
        self.effect("publish")
        if isinstance(event, SliceReady | SliceResized) and not self.lagging:
            for placement in event.placements:
                place = Place(placement.device_id, event.id)
                limits = self.node.regions.records[place]
                assert limits.generation == event.generation
                assert self.node.regions.usage(place).vram_bytes <= placement.vram_bytes
                living = self.node.partitions.living().get(placement.device_id, ())
                assert placement.partition is None or placement.partition in living
        if isinstance(event, SliceReleased):
            assert not any(place.slice_id == event.id for place in (*self.node.regions.records, *self.node.regions.slots))
        return await self._publish(event, traceparent=traceparent, message_id=message_id)

    async def put(self, key: str, value: Document) -> int:
        self.effect("put")
        return await self._put(key, value)

    async def live(self) -> None:
        """Start the enforcer if none runs, and let it work until it rests, dies, or loses the bus."""
        try:
            if self.enforcer is None:
                self.enforcer = await take_over(self.node.world)
            for _ in range(PASSES_MAX):
                telling = self.enforcer.telling_due.is_set() and not self.lagging
                if not self.enforcer.due.is_set() and not telling and not self.enforcer.node.jobs:
                    break
                await self.enforcer.settle()
                if not self.lagging:
                    await self.enforcer.tell()
                await self.enforcer.do_jobs()
            else:
                raise AssertionError("the enforcer never rests")
        except KilledError:
            self.die()
        except BusUnavailableError:
            if self.enforcer is not None:
                self.enforcer.due.set()
        await asyncio.sleep(0)
        await self.check()

    async def tick(self) -> None:
        """A second passes."""
        self.clock.advance(1.0)
        if self.enforcer is not None:
            try:
                self.enforcer.on_beat()
            except KilledError:
                self.die()
        await self.live()

    def die(self) -> None:
        self.kill_in = 0
        if self.enforcer is not None:
            self.enforcer.close()
        self.enforcer = None

    async def observed(self) -> Observed:
        found = await self.bus.state.get("observed.n1", Observed)
        return found.value if found is not None else Observed(node="n1", boot_id="boot-1")

    async def on_ledger(self, wishes: dict[str, Wish]) -> None:
        """Write the ledger of a planner: it sells no slot that was not seen free again, and no id twice."""
        seen = await self.observed()
        held = {id_ for slices in seen.devices.values() for id_ in slices}
        departures = {id_: d for id_, d in self.ledger.departures.items() if id_ in held or not self.ended(id_, d.generation)}
        taken = held | departures.keys() | self.ledger.devices.get(HARD, {}).keys()
        starts = {start: id_ for id_, start in self.starts.items() if id_ in taken}
        entries: dict[str, tuple[str, LedgerEntry]] = {}
        for id_, wish in wishes.items():
            old = self.entry(id_)
            if old is None and id_ in self.generations:
                continue
            if old is not None and (old.mode is Mode.HARDWARE or wish[0] == HARD):
                entries[id_] = (HARD if old.mode is Mode.HARDWARE else SOFT, old)
            elif wish[0] == SOFT or starts.get(wish[2], id_) == id_:
                entries[id_] = (wish[0], self.made(id_, wish, old))
            if id_ in entries and (partition := entries[id_][1].partition) is not None:
                starts[partition.start] = id_
                self.starts[id_] = partition.start
        for id_ in {id_ for slices in self.ledger.devices.values() for id_ in slices} - entries.keys():
            self.generations[id_] += 1
            departures[id_] = Departure(tenant="t", generation=self.generations[id_], grace_s=2)
        devices = {d: {id_: e for id_, (where, e) in entries.items() if where == d} for d in (SOFT, HARD)}
        self.ledger = Ledger(node="n1", generation=self.ledger.generation + 1, devices=devices, departures=departures)
        revision = await self._put("ledger.n1", self.ledger)
        if self.enforcer is not None:
            try:
                self.enforcer.on_ledger([Change("ledger.n1", self.ledger, revision)])
            except KilledError:
                self.die()

    async def on_resize(self, id_: str, vram_bytes: int) -> None:
        """The same ledger, but for the size of one slice."""
        wishes = {
            other: (device, vram_bytes if other == id_ else entry.vram_bytes, 0)
            for device, slices in self.ledger.devices.items()
            for other, entry in slices.items()
        }
        await self.on_ledger(wishes)

    def entry(self, id_: str) -> LedgerEntry | None:
        return next((slices[id_] for slices in self.ledger.devices.values() if id_ in slices), None)

    def made(self, id_: str, wish: Wish, old: LedgerEntry | None) -> LedgerEntry:
        device, vram_bytes, start = wish
        if old is not None and old.vram_bytes == vram_bytes:
            return old
        self.generations[id_] = self.generations.get(id_, 0) + 1
        return LedgerEntry(
            id=id_,
            tenant="t",
            generation=self.generations[id_],
            tier=Tier.GUARANTEED,
            mode=Mode.HARDWARE if device == HARD else Mode.FCSP,
            vram_bytes=vram_bytes,
            share_ppm=vram_bytes * 1000,
            partition=Partition(profile="1g", profile_id=19, start=start, size=1) if device == HARD else None,
        )

    def on_attach(self, id_: str, vram_bytes: int) -> None:
        """A process takes a slot and memory, as far as its record lets it, and tells nobody."""
        place = Place(SOFT, id_)
        limits, slots = self.node.regions.records.get(place), self.node.regions.slots.get(place)
        if slots is None or limits is None or limits.control is not Control.RUN:
            return
        if sum(slots.values()) + vram_bytes <= limits.vram_limit_bytes:
            self.pids += 1
            holder = Holder(self.pids, self.pids)
            self.node.processes.start(self.pids, holder.owner)
            slots[holder] = self.charged[place, holder] = vram_bytes

    def on_exit(self, choice: int) -> None:
        """A process ends."""
        living = [process for process in self.node.processes.running.values() if process.alive]
        try:
            if living:
                living[choice % len(living)].exit()
        except KilledError:
            self.die()

    def facts(self, subject: str) -> list[SliceFact]:
        return [fact for fact in self.bus.published(subject) if isinstance(fact, SliceFact)]

    def ended(self, id_: str, generation: int) -> bool:
        return any(fact.id == id_ and fact.generation == generation for fact in self.facts("slice.released.*"))

    async def check(self) -> None:
        """What holds at every moment: no generation from the future, no slot twice, no living byte lost, one ready."""
        seen = await self.observed()
        assert seen.generation <= self.ledger.generation
        starts = [partition.start for partition in self.node.partitions.on.get(HARD, [])]
        assert len(starts) == len(set(starts))
        for (place, holder), vram_bytes in self.charged.items():
            if self.node.processes.running[holder.owner].alive:
                assert self.node.regions.slots[place][holder] == vram_bytes
                charged = seen.devices.get(SOFT, {}).get(place.slice_id)
                assert charged is None or charged.vram_bytes >= charged.vram_used_bytes
        told = self.facts("slice.ready.*")
        assert len({fact.id for fact in told}) == len(told)

    async def converge(self, *, everybody_leaves: bool) -> None:
        """Without further disturbance everything ends as the ledger says, and was told."""
        self.kill_in, self.lagging = 0, False
        self.bus._faults.planned.clear()
        while everybody_leaves and any(process.alive for process in self.node.processes.running.values()):
            self.on_exit(0)
        for _ in range(8):
            await self.tick()
        wanted = {Place(d, id_): e for d, slices in self.ledger.devices.items() for id_, e in slices.items()}
        self._check_node(wanted)
        seen = await self.observed()
        assert seen.generation == self.ledger.generation
        assert {Place(d, id_) for d, slices in seen.devices.items() for id_ in slices} == wanted.keys()
        assert all(s.state is ObservedState.LIVE for slices in seen.devices.values() for s in slices.values())
        self._check_facts(wanted, seen)

    def _check_node(self, wanted: dict[Place, LedgerEntry]) -> None:
        regions = self.node.regions
        assert regions.records.keys() == wanted.keys()
        for place, entry in wanted.items():
            assert (regions.records[place].generation, regions.records[place].vram_limit_bytes) == (
                entry.generation,
                entry.vram_bytes,
            )
        assert regions.slots.keys() == {place for place in wanted if place.device_id == SOFT}
        assert regions.documents.keys() == {place.slice_id for place in wanted}
        starts = sorted(partition.start for partition in self.node.partitions.on.get(HARD, []))
        assert starts == sorted(entry.partition.start for entry in wanted.values() if entry.partition is not None)
        assert all(partition.uuid for partition in self.node.partitions.on.get(HARD, []))
        for place, slots in regions.slots.items():
            assert all(self.node.processes.running[holder.owner].alive for holder in slots), place

    def _check_facts(self, wanted: dict[Place, LedgerEntry], seen: Observed) -> None:
        in_force = self.facts("slice.ready.*") + self.facts("slice.resized.*")
        for place, entry in wanted.items():
            over = self.node.regions.usage(place).vram_bytes > entry.vram_bytes
            told = any(fact.id == place.slice_id and fact.generation == entry.generation for fact in in_force)
            observed = seen.devices[place.device_id][place.slice_id]
            assert told is not over
            assert (observed.generation == entry.generation) is not over
        for id_, departure in self.ledger.departures.items():
            assert self.ended(id_, departure.generation)
        attached = {fact.pid for fact in self.facts("slice.attached.*") if isinstance(fact, SliceAttached)}
        assert {holder.owner for slots in self.node.regions.slots.values() for holder in slots} <= attached
