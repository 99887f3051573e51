"""The planner's loops: what comes from the bus, and what time brings.

Invariant: commands are taken only after inventories, what is observed, policies and ledgers are known once; a loop that fails
for a while is logged and goes on, and only cancellation ends the service.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

from msgspec import Struct

from mica.bus import Bus, BusError, Change, Clock, Entry
from mica.events import (
    Document,
    EventError,
    Inventory,
    NodePolicy,
    Observed,
    PoolPolicy,
    RepackState,
    SliceQueued,
    SliceRecord,
    SliceSuspended,
    StoredProfile,
    TenantPolicy,
)
from mica.observability import Tracer
from mica.planner.changes import Changes
from mica.planner.desk import Desk
from mica.planner.domain.records import is_waiting
from mica.planner.followups import Followups
from mica.planner.handlers import Commands, Handlers
from mica.planner.policies import DEFAULT_COMMANDS_PER_S, Policies
from mica.planner.repacks import Repacks, repacks_of
from mica.planner.requests import Requests
from mica.planner.rightsizes import Rightsizes
from mica.planner.store import LEDGERS
from mica.planner.suspensions import Suspensions
from mica.planner.upkeep import Upkeep
from mica.planner.view import View
from mica.planner.waiting import Waiting
from mica.policy import follow

log = logging.getLogger(__name__)

DURABLE: Final = "planner"
TICK_S: Final = 0.5
REVIEW_TICKS: Final = 4
CROSS_CHECK_TICKS: Final = 60
FAILED_WATCH_S: Final = 1.0
IMPROVE_S: Final = 1.0

T = TypeVar("T", bound=Document | bytes)
Watch = Callable[[], AsyncIterator[list[Change[T]]]]
Take = Callable[[list[Change[T]]], Awaitable[None]]


class World(Struct, frozen=True):
    """What the planner is given."""

    bus: Bus
    clock: Clock
    tracer: Tracer
    commands_per_s: int = DEFAULT_COMMANDS_PER_S
    home: tuple[int, int] = (0, 1)


class Planner:
    """One replica."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._policies = Policies(world.commands_per_s)
        self._waiting = Waiting()

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until cancelled; ``on_ready`` is called once commands are taken."""
        async with asyncio.TaskGroup() as group:
            desk = Desk(self._world.bus, self._world.clock, self._world.tracer, self._policies, group.create_task)
            desk.fleet.index.home = self._world.home
            requests = Requests(desk, self._waiting)
            changes = Changes(desk, self._waiting)
            suspensions = Suspensions(desk, self._waiting, changes)
            followups = Followups(desk, requests, self._waiting, suspensions)
            upkeep = Upkeep(desk, requests, followups, self._waiting)
            repacks = repacks_of(desk, self._waiting)
            rightsizes = Rightsizes(desk)
            handlers = Handlers(desk, requests, Commands(changes, suspensions, repacks, rightsizes))
            await self._know(group, View(desk, followups, self._policies, self._waiting, repacks))
            group.create_task(self._tick(upkeep, handlers))
            group.create_task(self._improve(repacks, rightsizes))
            group.create_task(self._look_ahead(upkeep))
            group.create_task(self._serve_waiting(upkeep))
            group.create_task(self._hear_queued(desk))
            left = await self._recall(upkeep)
            group.create_task(self._guarded("sweep", lambda: upkeep.sweep(left)))
            on_ready()
            async for batch in self._world.bus.consume("COMMANDS", DURABLE):
                for delivery in batch:
                    await handlers.on_delivery(delivery)

    async def _recall(self, upkeep: Upkeep) -> list[Entry[SliceRecord]]:
        while True:
            try:
                return await upkeep.recall()
            except (BusError, EventError) as error:
                log.warning("the records can not be read: %s", error)
            await self._world.clock.sleep(FAILED_WATCH_S)

    async def _know(self, group: asyncio.TaskGroup, view: View) -> None:
        """Start following what the planner decides on, and wait until all of it was seen once."""
        state, policy = self._world.bus.state, self._world.bus.policy
        ready = [asyncio.Event() for _ in range(7)]
        ledgers = asyncio.Event()
        group.create_task(self._follow(lambda: state.watch(LEDGERS, bytes), view.take_ledgers, ledgers))
        await ledgers.wait()
        group.create_task(self._follow(lambda: state.watch("inventory.*", Inventory), view.take_inventory, ready[0]))
        group.create_task(self._follow(lambda: state.watch("observed.*", Observed), view.take_observed, ready[1]))
        group.create_task(self._follow(lambda: follow(policy, "tenant.*", TenantPolicy), view.take_tenants, ready[2]))
        group.create_task(self._follow(lambda: follow(policy, "pool.*", PoolPolicy), view.take_pools, ready[3]))
        group.create_task(self._follow(lambda: follow(policy, "node.*", NodePolicy), view.take_nodes, ready[4]))
        group.create_task(self._follow(lambda: follow(policy, "profile.*", StoredProfile), view.take_profiles, ready[5]))
        group.create_task(self._follow(lambda: state.watch("repack.*", RepackState), view.take_repacks, ready[6]))
        for event in ready:
            await event.wait()

    async def _follow(self, watch: Watch[T], take: Take[T], seen: asyncio.Event) -> None:
        """Hand every batch to ``take``; a document that nobody can read is logged, and the watch starts over."""
        while True:
            try:
                async for changes in watch():
                    await take(changes)
                    seen.set()
            except (BusError, EventError) as error:
                log.warning("a watched document can not be followed: %s", error)
                seen.set()
            await self._world.clock.sleep(FAILED_WATCH_S)

    async def _tick(self, upkeep: Upkeep, handlers: Handlers) -> None:
        ticks = 0
        while True:
            await self._world.clock.sleep(TICK_S)
            ticks += 1
            await handlers.in_hand.keep(self._world.clock.monotonic_ns())
            upkeep.wake_due()
            if ticks % REVIEW_TICKS == 0:
                await self._guarded("review", upkeep.review)
            if ticks % CROSS_CHECK_TICKS == 0:
                await self._guarded("cross-check", upkeep.cross_check)

    async def _improve(self, repacks: Repacks, rightsizes: Rightsizes) -> None:
        while True:
            await self._world.clock.sleep(IMPROVE_S)
            await self._guarded("repacking", repacks.review)
            await self._guarded("right-sizing", rightsizes.review)

    async def _look_ahead(self, upkeep: Upkeep) -> None:
        while True:
            await self._world.clock.sleep(TICK_S)
            await self._guarded("looking ahead", upkeep.look_ahead)

    async def _serve_waiting(self, upkeep: Upkeep) -> None:
        while True:
            await self._waiting.changed.wait()
            await self._guarded("queue", upkeep.retry_waiting)

    async def _hear_queued(self, desk: Desk) -> None:
        """Learn who waits by the word of other replicas, or of enforcers: if they die, this one goes on with them."""
        async with self._world.bus.following("slice.queued.*", "slice.suspended.*") as heard:
            async for each in heard:
                if isinstance(each.event, SliceQueued | SliceSuspended):
                    await self._guarded("queue", lambda id_=each.event.id: self._add_queued(desk, id_))  # type: ignore[misc]

    async def _add_queued(self, desk: Desk, slice_id: str) -> None:
        entry = await desk.records.read(slice_id)
        if entry is not None and is_waiting(entry.value) and (entry.value.until or entry.value.suspended):
            self._waiting.add(entry.value)
            if entry.value.suspended:
                self._waiting.wake()

    async def _guarded(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do it; what goes wrong is logged, and tried again when its time comes."""
        try:
            await work()
        except BusError as error:
            log.info("%s is tried again: %s", what, error)
        except Exception as error:
            log.exception("%s failed", what, exc_info=error)
