"""Whatever ledgers come and wherever the enforcer is killed, the node ends as the last ledger says."""

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mica.bus import Change, ManualClock, MemoryBus
from mica.enforcer.handlers import Enforcer, take_over
from mica.enforcer.memory import MemoryNode
from mica.enforcer.places import Holder, Place
from mica.events import (
    Control,
    Departure,
    Device,
    Inventory,
    Ledger,
    LedgerEntry,
    Mode,
    Observed,
    ObservedState,
    Partition,
    SliceFact,
    Tier,
    Vendor,
)

SOFT, HARD = "GPU-soft", "GPU-hard"
IDS = ("a", "b", "c", "d")


class KilledError(BaseException):
    """The enforcer was killed between two instructions."""


wanted_soft = st.tuples(st.just(SOFT), st.integers(1, 8), st.just(0))
wanted_hard = st.tuples(st.just(HARD), st.just(1), st.integers(0, 6))
ledgers = st.dictionaries(st.sampled_from(IDS), wanted_soft | wanted_hard)
events = st.one_of(
    st.tuples(st.just("ledger"), ledgers),
    st.tuples(st.just("attach"), st.tuples(st.sampled_from(IDS), st.integers(1, 4))),
    st.tuples(st.just("exit"), st.integers(0, 9)),
    st.tuples(st.just("tick"), st.integers(1, 8)),
    st.tuples(st.just("kill"), st.integers(0, 12)),
    st.tuples(st.just("lose"), st.sampled_from(["observed.n1", "slice.ready.*", "slice.released.*", "slice.resized.*"])),
)


class Machine:
    """A planner that keeps to its side of the protocol, and a node whose enforcer may die at any effect."""

    def __init__(self) -> None:
        self.bus, self.clock = MemoryBus(), ManualClock()
        self.node = MemoryNode(self.bus, self.clock)
        self.enforcer: Enforcer | None = None
        self.ledger = Ledger(node="n1")
        self.generations: dict[str, int] = {}
        self.sizes: dict[str, tuple[str, int, int]] = {}
        self.kill_in = -1
        self.pids = 100
        self.charged: dict[tuple[Place, Holder], int] = {}
        self.node.crash_at(self.effect)

    def effect(self, name: str) -> None:
        """Before every effect: die here if the time has come, and look whether the node is sound."""
        self.kill_in -= 1
        if self.kill_in == 0:
            raise KilledError(name)

    async def live(self) -> None:
        """Start the enforcer if none runs, and let it do what it can until it is done or dies."""
        try:
            if self.enforcer is None:
                self.enforcer = await take_over(self.node.world)
            for _ in range(50):
                if not self.enforcer.due.is_set() and not self.enforcer.node.jobs:
                    break
                await self.enforcer.settle()
                await self.enforcer.do_jobs()
            else:
                raise AssertionError("the enforcer never rests")
        except KilledError:
            self.die()
        except Exception as error:
            if type(error).__name__ != "BusUnavailableError":
                raise
            if self.enforcer is not None:
                self.enforcer.due.set()
        await self.check()

    def die(self) -> None:
        self.kill_in = -1
        if self.enforcer is not None:
            self.enforcer.close()
        self.enforcer = None

    async def observed(self) -> Observed:
        found = await self.bus.state.get("observed.n1", Observed)
        return found.value if found is not None else Observed(node="n1", boot_id="boot-1")

    async def on_ledger(self, wanted: dict[str, tuple[str, int, int]]) -> None:
        """Write the ledger that a planner could write: it sells nothing that is wanted or still observed."""
        seen = await self.observed()
        observed_slots = {
            (start, id_)
            for slices in seen.devices.values()
            for id_, slice_ in slices.items()
            if slice_.partition is not None
            for start in [slice_.partition.start]
        }
        taken = {start: id_ for start, id_ in observed_slots}
        devices: dict[str, dict[str, LedgerEntry]] = {}
        departures = {
            id_: departure
            for id_, departure in self.ledger.departures.items()
            if any(id_ in slices for slices in seen.devices.values()) or not self.ended(id_, departure.generation)
        }
        for id_, (device, size, start) in wanted.items():
            old = self.entry(id_)
            if id_ in departures or (old is None and self.was(id_)):
                continue
            if device == HARD and taken.setdefault(start, id_) != id_:
                continue
            if old is not None and (old.partition is not None or device == HARD):
                devices.setdefault(HARD if old.partition is not None else SOFT, {})[id_] = old
                if old.partition is not None:
                    taken[old.partition.start] = id_
                continue
            devices.setdefault(device, {})[id_] = self.made(id_, (device, size, start), old)
        kept = {id_ for slices in devices.values() for id_ in slices}
        for slices in self.ledger.devices.values():
            for id_ in slices.keys() - kept:
                self.generations[id_] += 1
                departures[id_] = Departure(tenant="t", generation=self.generations[id_], grace_s=2)
        self.ledger = Ledger(node="n1", generation=self.ledger.generation + 1, devices=devices, departures=departures)
        revision = await self.bus.state.put("ledger.n1", self.ledger)
        if self.enforcer is not None:
            self.enforcer.on_ledger([Change("ledger.n1", self.ledger, revision)])

    def entry(self, id_: str) -> LedgerEntry | None:
        return next((slices[id_] for slices in self.ledger.devices.values() if id_ in slices), None)

    def was(self, id_: str) -> bool:
        """Ids are not used twice while their record stands."""
        return id_ in self.generations

    def ended(self, id_: str, generation: int) -> bool:
        return any(fact.id == id_ and fact.generation == generation for fact in self.facts("slice.released.*"))

    def facts(self, subject: str) -> list[SliceFact]:
        return [fact for fact in self.bus.published(subject) if isinstance(fact, SliceFact)]

    def made(self, id_: str, wish: tuple[str, int, int], old: LedgerEntry | None) -> LedgerEntry:
        device, size, start = wish
        if old is not None and self.sizes[id_] == wish:
            return old
        self.sizes[id_] = wish
        self.generations[id_] = self.generations.get(id_, 0) + 1
        partition = Partition(profile="1g", profile_id=19, start=start, size=1) if device == HARD else None
        return LedgerEntry(
            id=id_,
            tenant="t",
            generation=self.generations[id_],
            tier=Tier.GUARANTEED,
            mode=Mode.HARDWARE if device == HARD else Mode.FCSP,
            vram_bytes=size,
            share_ppm=size * 1000,
            partition=partition,
        )

    def on_attach(self, id_: str, vram_bytes: int) -> None:
        """A process takes a slot and memory, as far as its record lets it."""
        place = Place(SOFT, id_)
        limits = self.node.regions.records.get(place)
        slots = self.node.regions.slots.get(place)
        if slots is None or limits is None or limits.control is not Control.RUN:
            return
        if sum(slots.values()) + vram_bytes > limits.vram_limit_bytes:
            return
        self.pids += 1
        holder = Holder(self.pids % 64, self.pids)
        self.node.processes.start(self.pids, holder.owner)
        slots[holder] = vram_bytes
        self.charged[place, holder] = vram_bytes

    async def check(self) -> None:
        """The invariants that hold at every moment."""
        seen = await self.observed()
        assert seen.generation <= self.ledger.generation
        starts = [p.start for p in self.node.partitions.on.get(HARD, [])]
        assert len(starts) == len(set(starts))
        for (place, holder), vram_bytes in self.charged.items():
            alive = self.node.processes.open_pid(holder.owner) is not None
            if alive:
                assert self.node.regions.slots[place][holder] == vram_bytes
        for fact in self.facts("slice.resized.*") + self.facts("slice.ready.*"):
            assert fact.generation <= self.generations[fact.id]
        told = self.facts("slice.ready.*")
        assert len({fact.id for fact in told}) == len(told)
        for fact in self.facts("slice.released.*"):
            assert not any(place.slice_id == fact.id for place in self.node.regions.records)

    async def converge(self) -> None:
        """Without further disturbance everything ends as the ledger says."""
        self.kill_in = -1
        for process in self.node.processes.running.values():
            if process.alive and self.pids % 2:
                process.exit()
        self.node.world.bus._faults.planned.clear()  # type: ignore[attr-defined]
        for _ in range(12):
            await self.live()
            await self.tick()
        wanted = {Place(d, id_): entry for d, slices in self.ledger.devices.items() for id_, entry in slices.items()}
        records = self.node.regions.records
        assert records.keys() == wanted.keys()
        for place, entry in wanted.items():
            assert (records[place].generation, records[place].vram_limit_bytes) == (entry.generation, entry.vram_bytes)
        assert self.node.regions.slots.keys() == {place for place in wanted if place.device_id == SOFT}
        assert self.node.regions.documents.keys() == {place.slice_id for place in wanted}
        partitions = sorted(p.start for p in self.node.partitions.on.get(HARD, []))
        assert partitions == sorted(e.partition.start for e in wanted.values() if e.partition is not None)
        seen = await self.observed()
        assert seen.generation == self.ledger.generation
        assert {Place(d, id_) for d, slices in seen.devices.items() for id_ in slices} == wanted.keys()
        assert all(s.state is ObservedState.LIVE for slices in seen.devices.values() for s in slices.values())
        ready, resized = self.facts("slice.ready.*"), self.facts("slice.resized.*")
        for place, entry in wanted.items():
            held = self.node.regions.usage(place).vram_bytes
            told = {fact.generation for fact in ready + resized if fact.id == place.slice_id}
            assert entry.generation in told or held > entry.vram_bytes
        for id_, departure in self.ledger.departures.items():
            assert self.ended(id_, departure.generation)

    async def tick(self) -> None:
        self.clock.advance(1.0)
        if self.enforcer is not None:
            try:
                self.enforcer.on_beat()
            except KilledError:
                self.die()


async def play(script: list[tuple[str, object]]) -> None:
    machine = Machine()
    devices = tuple(Device(id=id_, index=0, vendor=Vendor.NVIDIA, model="m", vram_bytes=1) for id_ in (SOFT, HARD))
    await machine.bus.state.put("inventory.n1", Inventory(node="n1", pool="default", boot_id="b", devices=devices))
    for name, value in script:
        match name, value:
            case "ledger", dict():
                await machine.on_ledger(value)
            case "attach", (str() as id_, int() as vram_bytes):
                machine.on_attach(id_, vram_bytes)
            case "exit", int():
                living = [p for p in machine.node.processes.running.values() if p.alive]
                if living:
                    try:
                        living[value % len(living)].exit()
                    except KilledError:
                        machine.die()
            case "tick", int():
                for _ in range(value):
                    await machine.tick()
                    await machine.live()
            case "kill", int():
                machine.kill_in = value + 1
            case "lose", str():
                machine.bus.fail_next(value, "before" if machine.pids % 2 else "after")
        await machine.live()
    await machine.converge()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(events, min_size=1, max_size=25))
def test_the_node_ends_as_the_last_ledger_says(script: list[tuple[str, object]]) -> None:
    """No kill, lost write or process in between leaves a partition twice, a byte unaccounted, or a slice unannounced."""
    asyncio.run(play(script))
