"""The way to the server: nats-py's own, but messages of straight subscriptions never reach nats-py.

nats-py copies what was read into a stream, wakes a task that parses it with regular expressions, and puts each message into a
queue that another task reads: about 0.25 ms for each hop of a process that just woke up. Here they are cut out of the stream and
handled as soon as they are read from the socket; all else goes on to nats-py, which connects, reconnects and pings as before.
Invariants: the messages of a subscription are handled in the order in which they came; none is dropped, none is handled twice.
"""

import asyncio
import ssl
from collections.abc import Callable
from urllib.parse import ParseResult

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.transport import TcpTransport

Handler = Callable[[Msg], None]

CRLF = b"\r\n"
STATUS_FROM, STATUS_TO = len("NATS/1.0 "), len("NATS/1.0 503")


class Wire(TcpTransport):
    """A connection to the server, and who listens on it."""

    def __init__(self, client: Client) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # nats-py does not annotate it
        self._client = client
        self._handlers: dict[bytes, Handler] = {}

    def __bool__(self) -> bool:
        """Whether there is a transport, connected or not: nats-py makes one of its own where there is none."""
        return True

    def listen(self, number: int, handle: Handler) -> None:
        """Hand the messages of that subscription to ``handle``, which must not raise."""
        self._handlers[b"%d" % number] = handle

    def forget(self, number: int) -> None:
        """That subscription ends; what comes of it after all is dropped."""
        self._handlers.pop(b"%d" % number, None)

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        """Connect, as nats-py does."""
        assert uri.hostname is not None
        assert uri.port is not None
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=buffer_size, loop=loop)
        protocol = _Tap(reader, self.take)
        async with asyncio.timeout(connect_timeout):
            transport, _ = await loop.create_connection(lambda: protocol, uri.hostname, uri.port)
        self._bare_io_reader = self._io_reader = reader
        self._bare_io_writer = self._io_writer = asyncio.StreamWriter(transport, protocol, reader, loop)

    async def connect_tls(
        self, uri: str | ParseResult, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: int
    ) -> None:
        """Go on in TLS, as nats-py does."""
        loop = asyncio.get_running_loop()
        assert self._io_writer is not None
        reader = asyncio.StreamReader(limit=buffer_size, loop=loop)
        protocol = _Tap(reader, self.take)
        name = uri if isinstance(uri, str) else uri.hostname
        async with asyncio.timeout(connect_timeout):
            transport = await loop.start_tls(self._io_writer.transport, protocol, ssl_context, server_hostname=name)
        assert transport is not None
        self._io_reader, self._io_writer = reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Handle what is for listeners; returns what is for nats-py, and the beginning of what is still to come."""
        others: list[bytes] = []
        at = 0
        while (end := data.find(CRLF, at)) >= 0:
            line = data[at:end]
            body = end + len(CRLF)
            if not line.startswith((b"MSG ", b"HMSG ")):
                others.append(data[at:body])
                at = body
                continue
            words = line.split()
            after = body + int(words[-1]) + len(CRLF)
            if after > len(data):
                break
            handle = self._handlers.get(words[2])
            if handle is None:
                others.append(data[at:after])
            else:
                handle(self._message(words, data[body : after - len(CRLF)]))
            at = after
        return b"".join(others), data[at:]

    def _message(self, words: list[bytes], body: bytes) -> Msg:
        """``MSG <subject> <sid> [<reply>] <bytes>`` or ``HMSG <subject> <sid> [<reply>] <header bytes> <bytes>``."""
        headers = None
        sizes = 1
        if words[0] == b"HMSG":
            sizes, head = 2, int(words[-2])
            headers, body = _headers(body[:head]), body[head:]
        reply = words[3].decode() if len(words) > 3 + sizes else ""
        return Msg(_client=self._client, subject=words[1].decode(), reply=reply, data=body, headers=headers)


class _Tap(asyncio.StreamReaderProtocol):
    """A stream of which a part is taken out before anybody reads it."""

    def __init__(self, reader: asyncio.StreamReader, take: Callable[[bytes], tuple[bytes, bytes]]) -> None:
        super().__init__(reader)
        self._take = take
        self._begun = b""

    def data_received(self, data: bytes) -> None:
        """Take what is whole; keep what is not."""
        others, self._begun = self._take(self._begun + data)
        if others:
            super().data_received(others)


def _headers(block: bytes) -> dict[str, str]:
    """``NATS/1.0[ <status>[ <description>]]``, then ``<name>: <value>`` in each line."""
    first, *lines = block.decode(errors="surrogateescape").split("\r\n")
    headers = {"Status": first[STATUS_FROM:STATUS_TO]} if len(first) >= STATUS_TO else {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name] = value.strip()
    return headers
