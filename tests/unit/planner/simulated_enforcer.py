"""Catalogue devices and a simulated enforcer: pure, it applies a ledger to what is observed and says what the real one says.

Invariant: nothing depends on time, and a slice keeps what its processes hold.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from mica.bus import ManualClock, MemoryBus
from mica.events import (
    Departure,
    Device,
    Inventory,
    Ledger,
    LedgerEntry,
    Observed,
    ObservedSlice,
    ObservedState,
    PartitionProfile,
    Runtime,
    SliceEvicted,
    SliceFact,
    SliceReady,
    SliceReleased,
    SliceResized,
    SliceResumed,
    SliceSuspended,
    Vendor,
)

GIB = 1 << 30
MIB = 1 << 20
ALIVE = (ObservedState.LIVE, ObservedState.SUSPENDED)


def _profile(name: str, profile_id: int, starts: Sequence[int], shape: tuple[int, float, int, int, int]) -> PartitionProfile:
    """``shape`` is slots, GiB, compute slices, SMs and how many there may be."""
    size, gib, slices, multiprocessors, most = shape
    return PartitionProfile(
        name=name,
        profile_id=profile_id,
        size=size,
        starts=tuple(starts),
        vram_bytes=int(gib * GIB),
        compute_slices=slices,
        multiprocessors=multiprocessors,
        max_instances=most,
    )


H100_PROFILES = (
    _profile("1g.10gb", 19, (0, 1, 2, 3, 4, 5, 6), (1, 9.75, 1, 16, 7)),
    _profile("1g.10gb+me", 20, (0, 1, 2, 3, 4, 5, 6), (1, 9.75, 1, 16, 1)),
    _profile("1g.20gb", 15, (0, 2, 4, 6), (2, 19.62, 1, 26, 4)),
    _profile("2g.20gb", 14, (0, 2, 4), (2, 19.62, 2, 32, 3)),
    _profile("3g.40gb", 9, (0, 4), (4, 39.5, 3, 60, 2)),
    _profile("4g.40gb", 5, (0,), (4, 39.5, 4, 64, 1)),
    _profile("7g.80gb", 0, (0,), (8, 79.25, 7, 132, 1)),
)


def h100(device_id: str = "GPU-h100", index: int = 0) -> Device:
    """A partitioned H100."""
    return Device(
        id=device_id,
        index=index,
        vendor=Vendor.NVIDIA,
        model="H100-SXM-80GB",
        vram_bytes=int(79.6 * GIB),
        reserve_bytes=300 * MIB,
        multiprocessors=132,
        compute_capability=(9, 0),
        partitioned=True,
        profiles=H100_PROFILES,
        compute_slices=7,
        runtimes=(Runtime.CUDA,),
    )


def l4(device_id: str = "GPU-l4", index: int = 1) -> Device:
    """An L4: not partitioned, compute capability 8.9."""
    return Device(
        id=device_id,
        index=index,
        vendor=Vendor.NVIDIA,
        model="L4",
        vram_bytes=23 * GIB,
        reserve_bytes=GIB // 2,
        multiprocessors=58,
        compute_capability=(8, 9),
        runtimes=(Runtime.CUDA,),
    )


def p40(device_id: str = "GPU-p40", index: int = 2) -> Device:
    """A P40: compute capability 6.1, so one slice at a time."""
    return Device(
        id=device_id,
        index=index,
        vendor=Vendor.NVIDIA,
        model="P40",
        vram_bytes=24 * GIB,
        reserve_bytes=GIB // 2,
        multiprocessors=30,
        compute_capability=(6, 1),
        runtimes=(Runtime.CUDA,),
    )


def mixed(node: str = "n1", pool: str = "default") -> Inventory:
    """One device of each kind."""
    return Inventory(node=node, pool=pool, boot_id="b1", devices=(h100(f"{node}-h100"), l4(f"{node}-l4"), p40(f"{node}-p40")))


def apply(ledger: Ledger, before: Observed, lease_until: int, used: dict[tuple[str, str], int], broken: set[str]) -> Observed:
    """What an enforcer reports once it has applied a ledger whole: a slice stays while its processes hold memory."""
    devices: dict[str, dict[str, ObservedSlice]] = {}
    for device_id, slices in ledger.devices.items():
        for id_, entry in slices.items():
            seen = _seen(entry, used.get((device_id, id_), 0), failed=device_id in broken)
            earlier = before.devices.get(device_id, {}).get(id_)
            if seen.vram_used_bytes > entry.vram_bytes and earlier is not None:
                seen = replace(seen, generation=earlier.generation)
            devices.setdefault(device_id, {})[id_] = seen
    for device_id, seen in before.devices.items():
        for id_, slice_ in seen.items():
            held = used.get((device_id, id_), 0)
            if held and id_ not in devices.get(device_id, {}):
                left = replace(slice_, state=ObservedState.DRAINING, vram_used_bytes=held)
                devices.setdefault(device_id, {})[id_] = left
    return Observed(node=ledger.node, boot_id="b1", generation=ledger.generation, lease_until=lease_until, devices=devices)


def _seen(entry: LedgerEntry, used_bytes: int, *, failed: bool) -> ObservedSlice:
    if failed:
        return ObservedSlice(
            generation=entry.generation,
            state=ObservedState.FAILED,
            mode=entry.mode,
            vram_bytes=0,
            share_ppm=0,
            message="it is broken",
        )
    if entry.suspended:
        return ObservedSlice(
            generation=entry.generation,
            state=ObservedState.SUSPENDED,
            mode=entry.mode,
            vram_bytes=0,
            share_ppm=0,
            away_bytes=used_bytes,
        )
    return ObservedSlice(
        generation=entry.generation,
        state=ObservedState.LIVE,
        mode=entry.mode,
        vram_bytes=max(entry.vram_bytes, used_bytes),
        share_ppm=entry.share_ppm,
        vram_used_bytes=used_bytes,
        partition=entry.partition,
        window=entry.window,
    )


class SimulatedEnforcer:
    """One node's enforcer without a node. ``step`` brings it up to the latest ledger."""

    def __init__(self, bus: MemoryBus, clock: ManualClock, node: str) -> None:
        self.bus = bus
        self.clock = clock
        self.node = node
        self.lease_s = 30.0
        self.used: dict[tuple[str, str], int] = {}
        self.broken: set[str] = set()
        self.observed = Observed(node=node, boot_id="b1")
        self.lived: set[tuple[str, int]] = set()
        """Every slice and generation that was ever live on all of its devices here."""
        self.fenced = False
        """Its lease has run out since it last looked at the ledger: nothing runs on it."""
        self._announced: dict[str, int] = {}
        self._away: set[str] = set()
        self.unportable: set[str] = set()
        """The slices that can not be suspended, since their programs' memory can not be taken."""
        self._ended: set[tuple[str, int]] = set()

    async def step(self) -> None:
        """Apply the latest ledger and say what became of it: facts first, then ``observed``."""
        entry = await self.bus.state.get(f"ledger.{self.node}", Ledger)
        ledger = entry.value if entry is not None else Ledger(node=self.node)
        until = self.clock.unix_ns() + int(self.lease_s * 1e9)
        self.look_at_lease()
        if self.fenced:
            known = {id_ for slices in ledger.devices.values() for id_ in slices} | ledger.departures.keys()
            self.used = {place: held for place, held in self.used.items() if place[1] in known}
            self.fenced = False
        observed = apply(ledger, self.observed, until, self.used, self.broken)
        observed = self._kept_back(ledger, observed)
        for id_, entries in _by_slice(ledger).items():
            if next(iter(entries.values())).nodes == 1:
                await self._announce(id_, entries, observed)
        for id_, departure in ledger.departures.items():
            if departure.nodes == 1 and not departure.again and not any(id_ in slices for slices in observed.devices.values()):
                await self._end(id_, departure)
        for id_, entries in _by_slice(ledger).items():
            if all(observed.devices[device_id][id_].state in ALIVE for device_id in entries):
                self.lived.add((id_, next(iter(entries.values())).generation))
        self.observed = observed
        await self.bus.state.put(f"observed.{self.node}", observed)

    def look_at_lease(self) -> None:
        """Stop what runs once the lease is over, as an enforcer that lives does."""
        self.fenced |= self.clock.unix_ns() >= self.observed.lease_until > 0

    def running(self) -> set[str]:
        """The slices whose programs may compute here now."""
        self.look_at_lease()
        if self.fenced:
            return set()
        return {
            id_
            for slices in self.observed.devices.values()
            for id_, seen in slices.items()
            if seen.state is ObservedState.LIVE or seen.vram_used_bytes
        }

    def _kept_back(self, ledger: Ledger, observed: Observed) -> Observed:
        """What could not be suspended is what it was."""
        devices = {device_id: dict(slices) for device_id, slices in observed.devices.items()}
        for device_id, slices in ledger.devices.items():
            for id_, entry in slices.items():
                before = self.observed.devices.get(device_id, {}).get(id_)
                live = before is not None and before.state is ObservedState.LIVE
                if entry.suspended and id_ in self.unportable and before is not None and live:
                    devices[device_id][id_] = replace(before, refused=entry.generation, message="it has managed memory")
        return replace(observed, devices=devices)

    async def renew(self) -> None:
        """Keep the lease, without looking at the ledger: what was stopped meanwhile does not run again by that."""
        self.look_at_lease()
        self.observed = replace(self.observed, lease_until=self.clock.unix_ns() + int(self.lease_s * 1e9))
        await self.bus.state.put(f"observed.{self.node}", self.observed)

    async def _announce(self, id_: str, entries: dict[str, LedgerEntry], observed: Observed) -> None:
        seen = [observed.devices[device_id][id_] for device_id in entries]
        generation = next(iter(entries.values())).generation
        entry = next(iter(entries.values()))
        over = any(each.vram_used_bytes > entries[device_id].vram_bytes for device_id, each in zip(entries, seen, strict=True))
        if entry.suspended and any(each.refused for each in seen):
            self._away.add(id_)
        in_force = all(each.state in ALIVE and each.generation == generation for each in seen)
        if over or not in_force or self._announced.get(id_, -1) >= generation:
            return
        kind: type[SliceReady | SliceResized | SliceResumed | SliceSuspended] = SliceReady
        if entry.again or id_ in self._announced:
            kind = SliceSuspended if entry.suspended else SliceResumed if id_ in self._away else SliceResized
        (self._away.add if entry.suspended else self._away.discard)(id_)
        self._announced[id_] = generation
        tenant = next(iter(entries.values())).tenant
        await self._say(kind(at=self.clock.unix_ns(), id=id_, tenant=tenant, generation=generation, placements=()))

    async def _end(self, id_: str, departure: Departure) -> None:
        if (id_, departure.generation) in self._ended:
            return
        self._ended.add((id_, departure.generation))
        self._announced.pop(id_, None)
        at, generation = self.clock.unix_ns(), departure.generation
        if departure.evicted:
            await self._say(
                SliceEvicted(at=at, id=id_, tenant=departure.tenant, generation=generation, message=departure.message)
            )
        else:
            await self._say(SliceReleased(at=at, id=id_, tenant=departure.tenant, generation=generation))

    async def _say(self, fact: SliceFact) -> None:
        await self.bus.publish(fact, message_id=f"{fact.__struct_config__.tag}-{fact.id}-{fact.generation}")


def _by_slice(ledger: Ledger) -> dict[str, dict[str, LedgerEntry]]:
    found: dict[str, dict[str, LedgerEntry]] = {}
    for device_id, slices in ledger.devices.items():
        for id_, entry in slices.items():
            found.setdefault(id_, {})[device_id] = entry
    return found
