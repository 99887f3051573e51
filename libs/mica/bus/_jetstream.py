"""The bus over NATS JetStream. Invariant: one connection, and everything on it survives a reconnect."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from urllib.parse import urlsplit

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError, ServiceUnavailableError

from mica.bus._bucket import MESSAGE_ID, JetStreamBucket
from mica.bus._connection import Connection
from mica.bus._consumer import CONTENT_TYPE, TRACEPARENT, Durable, deliveries
from mica.bus._errors import BusError, BusUnavailableError, reason_of
from mica.bus._history import everything
from mica.bus._port import Bucket, Delivery, Heard
from mica.bus._publisher import Publisher
from mica.bus._reconnects import Reconnects
from mica.bus._streams import ensure
from mica.events import (
    CHANNEL_OF,
    POLICY_BUCKET,
    STATE_BUCKET,
    Command,
    EventError,
    Fact,
    content_type,
    decode,
    encode,
    subject_of,
)

CONNECT_S: Final = 2
RECONNECT_S: Final[Any] = 0.2  # nats-py says int and sleeps for it as it is
CLOSE_S: Final = 3.0
DEFAULT_PORT: Final = 4222
PROBE_S: Final = 0.05
REPAIR_ATTEMPTS: Final = 100


class JetStreamBus:
    """A connection to NATS that speaks in events and documents."""

    def __init__(self, client: Connection, jetstream: JetStreamContext, publisher: Publisher, reconnects: Reconnects) -> None:
        self._client = client
        self._jetstream = jetstream
        self._publisher = publisher
        self._state = JetStreamBucket(STATE_BUCKET, client, publisher, reconnects)
        self._policy = JetStreamBucket(POLICY_BUCKET, client, publisher, reconnects)

    @classmethod
    async def connect(cls, url: str, *, name: str = "mica", wait_s: float = CONNECT_S) -> "JetStreamBus":
        """Connect, and make the server hold the streams and buckets.

        Raises:
            BusUnavailableError: nobody answers at ``url`` within ``wait_s``.
            BusError: the server answers, but has no JetStream or refuses a stream.
        """
        reconnects = Reconnects()
        client = await _connect(url, name, wait_s, reconnects)
        jetstream = client.jetstream(timeout=5)
        publisher = Publisher(client)
        try:
            await publisher.start()
            await ensure(jetstream)
        except ServiceUnavailableError:
            await client.close()
            raise BusError(f"server {url}: JetStream is off; start it with -js") from None
        except (APIError, NatsError, TimeoutError) as error:
            await client.close()
            raise BusUnavailableError(f"server {url}: {reason_of(error)}") from error
        reconnects.repair_with(lambda: _repair(jetstream))
        return cls(client, jetstream, publisher, reconnects)

    @property
    def state(self) -> Bucket:
        """The bucket of inventory, slices, ledgers and what is observed."""
        return self._state

    @property
    def policy(self) -> Bucket:
        """The bucket of pool and tenant policies."""
        return self._policy

    async def publish(self, event: Command | Fact, *, traceparent: str = "", message_id: str = "") -> int:
        """Publish and wait for the stream's acknowledgement; the stream sequence."""
        headers: dict[str, str] = {}
        if CHANNEL_OF[type(event)].packed:
            headers[CONTENT_TYPE] = content_type(event)
        if traceparent:
            headers[TRACEPARENT] = traceparent
        if message_id:
            headers[MESSAGE_ID] = message_id
        return await self._publisher.publish(subject_of(event), encode(event), headers or None)

    async def publish_raw(self, subject: str, data: bytes, *, traceparent: str = "") -> int:
        """Publish bytes as they are; the stream sequence."""
        return await self._publisher.publish(subject, data, {TRACEPARENT: traceparent} if traceparent else None)

    def consume(
        self, stream: str, durable: str, *, subjects: Sequence[str] = (), batch: int = 256
    ) -> AsyncIterator[list[Delivery]]:
        """Batches of what is there, at least one message each."""
        return deliveries(self._client, self._jetstream, Durable(stream, durable, subjects), batch)

    @asynccontextmanager
    async def following(self, *subjects: str) -> AsyncIterator[AsyncIterator[Heard]]:
        """Live events on these subjects; the subscription is in force when the block is entered."""
        queue: asyncio.Queue[Msg] = asyncio.Queue()
        subscriptions = [await self._client.listen(subject, queue.put_nowait) for subject in subjects]
        await self._client.flush()
        try:
            yield _heard(queue)
        finally:
            for subscription in subscriptions:
                with suppress(NatsError):
                    await subscription.unsubscribe()

    async def history(self, stream: str, subjects: Sequence[str] = ()) -> list[Heard]:
        """Everything that a stream holds now on these subjects, oldest first."""
        heard = map(_hear, await everything(self._jetstream, stream, subjects))
        return [item for item in heard if item is not None]

    async def close(self) -> None:
        """Flush what was published and disconnect."""
        self._publisher.close()
        with suppress(NatsError, TimeoutError):
            await self._client.flush(timeout=1)
        with suppress(NatsError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._client.close()
        await _end_reconnecting(self._client)


async def _end_reconnecting(client: Client) -> None:
    """See that nothing tries to reconnect a closed client for ever, which would hold up the end of the event loop.

    nats-py cancels its attempt once; a cancellation that meets a refused connection gets lost in ``asyncio.wait_for``.
    """
    while attempts := {task for task in asyncio.all_tasks() if _reconnects(task, client)}:
        for attempt in attempts:
            attempt.cancel()
        await asyncio.wait(attempts, timeout=PROBE_S)


def _reconnects(task: "asyncio.Task[Any]", client: Client) -> bool:
    frame = getattr(task.get_coro(), "cr_frame", None)
    attempting = Client._attempt_reconnect.__code__  # noqa: SLF001 - it keeps only the latest task, not those before it
    return frame is not None and frame.f_code is attempting and frame.f_locals.get("self") is client


async def _repair(jetstream: JetStreamContext) -> None:
    """A server that restarted has lost the streams that it held in memory: make it hold them again."""
    for _ in range(REPAIR_ATTEMPTS):
        try:
            await ensure(jetstream)
        except (APIError, NatsError, TimeoutError, BusError):
            await asyncio.sleep(PROBE_S)
        else:
            return


async def _connect(url: str, name: str, wait_s: float, reconnects: Reconnects) -> Connection:
    """Connect once somebody listens there: nats-py itself would retry a first connection for ever."""
    await _listening(url, wait_s)
    try:
        async with asyncio.timeout(CONNECT_S + wait_s):
            client = Connection()
            await client.connect(
                url, name=name, connect_timeout=CONNECT_S, allow_reconnect=True, max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_S, ping_interval=10, reconnected_cb=reconnects.happened, error_cb=_ignore,
            )  # fmt: skip
            return client
    except (NatsError, OSError, TimeoutError, ValueError) as error:
        raise BusUnavailableError(f"no NATS server answers at {url}: {reason_of(error)}") from None


async def _listening(url: str, wait_s: float) -> None:
    parts = urlsplit(url if "://" in url else f"nats://{url}")
    try:
        host, port = parts.hostname or "127.0.0.1", parts.port or DEFAULT_PORT
    except ValueError as error:
        raise BusError(f"NATS url: got {url}, allowed: nats://host:port ({error})") from None
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError as error:
            if asyncio.get_running_loop().time() >= deadline:
                raise BusUnavailableError(f"no NATS server answers at {url}: {error.strerror or reason_of(error)}") from None
            await asyncio.sleep(PROBE_S)
        else:
            writer.close()
            return


async def _ignore(error: Exception) -> None:
    """Lost connections are retried forever; whoever waits for an answer gets BusUnavailableError."""


async def _heard(queue: asyncio.Queue[Msg]) -> AsyncIterator[Heard]:
    while True:
        heard = _hear(await queue.get())
        if heard is not None:
            yield heard


def _hear(message: Msg) -> Heard | None:
    headers = message.headers or {}
    try:
        event = decode(message.subject, message.data, headers.get(CONTENT_TYPE))
    except EventError:
        return None
    return Heard(message.subject, event, headers.get(TRACEPARENT, ""))
