"""Tells whoever watches that the connection was lost and is back. Invariant: a reconnect reaches every living watcher."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Reconnects:
    """The reconnects of one connection."""

    def __init__(self) -> None:
        self._watchers: set[asyncio.Event] = set()

    @contextmanager
    def watching(self) -> Iterator[asyncio.Event]:
        """An event that is set when the connection comes back while the block runs."""
        event = asyncio.Event()
        self._watchers.add(event)
        try:
            yield event
        finally:
            self._watchers.discard(event)

    async def happened(self) -> None:
        """The connection is back: what was subscribed on the server by the old one may be gone."""
        for event in self._watchers:
            event.set()
