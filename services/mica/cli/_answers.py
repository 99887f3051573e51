"""Waiting for what becomes of a command. Invariant: the answer that is returned belongs to the command that was published.

A command has its answer on ``slice.*.<id>``, or on ``slice.*.seq-<n>`` and ``slice.refused.<n>``, where n is its stream
sequence: only known once it is published. What was said between publishing and subscribing is read from the stream.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, TypeVar

from mica.bus import Bus, Heard
from mica.events import (
    SLICES,
    Command,
    RequestSlice,
    SliceFact,
    SliceFailed,
    SliceQueued,
    SliceReady,
    SliceRecord,
    SliceRefused,
    SliceRejected,
)

Final_ = SliceReady | SliceRejected | SliceFailed
FINAL: Final = (SliceReady, SliceRejected, SliceFailed)
T = TypeVar("T")


class Conversation:
    """A published command and the facts that may answer it."""

    def __init__(self, sequence: int, heard: "asyncio.Queue[Heard]") -> None:
        self.sequence = sequence
        self._heard = heard

    async def first(self, pick: Callable[[Heard], T | None], timeout_s: float) -> T | None:
        """The first thing that ``pick`` makes of a fact, or None after ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    picked = pick(await self._heard.get())
                    if picked is not None:
                        return picked
        except TimeoutError:
            return None


@asynccontextmanager
async def say(bus: Bus, command: Command, subjects: tuple[str, ...]) -> AsyncIterator[Conversation]:
    """Publish ``command`` and hear what is said on ``subjects`` and, by its sequence, in answer to it alone."""
    queue: asyncio.Queue[Heard] = asyncio.Queue()
    async with asyncio.TaskGroup() as tasks, AsyncExitStack() as stack:
        pumps = []
        if subjects:
            pumps.append(tasks.create_task(_pump(await stack.enter_async_context(bus.following(*subjects)), queue)))
        sequence = await bus.publish(command)
        by_sequence = "seq-" if isinstance(command, RequestSlice) else ""
        own = (f"slice.*.{by_sequence}{sequence}",)
        pumps.append(tasks.create_task(_pump(await stack.enter_async_context(bus.following(*own)), queue)))
        for heard in await bus.history(SLICES.name, own):
            queue.put_nowait(heard)
        try:
            yield Conversation(sequence, queue)
        finally:
            for pump in pumps:
                pump.cancel()


async def _pump(events: AsyncIterator[Heard], queue: "asyncio.Queue[Heard]") -> None:
    async for heard in events:
        queue.put_nowait(heard)


async def ask(bus: Bus, request: RequestSlice, timeout_s: float, on_progress: Callable[[str], None]) -> tuple[int, Final_ | None]:
    """Publish a request; its sequence and its one final answer, or None after ``timeout_s``.

    ``on_progress`` hears where the slice is queued or placed before it is ready.
    """
    subjects = (f"slice.*.{request.id}",) if request.id else ()
    async with say(bus, request, subjects) as conversation:
        own_id = f"seq-{conversation.sequence}"

        def pick(heard: Heard) -> SliceFact | None:
            event = heard.event
            if isinstance(event, SliceQueued):
                on_progress(f"queued: {event.decision.summary}")
            return event if isinstance(event, FINAL) else None

        while (answer := await conversation.first(pick, timeout_s)) is not None:
            assert isinstance(answer, FINAL)
            if answer.id == own_id or await _is_ours(bus, request):
                return conversation.sequence, answer
        return conversation.sequence, None


async def _is_ours(bus: Bus, request: RequestSlice) -> bool:
    """Whether the slice of that id was asked for with this very body; else the answer is another request's."""
    entry = await bus.state.get(f"slice.{request.id}", SliceRecord)
    return entry is None or entry.value.request == request


def refusal(heard: Heard) -> SliceRefused | None:
    """The refusal that ``heard`` is, if it is one."""
    return heard.event if isinstance(heard.event, SliceRefused) else None
