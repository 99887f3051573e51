"""What a service may ask of the bus: publish, consume, follow, and compare-and-set state.

Owns the ports. ``JetStreamBus`` is the real thing, ``MemoryBus`` the shipped fake with the same guarantees. Invariant: a
publish or a write that returned is durable; one that raised may or may not be, and can be repeated.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Generic, Protocol, TypeVar

from msgspec import Struct

from mica.events import Command, Document, Fact, UnixNs, decode_document

T = TypeVar("T", bound=Document | bytes)


class Entry(Struct, Generic[T], frozen=True):
    """A state document and the revision at which it was read."""

    key: str
    value: T
    revision: int


class Change(Struct, Generic[T], frozen=True):
    """What a watch saw: a new value, or ``None`` when the key was deleted."""

    key: str
    value: T | None
    revision: int


class Write(Struct, frozen=True):
    """A value for a key whose latest revision must be ``revision`` (0: must not exist)."""

    key: str
    value: Document
    revision: int


class Note(Struct, frozen=True):
    """Who wrote a version, and why, in their own words: nobody has checked either."""

    author: str = ""
    message: str = ""


NO_NOTE: Final = Note()


class Version(Struct, frozen=True):
    """What a key held from ``at`` on, as it was written. ``data`` is None where it was deleted."""

    key: str
    revision: int
    data: bytes | None
    at: UnixNs
    note: Note = NO_NOTE


class Bucket(Protocol):
    """A key-value bucket. Keys are as in the architecture, for example ``slice.s1``.

    A value is read as the document that is asked for, or undecoded as ``bytes``. EventError when it is no such document.
    """

    async def get(self, key: str, kind: type[T]) -> Entry[T] | None:
        """The latest value, read from the server, or None."""

    async def create(self, key: str, value: Document, *, ttl_s: float = 0) -> int:
        """Write a key that must not exist; its revision. StaleRevisionError when it exists."""

    async def update(self, key: str, value: Document, revision: int, *, ttl_s: float = 0, note: Note = NO_NOTE) -> int:
        """Write a key whose latest revision must be ``revision`` (0: must not exist). StaleRevisionError otherwise.

        ``ttl_s`` > 0 makes the key vanish by itself after that time. ``note`` is kept with the version.
        """

    async def chain(self, writes: Sequence[Write]) -> list[int]:
        """Send all of these at once; each is written only if the one before it was.

        Returns:
            The revisions of those that were written: none, the first few, or all.
            A write also fails when somebody else's, of any key, came between it and the one before it;
            what is missing has to be tried again by ``update``.
        """

    async def put(self, key: str, value: Document) -> int:
        """Write a key whatever it holds. Only for keys with one living writer."""

    async def delete(self, key: str, *, revision: int | None = None, note: Note = NO_NOTE) -> int:
        """Delete a key; its revision. A key that does not exist is no error.

        With a ``revision`` that is not the latest: StaleRevisionError.
        """

    async def versions(self, pattern: str) -> list[Version]:
        """What a key, or those that match, holds and held, oldest first: as many as the bucket keeps, deletions among them."""

    async def keys(self, pattern: str) -> list[str]:
        """The keys that match a NATS pattern such as ``slice.*``."""

    async def last_revision(self, pattern: str) -> int:
        """The revision of the latest write or deletion of any key that matches, as the server has it now; 0 if there is none.

        A watch of the same pattern that has brought a revision as high has brought everything that was written
        before this was asked, but for what was written over since: of that it brings the newer value.
        """

    def watch(self, pattern: str, kind: type[T]) -> AsyncIterator[list[Change[T]]]:
        """The latest value of every matching key, then every change, in batches; never ends by itself.

        The first batch holds all that exists, and deletions that are remembered (it may be empty). What follows comes in
        the order of the revisions, of which some may be skipped. After a reconnect everything comes again: reconcile,
        don't count.
        """


def read(data: bytes, kind: type[T]) -> T:
    """A stored value as what was asked for. Raises EventError."""
    return data if kind is bytes else decode_document(data, kind)  # type: ignore[return-value] # T is bytes where kind is


class Delivery(Protocol):
    """One message of a durable consumer. Acknowledge it only after its effect is durable."""

    @property
    def subject(self) -> str: ...
    @property
    def data(self) -> bytes: ...
    @property
    def sequence(self) -> int:
        """Its sequence in the stream: the identity of a command without an id."""

    @property
    def deliveries(self) -> int:
        """1 for the first delivery."""

    @property
    def content_type(self) -> str | None: ...
    @property
    def traceparent(self) -> str: ...
    async def ack(self) -> None: ...
    async def retry(self, delay_s: float = 0) -> None:
        """Give it back, to be delivered again after ``delay_s``."""

    async def in_progress(self) -> None:
        """Ask for as much time again as the consumer's ack wait."""

    async def terminate(self) -> None:
        """It can never work, and was answered: never deliver it again."""


class Heard(Struct, frozen=True):
    """A fact or command as it passed by, for those who follow the bus without a durable consumer."""

    subject: str
    event: Command | Fact
    traceparent: str = ""


class Bus(Protocol):
    """A connection to the bus."""

    @property
    def state(self) -> Bucket:
        """The bucket of inventory, slices, ledgers and what is observed."""

    @property
    def policy(self) -> Bucket:
        """The bucket of pool and tenant policies."""

    async def publish(self, event: Command | Fact, *, traceparent: str = "", message_id: str = "") -> int:
        """Publish and wait for the stream's acknowledgement; the stream sequence.

        Facts that may be repeated get a ``message_id`` so that the stream drops the repetition; identity never rests
        on it. Many publishes may be awaited at once (``asyncio.gather``): they travel pipelined.
        """

    async def publish_raw(self, subject: str, data: bytes, *, traceparent: str = "") -> int:
        """Publish bytes as they are, as any NATS client can; the stream sequence.

        On ``$KV.<bucket>.<key>`` that is to write the key.
        """

    def consume(
        self, stream: str, durable: str, *, subjects: Sequence[str] = (), batch: int = 256
    ) -> AsyncIterator[list[Delivery]]:
        """Batches of what is there, at least one message each, as they come; shared by all consumers called ``durable``.

        Unacknowledged messages come again after 2 s. Messages in flight are bounded by the server (max_ack_pending).
        """

    def following(self, *subjects: str) -> AbstractAsyncContextManager[AsyncIterator[Heard]]:
        """Live events on these subjects (wildcards allowed); the subscription is in force when the block is entered.

        Nothing stored is replayed. Bytes that are no event are skipped.
        """

    async def history(self, stream: str, subjects: Sequence[str] = ()) -> list[Heard]:
        """Everything that a stream holds now on these subjects, oldest first."""

    async def close(self) -> None:
        """Flush what was published and disconnect."""
