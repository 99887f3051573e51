"""What stands around the gate in ``mica bench gate``: an upstream that costs next to nothing, and a hop that only copies bytes.

Run as a module it is one of the two. Invariant: every token carries the time at which it was written, on the clock that all
processes of a machine share (CLOCK_MONOTONIC).
"""

import asyncio
import sys
import time
from typing import Final, cast

import uvloop

BODY: Final = (
    b'{"id":"bench","choices":[{"index":0,"message":{"role":"assistant","content":"fine"}}],"usage":{"completion_tokens":1}}'
)
WHOLE: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
STREAM: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST: Final = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
READY: Final = "listening"


def token(sent_ns: int) -> bytes:
    """A chunk with one token of a chat, which says when it was written."""
    event = b'data: {"choices":[{"index":0,"delta":{"content":"%d"}}]}\n\n' % sent_ns
    return b"%x\r\n%s\r\n" % (len(event), event)


class Upstream(asyncio.Protocol):
    """Answers at once, or with the tokens and the pause that the path asks for: ``/stream/COUNT/GAP_US``."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._streaming: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """It is gone."""
        if self._streaming is not None:
            self._streaming.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer every whole request."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            _, found, rest = head.partition(b"content-length:")
            size = end + 4 + (int(rest.partition(b"\r\n")[0]) if found else 0)
            if len(self._buffer) < size:
                return
            self._buffer = self._buffer[size:]
            self._answer(head.split(b" ", 2)[1].decode())

    def _answer(self, path: str) -> None:
        assert self._transport is not None
        if path.startswith("/stream/"):
            count, gap_us = map(int, path.split("/")[2:4])
            self._streaming = asyncio.get_running_loop().create_task(self._stream(self._transport, count, gap_us / 1e6))
        else:
            self._transport.write(WHOLE)

    async def _stream(self, transport: asyncio.Transport, count: int, gap_s: float) -> None:
        transport.write(STREAM)
        for _ in range(count):
            await asyncio.sleep(gap_s)
            transport.write(token(time.monotonic_ns()))
        transport.write(LAST)


class Hop(asyncio.Protocol):
    """One side of a connection that is copied to another."""

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._waiting = b""
        self._connecting: asyncio.Task[None] | None = None
        self.transport: asyncio.Transport | None = None
        self.other: Hop | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A side is there; the client's asks for the other one."""
        self.transport = cast("asyncio.Transport", transport)
        if self._port:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def data_received(self, data: bytes) -> None:
        """Copy."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)
        else:
            self._waiting += data

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Neither side is left alone."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    async def _connect(self) -> None:
        _, other = await asyncio.get_running_loop().create_connection(Hop, "127.0.0.1", self._port)
        self.other, other.other = other, self
        if other.transport is not None and self._waiting:
            other.transport.write(self._waiting)
            self._waiting = b""


async def serve(role: str, port: int) -> None:
    """Listen on any free port, which is told on stdout."""
    factory = Upstream if role == "upstream" else lambda: Hop(port)
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    print(READY, server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0))
