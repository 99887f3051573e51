"""A node of fakes with an enforcer that a test can stop, kill and start again."""

from mica.bus import BusError, Change, ManualClock, MemoryBus
from mica.enforcer.handlers import Enforcer, take_over
from mica.enforcer.memory import MemoryNode
from mica.enforcer.places import Holder, Place
from mica.events import (
    Departure,
    Device,
    Inventory,
    Ledger,
    LedgerEntry,
    Mode,
    Observed,
    ObservedSlice,
    Partition,
    SliceFact,
    Tier,
    Vendor,
)

GIB = 1 << 30
S1 = Place("GPU-0", "s1")


def entry(id_: str = "s1", generation: int = 1, **fields: object) -> LedgerEntry:
    """A guaranteed fcsp entry of 4 GiB and 30 %, except for what is given."""
    defaults: dict[str, object] = {
        "tenant": "acme",
        "tier": Tier.GUARANTEED,
        "mode": Mode.FCSP,
        "vram_bytes": 4 * GIB,
        "share_ppm": 300_000,
    }
    return LedgerEntry(id=id_, generation=generation, **(defaults | fields))


def hardware(id_: str = "h1", generation: int = 1, start: int = 0, **fields: object) -> LedgerEntry:
    """An entry with a 1g partition."""
    partition = Partition(profile="1g.10gb", profile_id=19, start=start, size=1)
    return entry(id_, generation, mode=Mode.HARDWARE, partition=partition, **fields)


class House:
    """One node, the bus, and the life of its enforcers."""

    def __init__(self) -> None:
        self.bus = MemoryBus()
        self.clock = ManualClock()
        self.node = MemoryNode(self.bus, self.clock)
        self.regions, self.partitions, self.processes = self.node.regions, self.node.partitions, self.node.processes
        self.generation = 0
        self.enforcer: Enforcer | None = None

    async def inventory(self, *devices: str) -> None:
        found = tuple(
            Device(id=id_, index=index, vendor=Vendor.NVIDIA, model="L4", vram_bytes=22 * GIB)
            for index, id_ in enumerate(devices)
        )
        await self.bus.state.put("inventory.n1", Inventory(node="n1", pool="default", boot_id="boot-1", devices=found))

    async def start(self) -> Enforcer:
        """Start an enforcer on whatever is there, and let it settle."""
        self.enforcer = await take_over(self.node.world)
        await self.settle()
        return self.enforcer

    async def restart(self) -> Enforcer:
        """Kill the enforcer between two instructions and start another."""
        if self.enforcer is not None:
            self.enforcer.close()
        return await self.start()

    async def settle(self) -> None:
        """Let the enforcer do all that can be done now."""
        assert self.enforcer is not None
        while self.enforcer.due.is_set() or self.enforcer.telling_due.is_set() or self.enforcer.node.jobs:
            await self.once()
            await self.enforcer.do_jobs()
            if self.enforcer.errands_due.is_set():
                await self.enforcer.do_errands()

    async def once(self) -> None:
        """Let the enforcer apply and tell once."""
        assert self.enforcer is not None
        try:
            await self.enforcer.settle()
            await self.enforcer.tell()
        except BusError:
            self.enforcer.due.set()
            raise

    async def ledger(self, *entries: LedgerEntry, device: str = "GPU-0", departures: dict[str, Departure] | None = None) -> None:
        """Write the node's ledger with these entries on one device."""
        await self.ledger_of({device: list(entries)}, departures)

    async def ledger_of(self, devices: dict[str, list[LedgerEntry]], departures: dict[str, Departure] | None = None) -> None:
        """Write the node's ledger, and let the enforcer follow."""
        self.generation += 1
        by_id = {device: {entry.id: entry for entry in entries} for device, entries in devices.items()}
        ledger = Ledger(node="n1", generation=self.generation, devices=by_id, departures=departures or {})
        revision = await self.bus.state.put("ledger.n1", ledger)
        if self.enforcer is not None:
            self.enforcer.on_ledger([Change("ledger.n1", ledger, revision)])
            await self.settle()

    async def stored_ledger(self) -> Ledger:
        found = await self.bus.state.get("ledger.n1", Ledger)
        assert found is not None
        return found.value

    async def tick(self, seconds: float = 1.0) -> None:
        """Let time pass, one heartbeat a second."""
        assert self.enforcer is not None
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
            self.enforcer.on_beat()
            await self.settle()

    async def observed(self) -> Observed:
        found = await self.bus.state.get("observed.n1", Observed)
        assert found is not None
        return found.value

    async def observed_slice(self, id_: str = "s1", device: str = "GPU-0") -> ObservedSlice | None:
        return (await self.observed()).devices.get(device, {}).get(id_)

    def said(self) -> list[tuple[str, str, int]]:
        """Every fact about a slice, in order: its type, the slice, the generation."""
        facts = self.bus.published("slice.*.*")
        return [(type(f).__struct_config__.tag, f.id, f.generation) for f in facts if isinstance(f, SliceFact)]

    def attach(self, pid: int = 100, vram_bytes: int = 0, slot: int = 0, place: Place = S1) -> Holder:
        """A process takes a slot and tells nobody."""
        holder = Holder(slot, 7_000 + pid)
        self.processes.start(pid, holder.owner)
        self.regions.slots[place][holder] = vram_bytes
        return holder
