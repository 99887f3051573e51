"""Tells whoever watches that the connection was lost and is back. Invariant: a reconnect reaches every living watcher."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager


class Reconnects:
    """The reconnects of one connection."""

    def __init__(self) -> None:
        self._watchers: set[Callable[[], None]] = set()
        self._repair: Callable[[], Awaitable[None]] | None = None

    def repair_with(self, repair: Callable[[], Awaitable[None]]) -> None:
        """Await ``repair`` whenever the connection comes back, after the watchers were told."""
        self._repair = repair

    @contextmanager
    def telling(self, watcher: Callable[[], None]) -> Iterator[None]:
        """Call ``watcher`` whenever the connection comes back while the block runs."""
        self._watchers.add(watcher)
        try:
            yield
        finally:
            self._watchers.discard(watcher)

    async def happened(self) -> None:
        """The connection is back: what was subscribed on the server by the old one may be gone."""
        for watcher in tuple(self._watchers):
            watcher()
        if self._repair is not None:
            await self._repair()
