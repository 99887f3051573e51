"""One thing at a time per slice. Invariant: whoever asks first goes first, and an id that nobody waits for costs nothing."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Locks by name, made when needed."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def of(self, name: str) -> AsyncIterator[None]:
        """Hold ``name`` for the length of the block."""
        queue = self._waiting.get(name)
        if queue is None:
            self._waiting[name] = deque()
        else:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            queue.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._pass_on(name)
                raise
        try:
            yield
        finally:
            self._pass_on(name)

    def _pass_on(self, name: str) -> None:
        queue = self._waiting[name]
        while queue:
            turn = queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._waiting[name]
