"""A KV bucket over JetStream. Invariant: every write carries the revision it stands on, except ``put``."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from mica.bus._connection import Connection
from mica.bus._consumer import place_of
from mica.bus._errors import BusUnavailableError, StaleRevisionError, reason_of
from mica.bus._history import everything
from mica.bus._port import NO_NOTE, Change, Entry, Note, Version, Write, read
from mica.bus._publisher import Publisher
from mica.bus._reconnects import Reconnects
from mica.bus._watch import Watch
from mica.events import Document, encode_document

T = TypeVar("T", bound=Document | bytes)

EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
OPERATION: Final = "KV-Operation"
EXPECTED_ID: Final = "Nats-Expected-Last-Msg-Id"
MESSAGE_ID: Final = "Nats-Msg-Id"
TTL: Final = "Nats-TTL"
REASON: Final = "Nats-Marker-Reason"
NOTE: Final = "Mica-Note"
"""``{"author", "message"}`` as JSON in ASCII: a header takes neither other letters nor line ends everywhere."""
RETRY_S: Final = 0.2


class JetStreamBucket:
    """One bucket: typed documents by key."""

    def __init__(self, name: str, connection: Connection, publisher: Publisher, reconnects: Reconnects) -> None:
        self._stream = f"KV_{name}"
        self._prefix = f"$KV.{name}."
        self._connection = connection
        self._jetstream = connection.jetstream()
        self._publisher = publisher
        self._reconnects = reconnects

    async def get(self, key: str, kind: type[T]) -> Entry[T] | None:
        """The latest value, read from the server, or None."""
        message = await self._last(key)
        if message is None or message.data is None or _is_gone(message.headers):
            return None
        return Entry(key, read(message.data, kind), message.seq or 0)

    async def create(self, key: str, value: Document, *, ttl_s: float = 0) -> int:
        """Write a key that must not exist; a key that was deleted does not."""
        try:
            return await self.update(key, value, 0, ttl_s=ttl_s)
        except StaleRevisionError:
            message = await self._last(key)
            if message is None or not _is_gone(message.headers):
                raise
            return await self.update(key, value, message.seq or 0, ttl_s=ttl_s)

    async def update(self, key: str, value: Document, revision: int, *, ttl_s: float = 0, note: Note = NO_NOTE) -> int:
        """Write a key whose latest revision must be ``revision``."""
        headers = {EXPECTED: str(revision)} | _noted(note)
        if ttl_s > 0:
            headers[TTL] = f"{max(1, round(ttl_s))}s"
        return await self._publisher.publish(self._prefix + key, encode_document(value), headers, expected=revision)

    async def chain(self, writes: Sequence[Write]) -> list[int]:
        """Send all at once; each but the first names the one before it, which must be the stream's latest message."""
        name = self._publisher.new_name()
        sent = []
        for index, each in enumerate(writes):
            headers = {EXPECTED: str(each.revision)}
            if index > 0:
                headers[EXPECTED_ID] = f"{name}-{index - 1}"
            if index < len(writes) - 1:
                headers[MESSAGE_ID] = f"{name}-{index}"
            subject, data = self._prefix + each.key, encode_document(each.value)
            sent.append(await self._publisher.send(subject, data, headers, expected=each.revision))
        return await _first_few(sent)

    async def put(self, key: str, value: Document) -> int:
        """Write a key whatever it holds."""
        return await self._publisher.publish(self._prefix + key, encode_document(value), None)

    async def delete(self, key: str, *, revision: int | None = None, note: Note = NO_NOTE) -> int:
        """Leave a delete marker."""
        headers = {OPERATION: "DEL"} | ({} if revision is None else {EXPECTED: str(revision)}) | _noted(note)
        return await self._publisher.publish(self._prefix + key, b"", headers, expected=-1 if revision is None else revision)

    async def versions(self, pattern: str) -> list[Version]:
        """What matching keys hold and held, oldest first."""
        found = await everything(self._jetstream, self._stream, [self._prefix + pattern])
        return [_version(message.subject[len(self._prefix) :], message) for message in found]

    async def keys(self, pattern: str) -> list[str]:
        """The keys that match ``pattern``."""
        messages = await self._snapshot(pattern)
        return [message.subject[len(self._prefix) :] for message in messages if not _is_gone(message.headers)]

    async def last_revision(self, pattern: str) -> int:
        """The revision of the latest message of any matching key, from the stream's leader."""
        message = await self._last(pattern, direct=False)
        return (message.seq or 0) if message is not None else 0

    async def watch(self, pattern: str, kind: type[T]) -> AsyncIterator[list[Change[T]]]:
        """The latest values, then every change; starts over when the connection or the consumer was lost."""
        while True:
            try:
                async with self._watch(pattern) as batches:
                    async for messages in batches:
                        latest = {message.subject: message for message in messages}
                        yield [self._change(message, kind) for message in latest.values()]
            except (NatsError, TimeoutError):
                await asyncio.sleep(RETRY_S)

    @asynccontextmanager
    async def _watch(self, pattern: str) -> AsyncIterator[AsyncIterator[list[Msg]]]:
        watch = Watch(self._connection, self._stream, self._prefix + pattern)
        with self._reconnects.telling(watch.lost):
            async with watch as batches:
                yield batches

    async def _snapshot(self, pattern: str) -> list[Msg]:
        """The last message of every matching key."""
        try:
            async with self._watch(pattern) as batches:
                return await anext(batches, [])
        except (NatsError, TimeoutError) as error:
            raise BusUnavailableError(f"keys {pattern}: {reason_of(error)}") from error

    def _change(self, message: Msg, kind: type[T]) -> Change[T]:
        key = message.subject[len(self._prefix) :]
        _, revision = place_of(message)
        if _is_gone(message.headers):
            return Change(key, None, revision)
        return Change(key, read(message.data, kind), revision)

    async def _last(self, key: str, *, direct: bool = True) -> RawStreamMsg | None:
        """The last message of a key or pattern; ``direct``, any server of a cluster may answer, as far as it has come."""
        try:
            return await self._jetstream.get_last_msg(self._stream, self._prefix + key, direct=direct)
        except NotFoundError:
            return None
        except NatsError as error:
            raise BusUnavailableError(f"key {key}: {reason_of(error)}") from error


async def _first_few(sent: list[asyncio.Future[int]]) -> list[int]:
    """The revisions up to the first write that found something else than it stands on."""
    answers = await asyncio.gather(*sent, return_exceptions=True)
    revisions: list[int] = []
    for answer in answers:
        if isinstance(answer, StaleRevisionError):
            break
        if isinstance(answer, BaseException):
            raise answer
        revisions.append(answer)
    return revisions


def _noted(note: Note) -> dict[str, str]:
    return {NOTE: json.dumps(msgspec.to_builtins(note))} if note != NO_NOTE else {}


def _version(key: str, message: Msg) -> Version:
    headers = message.headers or {}
    try:
        note = msgspec.json.decode(headers.get(NOTE, "{}"), type=Note)
    except msgspec.DecodeError:
        note = NO_NOTE
    place = message.metadata
    data = None if _is_gone(headers) else message.data
    return Version(key, place.sequence.stream, data, int(place.timestamp.timestamp() * 1e6) * 1000, note)


def _is_gone(headers: Mapping[str, str] | None) -> bool:
    """Whether the message is a delete marker, left by a client or by a key's time to live."""
    return headers is not None and (headers.get(OPERATION) in ("DEL", "PURGE") or REASON in headers)
