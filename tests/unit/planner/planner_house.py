"""What the planner's tests live in: a bus that can freeze, lose and dawdle, and a house of enforcers and planners.

Invariant: nothing depends on time.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from simulated_enforcer import GIB, MIB, SimulatedEnforcer, h100, l4, mixed, p40

from mica.bus import BusUnavailableError, Delivery, ManualClock, MemoryBus, StaleRevisionError, Write, matches
from mica.events import (
    Command,
    Document,
    Fact,
    Inventory,
    RequestSlice,
    subject_of,
)
from mica.observability import PassingTracer
from mica.planner.service import Planner, World

__all__ = ["GIB", "MIB", "House", "Rig", "SimulatedEnforcer", "ask", "h100", "l4", "mixed", "p40", "quiet"]


class Rig:
    """Between a planner and the bus: every operation takes a random while, and after ``budget`` writes nothing comes back.

    A planner whose rig is spent is as good as killed at that very operation: what it did before stands, nothing after happens.
    """

    def __init__(self, bus: MemoryBus, seed: int = 0, dawdle: int = 0) -> None:
        self.bus = bus
        self.budget: int | None = None
        self._random = random.Random(seed)
        self._dawdle = dawdle
        self._losses: list[tuple[str, bool]] = []
        self._holds: list[tuple[str, asyncio.Event]] = []
        self._released: list[tuple[str, asyncio.Event]] = []
        self.asked: list[str] = []
        """The keys that were read, since ``forget``."""
        self.state = _RiggedBucket(self, bus.state)
        self.policy = _RiggedBucket(self, bus.policy)

    @property
    def spent(self) -> bool:
        return self.budget is not None and self.budget <= 0

    def lose(self, pattern: str, *, after: bool) -> None:
        """Lose the next write of a key, or publish on a subject, that matches: before or after it takes effect."""
        self._losses.append((pattern, after))

    def hold(self, pattern: str) -> asyncio.Event:
        """Let the next write of a key that matches, or the next ``watch.<pattern>``, wait until the event is set.

        ``news.<pattern>`` holds up what a watch brings next, and all that follows.
        """
        event = asyncio.Event()
        self._holds.append((pattern, event))
        self._released.append((pattern, event))
        return event

    def release(self, pattern: str) -> None:
        """Let go what is held, or was to be."""
        for each in [each for each in self._released if each[0] == pattern]:
            each[1].set()
        self._holds = [each for each in self._holds if each[0] != pattern]

    def forget(self) -> None:
        """Forget what was asked."""
        self.asked.clear()

    async def held(self, what: str) -> None:
        held = next((each for each in self._holds if matches(each[0], what)), None)
        if held is not None:
            self._holds.remove(held)
            await held[1].wait()

    async def write(self, what: str, work: Callable[[], Awaitable[Any]]) -> Any:
        await self.held(what)
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

    async def consume(
        self, stream: str, durable: str, *, subjects: Sequence[str] = (), batch: int = 256
    ) -> AsyncIterator[list[Delivery]]:
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
        self._rig.asked.append(key)
        return await self._rig.pace(lambda: self._bucket.get(key, kind), writes=False)

    async def create(self, key: str, value: Document, *, ttl_s: float = 0) -> int:
        return int(await self._rig.write(key, lambda: self._bucket.create(key, value, ttl_s=ttl_s)))

    async def update(self, key: str, value: Document, revision: int, *, ttl_s: float = 0) -> int:
        return int(await self._rig.write(key, lambda: self._bucket.update(key, value, revision, ttl_s=ttl_s)))

    async def chain(self, writes: Sequence[Write]) -> list[int]:
        """Weaker than promised: others may write between two of them."""
        revisions: list[int] = []
        with suppress(StaleRevisionError):
            for each in writes:
                revisions += [await self.update(each.key, each.value, each.revision)]
        return revisions

    async def put(self, key: str, value: Document) -> int:
        return int(await self._rig.pace(lambda: self._bucket.put(key, value), writes=True))

    async def delete(self, key: str) -> None:
        await self._rig.pace(lambda: self._bucket.delete(key), writes=True)

    async def versions(self, pattern: str) -> Any:
        return await self._rig.pace(lambda: self._bucket.versions(pattern), writes=False)

    async def last_revision(self, pattern: str) -> int:
        return int(await self._rig.pace(lambda: self._bucket.last_revision(pattern), writes=False))

    async def keys(self, pattern: str) -> list[str]:
        return list(await self._rig.pace(lambda: self._bucket.keys(pattern), writes=False))

    async def watch(self, pattern: str, kind: type[Any]) -> Any:
        await self._rig.held(f"watch.{pattern}")
        async for changes in self._bucket.watch(pattern, kind):
            await self._rig.held(f"news.{pattern}")
            yield changes


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
