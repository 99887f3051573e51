"""Whether a watch has caught up with the server.

Owns how far the watch has come. Invariant: whoever waited for ``caught_up`` knows of every key what the server had when it asked,
or something newer; where the watch is too slow for that, because all keys were read.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from mica.bus import Clock
from mica.planner.commits import Spawn

ROUNDS: Final = 4
PATIENCE_S: Final = 1.0
"""A watch that is further behind is not waited for: the keys are read. A command in hand is delivered again after 2 s."""


class Progress:
    """How far a watch has come."""

    def __init__(self, last: Callable[[], Awaitable[int]], read_all: Callable[[], Awaitable[None]], clock: Clock) -> None:
        """``last`` asks the server for the latest revision of any watched key; ``read_all`` does without the watch."""
        self._last = last
        self._read_all = read_all
        self._clock = clock
        self._passed: int | None = None
        self._awaited: tuple[int, asyncio.Future[bool]] | None = None
        self._asked: list[asyncio.Future[None]] = []
        self._running = False

    @property
    def begun(self) -> bool:
        """Whether the watch has brought everything once."""
        return self._passed is not None

    def come_to(self, revision: int) -> None:
        """The watch has brought everything up to there."""
        passed = self._passed = max(self._passed or 0, revision)
        if self._awaited is not None and passed >= self._awaited[0] and not self._awaited[1].done():
            self._awaited[1].set_result(True)

    def caught_up(self, spawn: Spawn) -> asyncio.Future[None]:
        """Done when what the server has now is known. Whoever asks while a question is open shares the next one."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.append(future)
        if not self._running:
            self._running = True
            work = self._serve()
            try:
                spawn(work)
            except RuntimeError:  # the service is ending, and who waits with it
                work.close()
                self._running = False
                future.cancel()
        return future

    async def _serve(self) -> None:
        try:
            while self._asked:
                asked, self._asked = self._asked, []
                try:
                    if not await self._catch_up():
                        await self._read_all()
                except Exception as error:  # noqa: BLE001 - whoever asked gets it
                    for each in asked:
                        if not each.done():
                            each.set_exception(error)
                            each.exception()  # nobody may be waiting any more
                for each in asked:
                    if not each.done():
                        each.set_result(None)
        finally:
            self._running = False

    async def _catch_up(self) -> bool:
        """Whether the watch has come as far as the server.

        What was written over between a question and the moment at which the watch got there is brought later, with the newer
        value: so ask again, until the answer is no news. A key would have to be written over in every round to be missed.
        """
        for _ in range(ROUNDS):
            passed = self._passed
            if passed is None:
                return False
            last = await self._last()
            if last <= passed:
                return True
            if not await self._comes_to(last):
                return False
        return True

    async def _comes_to(self, revision: int) -> bool:
        """Wait until the watch has come to there; False when it takes too long."""
        comes: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._awaited = (revision, comes)
        patience = asyncio.ensure_future(self._clock.sleep(PATIENCE_S))

        def too_long(_: object) -> None:
            if not comes.done():
                comes.set_result(False)

        patience.add_done_callback(too_long)
        try:
            self.come_to(0)  # it may have come there since the question was sent
            return await comes
        finally:
            self._awaited = None
            patience.cancel()
