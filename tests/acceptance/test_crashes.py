"""SIGKILL at the worst moments, while requests flow: every request has exactly one answer, and nothing disagrees.

The moments are events: a service is killed right when something was heard that it, or the one before it, has just done.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import pytest
from acceptance_stack import GIB, Stack, soon

from mica.bus import Bus, BusUnavailableError, Heard, JetStreamBus
from mica.events import (
    SLICES,
    Command,
    Mode,
    ReleaseSlice,
    RequestSlice,
    SliceFact,
    SliceFailed,
    SliceReady,
    SliceRejected,
    SliceReleased,
)

REQUESTS = 60
PAUSE_S = 0.05
KILLS = 3
ANSWERED_S = 60
FINAL = (SliceReady, SliceRejected, SliceFailed)
MODES = (Mode.FCSP, Mode.HARDWARE, Mode.FCSP, Mode.TIMESLICE)
T = TypeVar("T")

MOMENTS = {
    "the planner, once requests are stored": ("planner", "slice.request"),
    "the planner, once it has placed": ("planner", "slice.placed.*"),
    "the planner, once a slice is gone that it must uncharge": ("planner", "slice.released.*"),
    "the enforcer, once something is placed": ("enforcer", "slice.placed.*"),
    "the enforcer, once it has said ready and not yet written it": ("enforcer", "slice.ready.*"),
    "the enforcer, once a release is under way": ("enforcer", "slice.release"),
    "discovery": ("discovery", "slice.ready.*"),
    "telemetry": ("telemetry", "slice.ready.*"),
    "the guard": ("slo_guard", "slice.ready.*"),
    "the server, while everybody talks": ("nats-server", "slice.placed.*"),
}


@pytest.fixture
async def bus(stack: Stack) -> AsyncIterator[JetStreamBus]:
    """A connection that survives whatever happens to the server."""
    connection = await stack.bus()
    yield connection
    await connection.close()


class Tenants:
    """Ask for slices, one after the other, and give each back as soon as it is ready."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.asked = [f"job-{number}" for number in range(REQUESTS)]
        self._news = asyncio.Event()
        self._told: dict[str, set[type[Any]]] = {slice_id: set() for slice_id in self.asked}

    async def play(self) -> None:
        """Until every slice is gone again, or was refused."""
        async with asyncio.TaskGroup() as lives:
            listener = lives.create_task(self._listen())
            tasks = []
            for number, slice_id in enumerate(self.asked):
                request = RequestSlice(
                    tenant=f"tenant-{number % 4}",
                    id=slice_id,
                    vram_bytes=GIB // 4,
                    share_ppm=10_000,
                    mode=MODES[number % 4],
                    queue_s=20,
                )
                tasks.append(lives.create_task(self._live(slice_id, request)))
                await asyncio.sleep(PAUSE_S)
            await asyncio.gather(*tasks)
            listener.cancel()

    async def _live(self, slice_id: str, request: RequestSlice) -> None:
        await insist(lambda: self._bus.publish(request))
        if SliceReady in await self._until(slice_id, FINAL):
            release: Command = ReleaseSlice(id=slice_id)
            await insist(lambda: self._bus.publish(release))
            await self._until(slice_id, (SliceReleased,))

    async def _until(self, slice_id: str, kinds: tuple[type[SliceFact], ...]) -> set[type[Any]]:
        async with asyncio.timeout(ANSWERED_S):
            while not self._told[slice_id] & set(kinds):
                self._news.clear()
                await self._news.wait()
        return self._told[slice_id]

    async def _listen(self) -> None:
        """The stream as it is now and again: live events are lost while the server is down."""
        while True:
            for heard in await insist(lambda: self._bus.history(SLICES.name, ("slice.*.*",))):
                if isinstance(heard.event, SliceFact) and heard.event.id in self._told:
                    self._told[heard.event.id].add(type(heard.event))
            self._news.set()
            await asyncio.sleep(0.2)


async def insist(attempt: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Again, until the server takes it: what may or may not have been stored can be repeated."""
    async with asyncio.timeout(ANSWERED_S):
        while True:
            try:
                return await attempt()
            except BusUnavailableError:
                await asyncio.sleep(0.1)


async def kill_when_heard(stack: Stack, bus: Bus, service: str, subject: str, pids: set[int]) -> None:
    """SIGKILL the service at every tenth event on ``subject``, ``KILLS`` times, each time another process."""
    heard_so_far = 0
    async with bus.following(subject) as events:
        async for _ in events:
            heard_so_far += 1
            if heard_so_far % 10 == 3:
                pid = await soon(lambda: stack.pids().get(service))
                if pid not in pids:
                    pids.add(pid)
                    stack.kill(service)
            if len(pids) == KILLS:
                return


@pytest.mark.parametrize("moment", MOMENTS)
async def test_every_request_is_answered_once_whoever_dies(stack: Stack, bus: JetStreamBus, moment: str) -> None:
    """Each slice becomes ready, is released, and both are said without a contradiction, in spite of the kills."""
    service, subject = MOMENTS[moment]
    tenants, killed = Tenants(bus), set[int]()
    killer = asyncio.create_task(kill_when_heard(stack, bus, service, subject, killed))
    await tenants.play()
    killer.cancel()
    assert killed, f"{service} was never killed: nothing was heard on {subject}"
    answers = final_answers(await insist(lambda: bus.history(SLICES.name, ("slice.*.*",))))
    assert {slice_id: answers[slice_id] for slice_id in tenants.asked} == {
        slice_id: {"slice.ready": 1} for slice_id in tenants.asked
    }
    await soon(lambda: set(stack.pids()) >= {service})
    await asyncio.to_thread(stack.audit_recovered)
    await soon(lambda: stack.json("ls") == [])  # a planner that was just started has yet to see what is gone
    books = await asyncio.to_thread(stack.books)
    assert [len(device.instances) for device in books.devices] == [0, 0, 0]


def final_answers(history: list[Heard]) -> dict[str, Counter[str]]:
    """How often each final answer was given to each id; a repetition of the same generation is the same answer."""
    said = {
        (item.event.id, item.event.__struct_config__.tag, item.event.generation)
        for item in history
        if isinstance(item.event, FINAL)
    }
    answers: dict[str, Counter[str]] = {}
    for slice_id, tag, _ in said:
        answers.setdefault(slice_id, Counter())[str(tag)] += 1
    return answers


async def test_everything_at_once(stack: Stack, bus: JetStreamBus) -> None:
    """Services are killed in turn, whatever they are doing, with a program running in a slice all the while."""
    await asyncio.to_thread(stack.request, "steady", "2GiB", "--mode", "fcsp", "--share", "50%")
    client = await asyncio.to_thread(stack.client, "steady")
    assert (await asyncio.to_thread(client.ask, "allocate", GIB))["result"] == "CUDA_SUCCESS"
    tenants = Tenants(bus)
    playing = asyncio.create_task(tenants.play())
    for service in (
        "enforcer",
        "planner",
        "telemetry",
        "enforcer",
        "slo_guard",
        "discovery",
        "nats-server",
        "planner",
        "enforcer",
    ):
        stack.kill(service)
        await asyncio.sleep(0.3)
    await playing
    assert (await asyncio.to_thread(client.ask, "look"))["free_bytes"] == GIB
    answers = final_answers(await insist(lambda: bus.history(SLICES.name, ("slice.*.*",))))
    assert {slice_id: answers[slice_id] for slice_id in tenants.asked} == {
        slice_id: {"slice.ready": 1} for slice_id in tenants.asked
    }
    await asyncio.to_thread(stack.audit_recovered)
    client.kill()
    await asyncio.to_thread(stack.mica, "release", "steady")
    await asyncio.to_thread(stack.audit_recovered)
