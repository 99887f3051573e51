"""The server side of an answer: from the upstream to the client, piece by piece as they come.

Invariant: a piece is written to the client before anything else is done with it, and the next is not read before there
is room for it; an answer that breaks off upstream breaks off at the client, too.
"""

import socket
import struct
from enum import Enum
from typing import Final

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from mica.bus import Clock
from mica.gate.domain.answers import Answer, body_of, headers_of
from mica.gate.domain.headers import to_client
from mica.gate.domain.measuring import Measured
from mica.gate.domain.stopwatch import Stopwatch
from mica.gate.domain.tokens import Timing, timing_of

SERVER: Final = "mica-gate"
BODILESS: Final = frozenset({204, 304})
HTTP_1_1: Final = (1, 1)
NO_LINGER: Final = struct.pack("ii", 1, 0)


class End(Enum):
    """How an answer ended: as a whole, broken off by the upstream, or not wanted any more by the client."""

    WHOLE = "whole"
    BROKEN = "broken"
    UNWANTED = "unwanted"


class Relay:
    """One answer on its way."""

    def __init__(self, request: web.BaseRequest, path: str, watch: Stopwatch, clock: Clock) -> None:
        self._request = request
        self.path = path
        self.watch = watch
        self._clock = clock
        self._timing: Timing | None = None
        self._ended_ns = -1
        self.end = End.WHOLE

    @property
    def measured(self) -> Measured:
        """What is known of the answer by now."""
        ended_ns = self._ended_ns if self._ended_ns >= 0 else self.watch.elapsed_ns(self._clock.monotonic_ns())
        tokens = self._timing.tokens() if self._timing is not None else None
        if tokens is None:
            return Measured(latency_ns=ended_ns)
        return Measured(latency_ns=ended_ns, ttft_ns=tokens.first_ns, tpot_ns=tokens.tpot_ns)

    async def run(self, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        """Pass the answer on. What it is to be followed by is in ``end``."""
        headers = CIMultiDict(to_client(upstream.headers.items()))
        headers.setdefault("Server", SERVER)
        encoding = upstream.headers.get("Content-Encoding", "")
        timing = self._timing = timing_of(self.path, upstream.headers.get("Content-Type", ""), encoding)
        content = upstream.content
        if content.is_eof() and content.exception() is None and self._has_body(upstream):
            return self._at_once(upstream, headers, timing)
        response = web.StreamResponse(status=upstream.status, reason=upstream.reason, headers=headers)
        try:
            await response.prepare(self._request)
            await self._pieces(content, response, timing)
        except ConnectionError:
            self.end = End.UNWANTED
        return response

    def _has_body(self, upstream: aiohttp.ClientResponse) -> bool:
        return self._request.method != "HEAD" and upstream.status not in BODILESS

    def _at_once(self, upstream: aiohttp.ClientResponse, headers: CIMultiDict[str], timing: Timing) -> web.StreamResponse:
        """The whole answer came with its head: one write instead of two."""
        body = upstream.content.read_nowait()
        self._ended_ns = self.watch.elapsed_ns(self._clock.monotonic_ns())
        timing.on_bytes(body, self._ended_ns)
        return web.Response(status=upstream.status, reason=upstream.reason, headers=headers, body=body)

    async def _pieces(self, content: aiohttp.StreamReader, response: web.StreamResponse, timing: Timing) -> None:
        """Until the upstream has said everything.

        Raises:
            ConnectionError: the client is gone.
        """
        watch, now_ns = self.watch, self._clock.monotonic_ns
        while True:
            try:
                piece = await content.readany()
            except (aiohttp.ClientError, TimeoutError):
                self._break_off()
                return
            came_ns = now_ns()
            at_ns = watch.elapsed_ns(came_ns)
            if not piece:
                self._ended_ns = at_ns
                return
            watch.pause(came_ns)
            try:
                await response.write(piece)
            finally:
                watch.resume(now_ns())
            timing.on_bytes(piece, at_ns)

    def _break_off(self) -> None:
        """Leave the client's answer without its end, so that it can't be taken for a whole one."""
        self.end = End.BROKEN
        transport = self._request.transport
        if transport is None:
            return
        if self._request.version >= HTTP_1_1:
            transport.close()
        else:
            # To HTTP/1.0 the end of the connection is the end of the answer; only a reset tells it from a whole one.
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            transport.abort()


def answer(said: Answer, path: str) -> web.Response:
    """What the gate says itself."""
    content_type, body = body_of(said, path)
    headers = headers_of(said) | {"Content-Type": content_type}
    return web.Response(status=said.status, headers=headers, body=body)
