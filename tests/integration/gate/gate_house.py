"""A gate in this process, between an upstream and a client that are written by hand: a test says what each sends, and when.

Nothing here waits for a length of time: each side waits for the other's bytes. The gate's clock is one that the test moves.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

from mica.bus import ManualClock
from mica.events import Fact
from mica.gate.handlers import Gate
from mica.gate.plan import plan_of
from mica.gate.reporting import Reporter
from mica.gate.server import serving, upstreams_of
from mica.observability import PassingTracer

PATIENCE_S = 25
"""How long a test waits for what must happen before it fails."""


async def head_of(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    """The first line and the headers by lower-case name; repeated ones are joined by ``|``."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip("\r\n").split("\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        key = name.lower()
        headers[key] = f"{headers[key]}|{value.strip()}" if key in headers else value.strip()
    return first, headers


async def chunk_of(reader: asyncio.StreamReader) -> bytes:
    """The next chunk of a chunked body; empty: it has ended as it should."""
    size = int(await reader.readline(), 16)
    return (await reader.readexactly(size + 2))[:-2]


async def body_of(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    """A whole body, by its length or in chunks."""
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    pieces = []
    while headers.get("transfer-encoding") == "chunked" and (piece := await chunk_of(reader)):
        pieces.append(piece)
    return b"".join(pieces)


@dataclass
class Asked:
    """A request that an upstream got; the test answers it. ``connection`` counts them."""

    first: str
    headers: dict[str, str]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    connection: int
    done: asyncio.Event = field(default_factory=asyncio.Event)

    async def body(self) -> bytes:
        """Its body, which is read once."""
        self.headers, headers = {}, self.headers
        read = await body_of(self.reader, headers)
        self.headers = {name: value for name, value in headers.items() if name not in ("content-length", "transfer-encoding")}
        return read

    async def send(self, data: bytes | str) -> None:
        """Write these bytes."""
        self.writer.write(data if isinstance(data, bytes) else data.encode())
        await self.writer.drain()

    async def answer(self, status: str = "200 OK", body: str = "fine", *, headers: str = "") -> None:
        """A whole answer, when the request is here; the connection waits for the next one."""
        await self.body()
        await self.send(f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n{body}")
        self.done.set()

    async def begin(self, *, headers: str = "Content-Type: text/event-stream\r\n") -> None:
        """The head of an answer in chunks."""
        await self.send(f"HTTP/1.1 200 OK\r\n{headers}Transfer-Encoding: chunked\r\n\r\n")

    async def chunk(self, data: bytes | str) -> None:
        """One chunk; an empty one ends the answer."""
        raw = data if isinstance(data, bytes) else data.encode()
        await self.send(b"%x\r\n%s\r\n" % (len(raw), raw))
        if not raw:
            self.done.set()

    async def gone(self) -> bool:
        """Wait until the gate lets go of the connection."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        """Close the connection as a crash would."""
        self.writer.transport.abort()


async def closed(writer: asyncio.StreamWriter) -> None:
    """Close a connection, whatever state it is in."""
    writer.transport.abort()
    with suppress(ConnectionError):
        await writer.wait_closed()


class UpstreamByHand:
    """Listens, and hands each request to the test."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[Asked] = asyncio.Queue()
        self.connections = 0
        self.url = ""
        self.tasks: set[asyncio.Task[None]] = set()

    async def asked(self) -> Asked:
        """The next request."""
        return await self.requests.get()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            while True:
                first, headers = await head_of(reader)
                asked = Asked(first, headers, reader, writer, number)
                self.requests.put_nowait(asked)
                await asked.done.wait()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.tasks.discard(task)
            await closed(writer)


@asynccontextmanager
async def upstream_by_hand() -> AsyncIterator[UpstreamByHand]:
    """An upstream on a free port."""
    upstream = UpstreamByHand()
    server = await asyncio.start_server(upstream._serve, "127.0.0.1", 0)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield upstream
    finally:
        server.close()
        for task in tuple(upstream.tasks):
            task.cancel()
        while upstream.tasks:
            await asyncio.wait(tuple(upstream.tasks))


class Client:
    """One connection to the gate."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes | str) -> None:
        """Write these bytes."""
        self.writer.write(data if isinstance(data, bytes) else data.encode())
        await self.writer.drain()

    async def ask(self, path: str = "/v1/chat/completions", *, method: str = "POST", body: str = "{}", headers: str = "") -> None:
        """Send a whole request."""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        await self.send(f"{method} {path} HTTP/1.1\r\nHost: api.example\r\n{headers}{length}\r\n{body}")

    async def head(self) -> tuple[str, dict[str, str]]:
        """The status line's rest and the headers of the answer."""
        first, headers = await head_of(self.reader)
        return first.partition(" ")[2], headers

    async def answer(self) -> tuple[str, str]:
        """The status line's rest and the body of the answer."""
        status, headers = await self.head()
        return status, (await body_of(self.reader, headers)).decode()

    async def chunk(self) -> bytes:
        """The next chunk."""
        return await chunk_of(self.reader)

    def leave(self) -> None:
        """Close the connection."""
        self.writer.close()


@dataclass
class House:
    """A running gate and all that is around it."""

    upstream: UpstreamByHand
    gate: Gate
    reporter: Reporter
    clock: ManualClock
    told: list[Fact]
    address: str
    stats: Callable[[], Awaitable[dict[str, Any]]]
    clients: list[Client] = field(default_factory=list)

    async def client(self) -> Client:
        """A new connection to the gate."""
        host, port = self.address.removeprefix("http://").split(":")
        client = Client(*await asyncio.open_connection(host, int(port)))
        self.clients.append(client)
        return client

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for what the gate does by itself."""
        while not holds():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def house(*, before: tuple[str, ...] = (), instead: tuple[str, ...] = (), **options: Any) -> AsyncIterator[House]:
    """A gate for slice s1, without a bus; other upstreams stand ``before`` the one by hand, or ``instead`` of it."""
    clock, told = ManualClock(), list[Fact]()
    async with asyncio.timeout(PATIENCE_S), upstream_by_hand() as upstream:
        given = {"slice": "s1", "upstreams": [*before, *(instead or (upstream.url,))], "listen": "127.0.0.1:0", "grace_s": 0.0}
        plan = plan_of(given | options)
        gate, reporter, choice = Gate(plan, clock, PassingTracer(), told.append), Reporter(clock), upstreams_of(plan)
        async with serving(plan, gate, reporter, choice) as address:

            async def stats() -> dict[str, Any]:
                client = await made.client()
                await client.ask("/mica/stats", method="GET", body="")
                _, body = await client.answer()
                client.leave()
                return msgspec.json.decode(body)  # type: ignore[no-any-return]

            made = House(upstream, gate, reporter, clock, told, address, stats)
            try:
                yield made
            finally:
                for client in made.clients:
                    await closed(client.writer)


def token(text: str) -> str:
    """One token of a chat, as a server-sent event."""
    return f'data: {{"choices":[{{"delta":{{"content":"{text}"}}}}]}}\n\n'
