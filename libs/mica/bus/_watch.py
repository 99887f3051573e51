"""One ephemeral consumer over the last message of every subject that matches.

Invariant: the first batch holds everything that existed; afterwards nothing is missed without the iteration ending, so
that whoever iterates starts over. A silent consumer (the server lost it) shows by missing heartbeats.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import Final

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from mica.bus._connection import Connection, Listening

HEARTBEAT_S: Final = 5.0
SILENCE_S: Final = 3 * HEARTBEAT_S
STATUS: Final = "Status"


class Watch:
    """``async with Watch(...) as batches: async for messages in batches``: ends when ``lost`` is called."""

    def __init__(self, connection: Connection, stream: str, subject: str) -> None:
        self._connection = connection
        self._jetstream = connection.jsm()
        self._stream = stream
        self._subject = subject
        self._queue: asyncio.Queue[Msg | None] = asyncio.Queue()
        self._lost = False
        self._subscription: Listening | None = None
        self._consumer = ""
        self._pending = 0
        self._loop = asyncio.get_running_loop()
        self._heard_s = 0.0
        self._listening: asyncio.TimerHandle | None = None

    def lost(self) -> None:
        """The connection was lost and is back: what was subscribed may be gone."""
        self._lost = True
        self._queue.put_nowait(None)

    async def __aenter__(self) -> AsyncIterator[list[Msg]]:
        inbox = self._connection.new_inbox()
        self._subscription = await self._connection.listen(inbox, self._hear)
        config = ConsumerConfig(
            deliver_subject=inbox,
            filter_subject=self._subject,
            deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
            ack_policy=AckPolicy.NONE,
            idle_heartbeat=HEARTBEAT_S,
            inactive_threshold=60.0,
            mem_storage=True,
            num_replicas=1,
        )
        info = await self._jetstream.add_consumer(self._stream, config=config)
        self._consumer = info.name or ""
        self._pending = info.num_pending or 0
        delivered = info.delivered.consumer_seq if info.delivered else 0
        self._listen()
        return self._batches(self._pending + delivered)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._listening is not None:
            self._listening.cancel()
        if self._subscription is not None:
            with suppress(NatsError):
                await self._subscription.unsubscribe()
        if not self._lost:
            with suppress(NatsError, TimeoutError):
                await self._jetstream.delete_consumer(self._stream, self._consumer)

    def _hear(self, message: Msg) -> None:
        self._heard_s = self._loop.time()
        self._queue.put_nowait(message)

    def _listen(self) -> None:
        """Look now and then whether the consumer fell silent: a timeout around every wait would cost more."""
        self._heard_s = self._loop.time()
        self._listening = self._loop.call_later(SILENCE_S, self._look)

    def _look(self) -> None:
        left_s = self._heard_s + SILENCE_S - self._loop.time()
        if left_s > 0:
            self._listening = self._loop.call_later(left_s, self._look)
        else:
            self._queue.put_nowait(None)

    async def _batches(self, existing: int) -> AsyncIterator[list[Msg]]:
        first = await self._existing() if existing else []
        if first is None:
            return
        yield first
        while (messages := await self._next()) is not None:
            values = [message for message in messages if not _is_status(message)]
            if values:
                yield values

    async def _existing(self) -> list[Msg] | None:
        """Everything up to the message that says that none is pending, or up to a heartbeat (the rest was replaced)."""
        collected: list[Msg] = []
        while (messages := await self._next()) is not None:
            for message in messages:
                if _is_status(message):
                    return collected
                collected.append(message)
            if collected[-1].metadata.num_pending == 0:
                return collected
        return None

    async def _next(self) -> list[Msg] | None:
        """What is there, at least one message; None when the connection was lost or the consumer fell silent."""
        messages = [await self._queue.get()]
        while not self._queue.empty():
            messages.append(self._queue.get_nowait())
        known = [message for message in messages if message is not None]
        return known if len(known) == len(messages) else None


def _is_status(message: Msg) -> bool:
    return message.headers is not None and STATUS in message.headers and not message.data
