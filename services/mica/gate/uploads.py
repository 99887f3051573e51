"""A client's request body on its way to the upstream.

Invariant: it is read once, is never larger in memory than aiohttp's buffers (or ``WHOLE_BYTES``), and time spent waiting for the
client is not the server's.
"""

from collections.abc import AsyncIterator
from typing import Final

from aiohttp import ClientConnectionError, web

from mica.bus import Clock
from mica.gate.domain.stopwatch import Stopwatch

WHOLE_BYTES: Final = 1 << 16
"""A body that says that it is no longer is read before it is sent: one write instead of two tasks that take turns."""


class Upload:
    """A body that is passed on as it comes. ``excess``: it was longer than ``limit_bytes``; ``broken``: the client's fault."""

    def __init__(self, request: web.BaseRequest, watch: Stopwatch, clock: Clock, limit_bytes: int) -> None:
        self._request = request
        self._watch = watch
        self._clock = clock
        self.limit_bytes = limit_bytes
        self._begun = False
        self.excess = self.broken = False

    @property
    def too_long(self) -> bool:
        """Whether the head already says that it is longer than allowed."""
        length = self._request.content_length
        return bool(self.limit_bytes) and length is not None and length > self.limit_bytes

    async def begin(self) -> "bytes | Upload | None":
        """What aiohttp's client sends: nothing, the whole, or this, piece by piece."""
        request = self._request
        if not request.body_exists:
            return None
        if request.headers.get("Expect", "").lower() == "100-continue" and not request.content.is_eof():
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # the answer itself has not begun
        length = request.content_length
        if length is not None and length <= WHOLE_BYTES:
            return b"".join([piece async for piece in self._pieces()])
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        if self._begun:
            # aiohttp repeats requests of idempotent methods on a connection that was lost; a body that is gone can't be.
            raise ClientConnectionError("the upstream closed the connection while the request was being sent")
        self._begun = True
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        content, size = self._request.content, 0
        while True:
            self._watch.pause(self._clock.monotonic_ns())
            try:
                piece = await content.readany()
            except Exception:
                self.broken = True
                raise
            finally:
                self._watch.resume(self._clock.monotonic_ns())
            if not piece:
                return
            size += len(piece)
            if self.limit_bytes and size > self.limit_bytes:
                self.excess = True
                raise ClientConnectionError(f"the body is longer than {self.limit_bytes} bytes")
            yield piece
