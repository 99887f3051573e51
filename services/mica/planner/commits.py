"""Group commit: many edits of one document, one compare-and-set.

Owns the cached value and revision of documents that every replica of the planner writes. Invariants: an edit that was answered
APPLIED is durable; an edit that named an epoch is applied only if nobody else has written the document since that epoch, so that
what its author knew when it looked at the record still holds.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from enum import Enum, auto
from typing import Any, Final, Generic, TypeVar

from msgspec import Struct, field

from mica.bus import Bucket, StaleRevisionError, Write
from mica.events import Document, EventError, decode_document
from mica.planner.domain.misfits import Refusal

log = logging.getLogger(__name__)

D = TypeVar("D", bound=Document)
Spawn = Callable[[Coroutine[Any, Any, None]], object]


class Outcome(Enum):
    """What became of an edit."""

    APPLIED = auto()
    OVERTAKEN = auto()


Edit = Callable[[D], D | Refusal]
"""A pure change; the same object when there is nothing to do, a refusal when it can not be done."""


class Epochs:
    """A clock that moves whenever somebody else is found to have written one of the documents that share it.

    So one number tells the epochs of all of them: a document whose own is not above it has not been overtaken since.
    """

    def __init__(self) -> None:
        self.now = 0

    def next(self) -> int:
        """Another epoch begins, for one document."""
        self.now += 1
        return self.now


NEVER: Final = -1
"""An epoch that every document has left behind."""


Submitted = tuple[Edit[D], int | None, asyncio.Future[Outcome | Refusal]]
"""An edit, the epoch that it names, and whoever waits for its outcome."""


Refused = tuple[asyncio.Future[Outcome | Refusal], Refusal]
"""Whoever waits for an edit, and why it can not be done."""


class Key(Struct, Generic[D], frozen=True):
    """Where a document lives, what it is before anybody wrote it, and who wants to know what it says."""

    bucket: Bucket
    name: str
    empty: D
    sealed: Callable[[D], D]
    """The document as it is to be written, for example with its generation one higher."""
    seen: Callable[[D], None]
    epochs: Epochs = field(default_factory=Epochs)


class Begun(Struct, Generic[D], frozen=True):
    """A document while it is written beside others: what it is to be, and the write that makes it so."""

    value: D
    write: Write


class GroupCommit(Generic[D]):
    """One document."""

    def __init__(self, key: Key[D], spawn: Spawn, *, known: bool = False) -> None:
        """``known``: whoever makes it knows that nobody has written the document yet."""
        self._key = key
        self._spawn = spawn
        self._edits: list[Submitted[D]] = []
        self._readers: list[asyncio.Future[None]] = []
        self._running = False
        self._writing = False
        self._revision = 0
        self._latest = 0
        """The highest revision that was read, written or heard of; that of a deletion counts, where ``_revision`` is 0."""
        self._heard: tuple[bytes | None, int] | None = None
        self._known = known
        self.value = key.empty
        self.epoch = key.epochs.next()
        """When somebody else was last found to have written the document, or it was met first."""

    @property
    def known(self) -> bool:
        """Whether it was read or heard of, and no write of ours ended in doubt since."""
        return self._known

    def submit(self, edit: Edit[D], epoch: int | None = None) -> asyncio.Future[Outcome | Refusal]:
        """Apply ``edit`` with the next write. With an epoch: only if nobody else was found to have written since then."""
        future: asyncio.Future[Outcome | Refusal] = asyncio.get_running_loop().create_future()
        self._edits.append((edit, epoch, future))
        self._wake()
        return future

    def begin(self, edit: Edit[D], epoch: int | None = None) -> "Begun[D] | None":
        """Take the document for a write beside those of other documents (``Bucket.chain``); whoever begins must ``end`` it.

        None when it is busy or not known, when the epoch has passed, and when the edit changes nothing or is refused:
        then ``submit`` finds out what is to be done.
        """
        if self._running or not self._known or self._is_overtaken(epoch):
            return None
        draft = edit(self.value)
        if isinstance(draft, Refusal) or draft is self.value:
            return None
        sealed = self._key.sealed(draft)
        self._running = self._writing = True
        self._key.seen(sealed)
        return Begun(sealed, Write(self._key.name, sealed, self._revision))

    def end(self, begun: "Begun[D]", revision: int | None) -> None:
        """Note at which revision it was written. None, it was not or nobody knows: it is read before the next edit."""
        self._writing = False
        if revision is not None:
            self._wrote(begun.value, revision)
        else:
            self._doubt()
        self._release()

    def abandon(self) -> None:
        """Give back what was begun and is not going to be written."""
        self._writing = False
        self._key.seen(self.value)
        self._hear_again()
        self._release()

    def _release(self) -> None:
        self._running = False
        if self._edits or self._readers:
            self._wake()

    def hear(self, data: bytes | None, revision: int) -> None:
        """Take over what a watch has brought; None, the document was deleted.

        What is known already, and so every write of our own, is no news. News of somebody else's begin an epoch. What comes while
        a write is under way waits for its end: it may be that very write, or make it fail.
        """
        if revision <= self._latest:
            return
        if self._writing:
            if self._heard is None or revision > self._heard[1]:
                self._heard = (data, revision)
            return
        self._latest = revision
        try:
            value = self._key.empty if data is None else decode_document(data, type(self._key.empty))
        except EventError as error:
            log.warning("%s can not be read: %s", self._key.name, error)
            self._known = False
            return
        self.value, self._revision = value, 0 if data is None else revision
        self.epoch = self._key.epochs.next()
        self._known = True
        self._key.seen(value)

    def _hear_again(self) -> None:
        heard, self._heard = self._heard, None
        if heard is not None:
            self.hear(*heard)

    def refresh(self) -> asyncio.Future[None]:
        """Read the document from the server, later than now."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._readers.append(future)
        self._wake()
        return future

    def _wake(self) -> None:
        if self._running:
            return
        self._running = True
        drain = self._drain()
        try:
            self._spawn(drain)
        except RuntimeError:  # the service is ending: whoever waits for an outcome ends with it
            drain.close()
            self._running = False
            for reader in self._readers:
                reader.cancel()
            for _, _, future in self._edits:
                future.cancel()
            self._readers, self._edits = [], []

    async def _drain(self) -> None:
        try:
            while self._edits or self._readers:
                readers, self._readers = self._readers, []
                edits, self._edits = self._edits, []
                try:
                    fresh = bool(readers) or not self._known
                    if fresh:
                        await self._read()
                    for reader in readers:
                        _resolve(reader, None)
                    await self._commit(edits, fresh=fresh)
                except Exception as error:  # noqa: BLE001 - whoever waits for the outcome gets it
                    for reader in readers:
                        _fail(reader, error)
                    for _, _, future in edits:
                        _fail(future, error)
        finally:
            self._running = False

    async def _read(self, *, refused: bool = False) -> None:
        """Take over what the server has.

        What is older than what is known comes from a server that lags, and is left; but not once a write on what is known was
        ``refused``: then it is tried again on what was read, without relying on that.
        """
        latest = self._latest
        entry = await self._key.bucket.get(self._key.name, type(self._key.empty))
        value, revision = (self._key.empty, 0) if entry is None else (entry.value, entry.revision)
        if self._latest > latest and revision < self._latest:
            return  # the watch was faster
        back = entry is not None and revision < latest
        if back and not refused:
            return
        if revision != self._revision:
            self.epoch = self._key.epochs.next()
            self._revision = revision
            self.value = value
        self._latest = revision or latest
        self._known = not back
        self._key.seen(self.value)

    async def _commit(self, edits: list[Submitted[D]], *, fresh: bool) -> None:
        """Write what they make of it; ``fresh``: it was read after they were submitted.

        That an edit is refused, or has nothing to do, is said of no other.
        """
        while edits:
            draft, applied, refused = self._draft(edits)
            if not fresh and (refused or (applied and draft is self.value)):
                await self._read()
                fresh = True
                continue
            for future, refusal in refused:
                _resolve(future, refusal)
            if draft is self.value:
                break
            sealed = self._key.sealed(draft)
            self._key.seen(sealed)
            try:
                revision = await self._write(sealed)
            except StaleRevisionError:
                self._doubt()
                await self._read(refused=True)
                edits, fresh = applied, True
            except BaseException:
                self._doubt()
                raise
            else:
                self._wrote(sealed, revision)
                break
        else:
            return
        for _, _, future in applied:
            _resolve(future, Outcome.APPLIED)

    async def _write(self, sealed: D) -> int:
        bucket, name = self._key.bucket, self._key.name
        self._writing = True
        try:
            if self._revision == 0:
                return await bucket.create(name, sealed)
            return await bucket.update(name, sealed, self._revision)
        finally:
            self._writing = False

    def _wrote(self, value: D, revision: int) -> None:
        self.value, self._revision, self._latest, self._known = value, revision, revision, True
        self._hear_again()

    def _doubt(self) -> None:
        """A write was refused, or nobody knows what became of it."""
        self._known = False
        self._key.seen(self.value)
        self._hear_again()

    def _is_overtaken(self, epoch: int | None) -> bool:
        return epoch is not None and self.epoch > epoch

    def _draft(self, edits: list[Submitted[D]]) -> tuple[D, list[Submitted[D]], list[Refused]]:
        """The value after all edits that can be applied, those edits, and the ones that are refused."""
        draft, applied, refused = self.value, [], []
        for edit, epoch, future in edits:
            if self._is_overtaken(epoch):
                _resolve(future, Outcome.OVERTAKEN)
                continue
            result = edit(draft)
            if isinstance(result, Refusal):
                refused.append((future, result))
                continue
            draft = result
            applied.append((edit, epoch, future))
        return draft, applied, refused


R = TypeVar("R")


def _resolve(future: asyncio.Future[R], result: R) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[R], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # nobody may be waiting any more
