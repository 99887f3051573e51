"""The shipped fake: a bus in memory with the guarantees of the real one, for unit and property tests.

Invariant: compare-and-set, at-least-once delivery and message-id deduplication behave as on JetStream; nothing depends on
time. ``deliver_again`` and ``fail_next`` let a test repeat a delivery or lose a write before or after it took effect.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Literal, TypeVar

from msgspec import Struct

from mica.bus._errors import BusError, BusUnavailableError, StaleRevisionError
from mica.bus._port import NO_NOTE, Change, Delivery, Entry, Heard, Note, Version, Write, read
from mica.events import (
    POLICY_BUCKET,
    POLICY_VERSIONS,
    STATE_BUCKET,
    STREAMS,
    Command,
    Document,
    EventError,
    Fact,
    content_type,
    decode,
    encode,
    encode_document,
    subject_of,
)

T = TypeVar("T", bound=Document | bytes)
Failure = Literal["before", "after"]
FIRST_AT = 1_700_000_000_000_000_000
"""When the first version was written, in Unix nanoseconds; each takes a second."""


class StoredMessage(Struct, frozen=True):
    """One message as a stream holds it."""

    sequence: int
    subject: str
    data: bytes
    content_type: str | None = None
    traceparent: str = ""


def matches(pattern: str, subject: str) -> bool:
    """Whether a NATS pattern (``*`` one token, ``>`` the rest) matches ``subject``."""
    wanted, given = pattern.split("."), subject.split(".")
    for index, part in enumerate(wanted):
        if part == ">":
            return len(given) > index
        if index >= len(given) or part not in ("*", given[index]):
            return False
    return len(wanted) == len(given)


class _Faults:
    """The failures that a test has asked for, in order of the writes to come."""

    def __init__(self) -> None:
        self.planned: list[tuple[str, Failure]] = []

    def take(self, what: str) -> Failure | None:
        for index, (pattern, failure) in enumerate(self.planned):
            if matches(pattern, what):
                del self.planned[index]
                return failure
        return None


class MemoryBucket:
    """A key-value bucket in memory that keeps ``kept`` versions of a key."""

    def __init__(self, faults: _Faults, kept: int = 1) -> None:
        self._faults = faults
        self._kept = kept
        self._values: dict[str, tuple[bytes | None, int]] = {}
        """In the order of the revisions."""
        self._versions: dict[str, list[Version]] = {}
        self._revision = 0
        self._watchers: list[tuple[str, asyncio.Queue[str]]] = []

    async def get(self, key: str, kind: type[T]) -> Entry[T] | None:
        """The latest value, or None."""
        data, revision = self._values.get(key, (None, 0))
        return None if data is None else Entry(key, read(data, kind), revision)

    async def create(self, key: str, value: Document, *, ttl_s: float = 0) -> int:
        """Write a key that must not exist."""
        data, revision = self._values.get(key, (None, 0))
        if data is not None:
            raise StaleRevisionError(key, 0)
        return await self.update(key, value, revision, ttl_s=ttl_s)

    async def update(
        self,
        key: str,
        value: Document,
        revision: int,
        *,
        ttl_s: float = 0,  # noqa: ARG002 - no time passes here
        note: Note = NO_NOTE,
    ) -> int:
        """Write a key whose latest revision must be ``revision``."""
        self._expect(key, revision)
        return self._write(key, encode_document(value), note)

    async def chain(self, writes: Sequence[Write]) -> list[int]:
        """Write these in order, up to the first that stands on an old revision."""
        revisions: list[int] = []
        with suppress(StaleRevisionError):
            for each in writes:
                revisions += [await self.update(each.key, each.value, each.revision)]
        return revisions

    async def put(self, key: str, value: Document) -> int:
        """Write a key whatever it holds."""
        return self._write(key, encode_document(value))

    def take_raw(self, key: str, data: bytes) -> int:
        """Hold bytes that somebody published."""
        return self._write(key, data)

    async def delete(self, key: str, *, revision: int | None = None, note: Note = NO_NOTE) -> int:
        """Delete a key."""
        if revision is not None:
            self._expect(key, revision)
        return self._write(key, None, note) if key in self._values else 0

    async def versions(self, pattern: str) -> list[Version]:
        """What matching keys hold and held, oldest first."""
        found = (version for key, kept in self._versions.items() if matches(pattern, key) for version in kept)
        return sorted(found, key=lambda version: version.revision)

    async def keys(self, pattern: str) -> list[str]:
        """The keys that match ``pattern``."""
        return [key for key, (data, _) in self._values.items() if data is not None and matches(pattern, key)]

    async def last_revision(self, pattern: str) -> int:
        """The revision of the latest write or deletion of any matching key."""
        return next((revision for key, (_, revision) in reversed(self._values.items()) if matches(pattern, key)), 0)

    async def watch(self, pattern: str, kind: type[T]) -> AsyncIterator[list[Change[T]]]:
        """The latest values, then every change; changes under load are coalesced to the latest."""
        queue: asyncio.Queue[str] = asyncio.Queue()
        registration = (pattern, queue)
        self._watchers.append(registration)
        try:
            yield [self._change(key, kind) for key in self._values if matches(pattern, key)]
            while True:
                keys = {await queue.get(): None}
                while not queue.empty():
                    keys[queue.get_nowait()] = None
                yield sorted((self._change(key, kind) for key in keys), key=lambda change: change.revision)
        finally:
            self._watchers.remove(registration)

    def _change(self, key: str, kind: type[T]) -> Change[T]:
        data, revision = self._values[key]
        return Change(key, None if data is None else read(data, kind), revision)

    def _expect(self, key: str, revision: int) -> None:
        if self._values.get(key, (None, 0))[1] != revision:
            raise StaleRevisionError(key, revision)

    def _write(self, key: str, data: bytes | None, note: Note = NO_NOTE) -> int:
        failure = self._faults.take(key)
        if failure == "before":
            raise BusUnavailableError(f"key {key}: lost before it was written")
        self._revision += 1
        self._values.pop(key, None)
        self._values[key] = (data, self._revision)
        version = Version(key, self._revision, data, FIRST_AT + self._revision * 10**9, note)
        self._versions[key] = [*self._versions.get(key, []), version][-self._kept :]
        for pattern, queue in self._watchers:
            if matches(pattern, key):
                queue.put_nowait(key)
        if failure == "after":
            raise BusUnavailableError(f"key {key}: written, but the answer was lost")
        return self._revision


class MemoryDelivery:
    """One message of a durable consumer in memory."""

    def __init__(self, consumer: "_Consumer", message: StoredMessage, deliveries: int) -> None:
        self._consumer = consumer
        self.message = message
        self.subject = message.subject
        self.data = message.data
        self.sequence = message.sequence
        self.content_type = message.content_type
        self.traceparent = message.traceparent
        self.deliveries = deliveries

    async def ack(self) -> None:
        """Done."""
        self._consumer.settled(self.message)

    async def retry(self, delay_s: float = 0) -> None:  # noqa: ARG002 - no time passes here
        """Deliver it again."""
        self._consumer.offer(self.message)

    async def in_progress(self) -> None:
        """Nothing expires here."""

    async def terminate(self) -> None:
        """Never deliver it again."""
        self._consumer.settled(self.message)


class _Consumer:
    def __init__(self, patterns: Sequence[str]) -> None:
        self.patterns = patterns
        self.queue: asyncio.Queue[StoredMessage] = asyncio.Queue()
        self.counts: dict[int, int] = {}
        self.open: dict[int, StoredMessage] = {}

    def wants(self, subject: str) -> bool:
        return not self.patterns or any(matches(pattern, subject) for pattern in self.patterns)

    def offer(self, message: StoredMessage) -> None:
        self.open[message.sequence] = message
        self.queue.put_nowait(message)

    def settled(self, message: StoredMessage) -> None:
        self.open.pop(message.sequence, None)

    def take(self, message: StoredMessage) -> MemoryDelivery:
        self.counts[message.sequence] = self.counts.get(message.sequence, 0) + 1
        return MemoryDelivery(self, message, self.counts[message.sequence])


class MemoryBus:
    """A bus without a server."""

    def __init__(self) -> None:
        self._faults = _Faults()
        self.state = MemoryBucket(self._faults)
        self.policy = MemoryBucket(self._faults, POLICY_VERSIONS)
        self.streams: dict[str, list[StoredMessage]] = {stream.name: [] for stream in STREAMS}
        self._message_ids: dict[tuple[str, str], int] = {}
        self._consumers: dict[tuple[str, str], _Consumer] = {}
        self._followers: list[tuple[tuple[str, ...], asyncio.Queue[StoredMessage]]] = []

    def fail_next(self, what: str, failure: Failure = "before") -> None:
        """Lose the next write of a key, or publish on a subject, that matches ``what``: before or after its effect."""
        self._faults.planned.append((what, failure))

    def deliver_again(self, stream: str, durable: str) -> int:
        """Deliver every unsettled message of a consumer again, as after an ack wait or a crash; how many there were."""
        consumer = self._consumers[stream, durable]
        while not consumer.queue.empty():
            consumer.queue.get_nowait()
        for message in list(consumer.open.values()):
            consumer.queue.put_nowait(message)
        return len(consumer.open)

    def published(self, *subjects: str) -> list[Command | Fact]:
        """What the streams hold on these subjects, oldest first."""
        stored = (message for messages in self.streams.values() for message in messages)
        return [heard.event for heard in _hear_all(stored, subjects)]

    async def publish(self, event: Command | Fact, *, traceparent: str = "", message_id: str = "") -> int:
        """Publish; the stream sequence, the first one's when the message id was seen before."""
        return self._store(subject_of(event), encode(event), content_type(event), traceparent, message_id)

    async def publish_raw(self, subject: str, data: bytes, *, traceparent: str = "") -> int:
        """Publish bytes as they are; under ``$KV.<bucket>.<key>`` they are what the key holds."""
        for name, bucket in ((STATE_BUCKET, self.state), (POLICY_BUCKET, self.policy)):
            if subject.startswith(f"$KV.{name}."):
                return bucket.take_raw(subject.removeprefix(f"$KV.{name}."), data)
        return self._store(subject, data, None, traceparent, "")

    def _store(self, subject: str, data: bytes, content: str | None, traceparent: str, message_id: str) -> int:
        stream = _stream_of(subject)
        failure = self._faults.take(subject)
        if failure == "before":
            raise BusUnavailableError(f"publish on {subject}: lost before it was stored")
        messages = self.streams[stream]
        if message_id and (stream, message_id) in self._message_ids:
            sequence = self._message_ids[stream, message_id]
            self._tell(StoredMessage(sequence, subject, data, content, traceparent))
            return sequence
        message = StoredMessage(len(messages) + 1, subject, data, content, traceparent)
        messages.append(message)
        if message_id:
            self._message_ids[stream, message_id] = message.sequence
        for (of, _), consumer in self._consumers.items():
            if of == stream and consumer.wants(subject):
                consumer.offer(message)
        self._tell(message)
        if failure == "after":
            raise BusUnavailableError(f"publish on {subject}: stored, but the answer was lost")
        return message.sequence

    def _tell(self, message: StoredMessage) -> None:
        """Followers hear repetitions too, as on a real server: only the stream drops them."""
        for patterns, queue in self._followers:
            if any(matches(pattern, message.subject) for pattern in patterns):
                queue.put_nowait(message)

    async def consume(
        self, stream: str, durable: str, *, subjects: Sequence[str] = (), batch: int = 256
    ) -> AsyncIterator[list[Delivery]]:
        """Batches of what is there, at least one message each."""
        consumer = self._consumers.get((stream, durable))
        if consumer is None:
            consumer = self._consumers[stream, durable] = _Consumer(subjects)
            for message in self.streams[stream]:
                if consumer.wants(message.subject):
                    consumer.offer(message)
        while True:
            deliveries: list[Delivery] = [consumer.take(await consumer.queue.get())]
            while len(deliveries) < batch and not consumer.queue.empty():
                deliveries.append(consumer.take(consumer.queue.get_nowait()))
            yield deliveries

    @asynccontextmanager
    async def following(self, *subjects: str) -> AsyncIterator[AsyncIterator[Heard]]:
        """Live events on these subjects."""
        queue: asyncio.Queue[StoredMessage] = asyncio.Queue()
        registration = (subjects, queue)
        self._followers.append(registration)
        try:
            yield _follow(queue)
        finally:
            self._followers.remove(registration)

    async def history(self, stream: str, subjects: Sequence[str] = ()) -> list[Heard]:
        """Everything that a stream holds on these subjects."""
        return list(_hear_all(self.streams[stream], subjects))

    async def close(self) -> None:
        """Nothing to let go of."""


def _stream_of(subject: str) -> str:
    for stream in STREAMS:
        if any(matches(pattern, subject) for pattern in stream.subjects):
            return stream.name
    raise BusError(f"no stream takes {subject}")


def _hear(message: StoredMessage) -> Heard | None:
    try:
        event = decode(message.subject, message.data, message.content_type)
    except EventError:
        return None
    return Heard(message.subject, event, message.traceparent)


def _hear_all(messages: Iterable[StoredMessage], subjects: Sequence[str]) -> Iterable[Heard]:
    for message in messages:
        if not subjects or any(matches(pattern, message.subject) for pattern in subjects):
            heard = _hear(message)
            if heard is not None:
                yield heard


async def _follow(queue: asyncio.Queue[StoredMessage]) -> AsyncIterator[Heard]:
    while True:
        heard = _hear(await queue.get())
        if heard is not None:
            yield heard
