"""What the planner's tests live in: catalogue devices, a simulated enforcer, and a bus that can freeze or dawdle.

The enforcer here is pure: it applies a ledger to what is observed, and says what the real one says. Invariant: nothing depends on time.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from msgspec.structs import replace

from mica.bus import BusUnavailableError, Delivery, ManualClock, MemoryBus, matches
from mica.events import (
    Command,
    Departure,
    Device,
    Document,
    Fact,
    Inventory,
    Ledger,
    LedgerEntry,
    Observed,
    ObservedSlice,
    ObservedState,
    PartitionProfile,
    RequestSlice,
    Runtime,
    SliceEvicted,
    SliceReady,
    SliceReleased,
    SliceResized,
    Vendor,
    subject_of,
)
from mica.observability import PassingTracer
from mica.planner.service import Planner, World

GIB = 1 << 30
MIB = 1 << 20


def _profile(name: str, profile_id: int, starts: tuple[int, ...], size: int, gib: float, slices: int, sms: int, most: int) -> PartitionProfile:
    return PartitionProfile(
        name=name, profile_id=profile_id, size=size, starts=starts, vram_bytes=int(gib * GIB), compute_slices=slices,
        multiprocessors=sms, max_instances=most,
    )  # fmt: skip


H100_PROFILES = (
    _profile("1g.10gb", 19, (0, 1, 2, 3, 4, 5, 6), 1, 9.75, 1, 16, 7),
    _profile("1g.10gb+me", 20, (0, 1, 2, 3, 4, 5, 6), 1, 9.75, 1, 16, 1),
    _profile("1g.20gb", 15, (0, 2, 4, 6), 2, 19.62, 1, 26, 4),
    _profile("2g.20gb", 14, (0, 2, 4), 2, 19.62, 2, 32, 3),
    _profile("3g.40gb", 9, (0, 4), 4, 39.5, 3, 60, 2),
    _profile("4g.40gb", 5, (0,), 4, 39.5, 4, 64, 1),
    _profile("7g.80gb", 0, (0,), 8, 79.25, 7, 132, 1),
)


def h100(device_id: str = "GPU-h100", index: int = 0) -> Device:
    """A partitioned H100."""
    return Device(
        id=device_id, index=index, vendor=Vendor.NVIDIA, model="H100-SXM-80GB", vram_bytes=int(79.6 * GIB), reserve_bytes=300 * MIB,
        multiprocessors=132, compute_capability=(9, 0), partitioned=True, profiles=H100_PROFILES, compute_slices=7, runtimes=(Runtime.CUDA,),
    )  # fmt: skip


def l4(device_id: str = "GPU-l4", index: int = 1) -> Device:
    """An L4: not partitioned, compute capability 8.9."""
    return Device(
        id=device_id, index=index, vendor=Vendor.NVIDIA, model="L4", vram_bytes=23 * GIB, reserve_bytes=GIB // 2, multiprocessors=58,
        compute_capability=(8, 9), runtimes=(Runtime.CUDA,),
    )  # fmt: skip


def p40(device_id: str = "GPU-p40", index: int = 2) -> Device:
    """A P40: compute capability 6.1, so one slice at a time."""
    return Device(
        id=device_id, index=index, vendor=Vendor.NVIDIA, model="P40", vram_bytes=24 * GIB, reserve_bytes=GIB // 2, multiprocessors=30,
        compute_capability=(6, 1), runtimes=(Runtime.CUDA,),
    )  # fmt: skip


def mixed(node: str = "n1", pool: str = "default") -> Inventory:
    """One device of each kind."""
    return Inventory(node=node, pool=pool, boot_id="b1", devices=(h100(f"{node}-h100"), l4(f"{node}-l4"), p40(f"{node}-p40")))


def apply(ledger: Ledger, before: Observed, lease_until: int, used: dict[tuple[str, str], int], broken: set[str]) -> Observed:
    """What an enforcer reports once it has applied a ledger whole: a slice keeps what its processes hold, and stays while they do."""
    devices: dict[str, dict[str, ObservedSlice]] = {}
    for device_id, slices in ledger.devices.items():
        for id_, entry in slices.items():
            devices.setdefault(device_id, {})[id_] = _seen(entry, used.get((device_id, id_), 0), failed=device_id in broken)
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
            generation=entry.generation, state=ObservedState.FAILED, mode=entry.mode, vram_bytes=0, share_ppm=0, message="it is broken"
        )
    return ObservedSlice(
        generation=entry.generation, state=ObservedState.LIVE, mode=entry.mode, vram_bytes=max(entry.vram_bytes, used_bytes),
        share_ppm=entry.share_ppm, vram_used_bytes=used_bytes, partition=entry.partition, window=entry.window,
    )  # fmt: skip


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
        self._announced: dict[str, int] = {}
        self._ended: set[tuple[str, int]] = set()

    async def step(self) -> None:
        """Apply the latest ledger and say what became of it: facts first, then ``observed``."""
        entry = await self.bus.state.get(f"ledger.{self.node}", Ledger)
        ledger = entry.value if entry is not None else Ledger(node=self.node)
        until = self.clock.unix_ns() + int(self.lease_s * 1e9)
        observed = apply(ledger, self.observed, until, self.used, self.broken)
        for id_, entries in _by_slice(ledger).items():
            await self._announce(id_, entries, observed)
        for id_, departure in ledger.departures.items():
            if not any(id_ in slices for slices in observed.devices.values()):
                await self._end(id_, departure)
        self.observed = observed
        await self.bus.state.put(f"observed.{self.node}", observed)

    async def renew(self) -> None:
        """Keep the lease, without looking at the ledger."""
        self.observed = replace(self.observed, lease_until=self.clock.unix_ns() + int(self.lease_s * 1e9))
        await self.bus.state.put(f"observed.{self.node}", self.observed)

    async def _announce(self, id_: str, entries: dict[str, LedgerEntry], observed: Observed) -> None:
        seen = [observed.devices[device_id][id_] for device_id in entries]
        generation = next(iter(entries.values())).generation
        if any(each.state is not ObservedState.LIVE for each in seen) or self._announced.get(id_, -1) >= generation:
            return
        kind = SliceResized if id_ in self._announced else SliceReady
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
            await self._say(SliceEvicted(at=at, id=id_, tenant=departure.tenant, generation=generation, message=departure.message))
        else:
            await self._say(SliceReleased(at=at, id=id_, tenant=departure.tenant, generation=generation))

    async def _say(self, fact: SliceReady | SliceResized | SliceReleased | SliceEvicted) -> None:
        await self.bus.publish(fact, message_id=f"{fact.__struct_config__.tag}-{fact.id}-{fact.generation}")


def _by_slice(ledger: Ledger) -> dict[str, dict[str, LedgerEntry]]:
    found: dict[str, dict[str, LedgerEntry]] = {}
    for device_id, slices in ledger.devices.items():
        for id_, entry in slices.items():
            found.setdefault(id_, {})[device_id] = entry
    return found


class Rig:
    """Between a planner and the bus: every operation takes a random while, and after ``budget`` of them nothing comes back any more.

    A planner whose rig is spent is as good as killed at that very operation: what it did before stands, nothing after happens.
    """

    def __init__(self, bus: MemoryBus, seed: int = 0, dawdle: int = 0) -> None:
        self.bus = bus
        self.budget: int | None = None
        self._random = random.Random(seed)
        self._dawdle = dawdle
        self._losses: list[tuple[str, bool]] = []
        self.state = _RiggedBucket(self, bus.state)
        self.policy = _RiggedBucket(self, bus.policy)

    @property
    def spent(self) -> bool:
        return self.budget == 0

    def lose(self, pattern: str, *, after: bool) -> None:
        """Lose the next write of a key, or publish on a subject, that matches: before or after it takes effect."""
        self._losses.append((pattern, after))

    async def write(self, what: str, work: Callable[[], Awaitable[Any]]) -> Any:
        loss = next((each for each in self._losses if matches(each[0], what)), None)
        if loss is None:
            return await self.pace(work, writes=True)
        self._losses.remove(loss)
        if loss[1]:
            await self.pace(work, writes=True)
        raise BusUnavailableError(f"{what}: lost by the test, {'after' if loss[1] else 'before'} it took effect")

    async def pace(self, work: Callable[[], Awaitable[Any]], *, writes: bool) -> Any:
        for _ in range(self._random.randint(0, self._dawdle)):
            await asyncio.sleep(0)
        await self._still_alive()
        result = await work()
        if writes and self.budget is not None:
            self.budget -= 1
        for _ in range(self._random.randint(0, self._dawdle)):
            await asyncio.sleep(0)
        await self._still_alive()
        return result

    async def _still_alive(self) -> None:
        if self.spent:
            await asyncio.get_running_loop().create_future()

    async def publish(self, event: Command | Fact, *, traceparent: str = "", message_id: str = "") -> int:
        return int(
            await self.write(subject_of(event), lambda: self.bus.publish(event, traceparent=traceparent, message_id=message_id))
        )

    async def publish_raw(self, subject: str, data: bytes, *, traceparent: str = "") -> int:
        return await self.bus.publish_raw(subject, data, traceparent=traceparent)

    async def consume(self, stream: str, durable: str, *, subjects: Sequence[str] = (), batch: int = 256) -> AsyncIterator[list[Delivery]]:
        async for deliveries in self.bus.consume(stream, durable, subjects=subjects, batch=batch):
            await self._still_alive()
            yield [_RiggedDelivery(self, each) for each in deliveries]

    def following(self, *subjects: str) -> Any:
        return self.bus.following(*subjects)

    async def history(self, stream: str, subjects: Sequence[str] = ()) -> Any:
        return await self.pace(lambda: self.bus.history(stream, subjects), writes=False)

    async def close(self) -> None:
        await self.bus.close()


class _RiggedBucket:
    def __init__(self, rig: Rig, bucket: Any) -> None:
        self._rig = rig
        self._bucket = bucket

    async def get(self, key: str, kind: type[Any]) -> Any:
        return await self._rig.pace(lambda: self._bucket.get(key, kind), writes=False)

    async def create(self, key: str, value: Document, *, ttl_s: float = 0) -> int:
        return int(await self._rig.write(key, lambda: self._bucket.create(key, value, ttl_s=ttl_s)))

    async def update(self, key: str, value: Document, revision: int, *, ttl_s: float = 0) -> int:
        return int(await self._rig.write(key, lambda: self._bucket.update(key, value, revision, ttl_s=ttl_s)))

    async def put(self, key: str, value: Document) -> int:
        return int(await self._rig.pace(lambda: self._bucket.put(key, value), writes=True))

    async def delete(self, key: str) -> None:
        await self._rig.pace(lambda: self._bucket.delete(key), writes=True)

    async def keys(self, pattern: str) -> list[str]:
        return list(await self._rig.pace(lambda: self._bucket.keys(pattern), writes=False))

    def watch(self, pattern: str, kind: type[Any]) -> Any:
        return self._bucket.watch(pattern, kind)


class _RiggedDelivery:
    def __init__(self, rig: Rig, delivery: Delivery) -> None:
        self._rig = rig
        self._delivery = delivery

    def __getattr__(self, name: str) -> Any:
        return getattr(self._delivery, name)

    async def ack(self) -> None:
        await self._rig.pace(self._delivery.ack, writes=True)

    async def terminate(self) -> None:
        await self._rig.pace(self._delivery.terminate, writes=True)

    async def retry(self, delay_s: float = 0) -> None:
        await self._rig.pace(lambda: self._delivery.retry(delay_s), writes=True)

    async def in_progress(self) -> None:
        await self._delivery.in_progress()


async def quiet(spins: int = 120) -> None:
    """Let everything that is under way come to rest."""
    for _ in range(spins):
        await asyncio.sleep(0)


class House:
    """A memory bus with enforcers and planners on it."""

    def __init__(self) -> None:
        self.bus = MemoryBus()
        self.clock = ManualClock()
        self.enforcers: dict[str, SimulatedEnforcer] = {}
        self.planners: list[tuple[Rig, asyncio.Task[None]]] = []

    async def add_node(self, inventory: Inventory) -> SimulatedEnforcer:
        """A node whose enforcer holds its lease."""
        await self.bus.state.put(f"inventory.{inventory.node}", inventory)
        enforcer = self.enforcers[inventory.node] = SimulatedEnforcer(self.bus, self.clock, inventory.node)
        await enforcer.step()
        return enforcer

    async def start_planner(self, rig: Rig | None = None, commands_per_s: int = 100_000) -> Rig:
        """One more replica, ready."""
        rig = rig or Rig(self.bus)
        ready = asyncio.Event()
        world = World(rig, self.clock, PassingTracer(), commands_per_s)
        task = asyncio.get_running_loop().create_task(Planner(world).run(ready.set))
        self.planners.append((rig, task))
        waiting = asyncio.ensure_future(ready.wait())
        await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if task.done():
            task.result()
        return rig

    async def stop_planners(self) -> None:
        """End all of them, wherever they are."""
        for _, task in self.planners:
            task.cancel()
        await asyncio.gather(*(task for _, task in self.planners), return_exceptions=True)
        self.planners.clear()

    async def settle(self, rounds: int = 3) -> None:
        """Let planners and enforcers follow each other until nothing moves."""
        for _ in range(rounds):
            await quiet()
            for enforcer in self.enforcers.values():
                await enforcer.step()
        await quiet()

    async def pass_time(self, seconds: float, silent: str = "") -> None:
        """Let that much time pass, in steps that every loop notices; every enforcer but the ``silent`` one renews its lease."""
        left = seconds
        while left > 0:
            step = min(left, 0.5)
            self.clock.advance(step)
            left -= step
            for node, enforcer in self.enforcers.items():
                if node != silent:
                    await enforcer.renew()
            await quiet(40)

    async def send(self, command: Command) -> int:
        """Publish a command and let everything follow from it; its stream sequence."""
        sequence = await self.bus.publish(command)
        await self.settle()
        return sequence

    def said(self, subject: str) -> list[Any]:
        """What was published on a subject."""
        return list(self.bus.published(subject))


def ask(id_: str, gib: float, **more: Any) -> RequestSlice:
    """A request of tenant t1 for that many GiB."""
    return RequestSlice(**{"tenant": "t1", "id": id_, "vram_bytes": int(gib * GIB), **more})
