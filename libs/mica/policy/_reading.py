"""How services read policies that anybody can write with a NATS client.

Invariant: a version that cannot be read changes nothing. What was in force stays in force, across a restart too, and one line
says so.
"""

import logging
from collections.abc import AsyncIterator, Iterable
from typing import Generic, TypeVar

from mica.bus import Bucket, BusError, Change, Entry, Version
from mica.events import EventError, decode_document
from mica.policy._kinds import Policy

T = TypeVar("T", bound=Policy)

log = logging.getLogger(__name__)


async def follow(bucket: Bucket, pattern: str, kind: type[T]) -> AsyncIterator[list[Change[T]]]:
    """As ``Bucket.watch``, without the versions that are no policy of that ``kind``."""
    reader = _Reader(bucket, kind)
    async for changes in bucket.watch(pattern, bytes):
        read = [await reader.read(change) for change in changes]
        yield [change for change in read if change is not None]


async def newest(bucket: Bucket, key: str, kind: type[T]) -> Entry[T] | None:
    """The policy in force: the latest version, or the one before it that can be read.

    Raises:
        BusError: the bus does not answer.
    """
    entry = await bucket.get(key, bytes)
    if entry is None:
        return None
    change = await _Reader(bucket, kind).read(Change(key, entry.value, entry.revision))
    return Entry(key, change.value, change.revision) if change is not None and change.value is not None else None


def readable(versions: Iterable[Version], kind: type[T]) -> Entry[T] | None:
    """What was in force with the last of these, oldest first; None where it was not set."""
    found: Entry[T] | None = None
    for version in versions:
        if version.data is None:
            found = None
            continue
        try:
            found = Entry(version.key, decode_document(version.data, kind), version.revision)
        except EventError:
            continue
    return found


def all_readable(versions: Iterable[Version], kind: type[T]) -> dict[str, Entry[T]]:
    """By key, what was in force with the last of these; keys of which nothing is are not in it."""
    by_key: dict[str, list[Version]] = {}
    for version in versions:
        by_key.setdefault(version.key, []).append(version)
    found = {key: readable(its, kind) for key, its in by_key.items()}
    return {key: entry for key, entry in found.items() if entry is not None}


class _Reader(Generic[T]):
    """Decodes what a watch hears; ``_sound`` is the version in force by key, 0 for none, ``_told`` the last complaint."""

    def __init__(self, bucket: Bucket, kind: type[T]) -> None:
        self._bucket = bucket
        self._kind = kind
        self._sound: dict[str, int] = {}
        self._told: dict[str, int] = {}

    async def read(self, change: Change[bytes]) -> Change[T] | None:
        """The change, or what stands in its place; None when nothing changes."""
        if change.value is None:
            self._sound[change.key] = 0
            return Change(change.key, None, change.revision)
        try:
            value = decode_document(change.value, self._kind)
        except EventError as error:
            return await self._instead(change, error)
        self._sound[change.key] = change.revision
        return Change(change.key, value, change.revision)

    async def _instead(self, change: Change[bytes], error: EventError) -> Change[T] | None:
        """The version that stays in force, where it has not been handed on yet."""
        earlier = None
        if change.key not in self._sound:
            try:
                earlier = await self._earlier(change)
            except BusError as failure:
                # The connection is lost: once it is back the watch starts over, and everything comes again.
                log.warning("policy %s: its versions can not be read: %s", change.key, failure)
                return None
            self._sound[change.key] = earlier.revision if earlier is not None else 0
        if self._told.get(change.key) != change.revision:
            stays = self._sound[change.key]
            what = f"version {stays} stays in force" if stays else "no earlier one is in force, its defaults hold"
            log.warning("policy %s: version %d can not be read (%s); %s", change.key, change.revision, error, what)
        self._told[change.key] = change.revision
        return Change(earlier.key, earlier.value, earlier.revision) if earlier is not None else None

    async def _earlier(self, change: Change[bytes]) -> Entry[T] | None:
        versions = await self._bucket.versions(change.key)
        return readable((version for version in versions if version.revision < change.revision), self._kind)
