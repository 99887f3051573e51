"""The clients of ``mica bench gate``. Invariant: each way is measured by the same code, and ways take turns."""

import asyncio
import socket
import time
from collections.abc import Mapping
from typing import Final, cast

from msgspec import Struct

BODY: Final = b'{"model":"bench","messages":[{"role":"user","content":"How are you?"}]}'
HEADERS: Final = (
    b"Host: 127.0.0.1\r\nAccept: application/json\r\nContent-Type: application/json\r\nUser-Agent: OpenAI/Python\r\n"
    b"Authorization: Bearer sk-bench\r\nX-Stainless-Lang: python\r\nX-Stainless-Async: false\r\n"
)
WARM_UP: Final = 100
MARK: Final = b'"content":"'


def request(path: str) -> bytes:
    """A chat request as OpenAI's client sends it, in short."""
    return b"POST %s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s" % (path.encode(), HEADERS, len(BODY), BODY)


class Blocking:
    """A connection of one that does nothing else than to wait for its answer."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request("/v1/chat/completions")

    def one(self) -> float:
        """Milliseconds from the first byte sent to the last received."""
        begun = time.perf_counter_ns()
        self._socket.sendall(self._request)
        answer = b""
        while True:
            answer += self._socket.recv(65_536)
            head, found, body = answer.partition(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            if found and len(body) >= int(length):
                assert head.startswith(b"HTTP/1.1 200")
                return (time.perf_counter_ns() - begun) / 1e6

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def in_turn(ports: Mapping[str, int], count: int) -> dict[str, list[float]]:
    """Milliseconds of ``count`` requests by each way, one after the other in turn."""
    clients = {name: Blocking(port) for name, port in ports.items()}
    took: dict[str, list[float]] = {name: [] for name in ports}
    for number in range(count + WARM_UP):
        for name, client in clients.items():
            one_ms = client.one()
            if number >= WARM_UP:
                took[name].append(one_ms)
    for client in clients.values():
        client.close()
    return took


class Streamed(Struct):
    """Tokens as they came.

    Milliseconds from written to read; by how many the time between two differs where they are read; how many were read together
    with the one before.
    """

    delays_ms: list[float]
    gap_errors_ms: list[float]
    together: int = 0


class _Reader(asyncio.Protocol):
    """Reads one stream; ``done`` ends with it."""

    def __init__(self, path: str, streamed: Streamed) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._path = path
        self._streamed = streamed
        self._rest = b""
        self._before: tuple[int, int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        cast("asyncio.Transport", transport).write(request(self._path))

    def data_received(self, data: bytes) -> None:
        """Note when each token came."""
        now = time.monotonic_ns()
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for number, event in enumerate(events):
            _, marked, text = event.partition(MARK)
            if marked:
                self._token(int(text.partition(b'"')[0]), now, together=number > 0)
            elif b"[DONE]" in event and not self.done.done():
                self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """Before the end is an error."""
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the stream broke off"))

    def _token(self, sent_ns: int, now_ns: int, *, together: bool) -> None:
        self._streamed.delays_ms.append((now_ns - sent_ns) / 1e6)
        if self._before is not None:
            self._streamed.gap_errors_ms.append(abs((now_ns - self._before[1]) - (sent_ns - self._before[0])) / 1e6)
        self._before = (sent_ns, now_ns)
        self._streamed.together += together


async def streams(port: int, path: str, count: int, streamed: Streamed) -> None:
    """``count`` streams at once."""
    loop = asyncio.get_running_loop()
    opened = [await loop.create_connection(lambda: _Reader(path, streamed), "127.0.0.1", port) for _ in range(count)]
    await asyncio.gather(*(reader.done for _, reader in opened))
    for transport, _ in opened:
        transport.close()


class _Caller(asyncio.Protocol):
    """Asks again as soon as it has its answer, until ``until_ns``."""

    def __init__(self, until_ns: int) -> None:
        self.answered = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._until_ns = until_ns
        self._request = request("/v1/chat/completions")
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Ask again."""
        assert self._transport is not None
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]):
            return
        self._buffer = b""
        self.answered += 1
        if time.monotonic_ns() < self._until_ns:
            self._transport.write(self._request)
        elif not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """Before the end is an error."""
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the connection broke off"))


async def per_second(port: int, connections: int, seconds: float) -> float:
    """Requests answered a second, with so many connections that always have one under way."""
    loop = asyncio.get_running_loop()
    begun = time.monotonic_ns()
    until_ns = begun + round(seconds * 1e9)
    opened = [await loop.create_connection(lambda: _Caller(until_ns), "127.0.0.1", port) for _ in range(connections)]
    await asyncio.gather(*(caller.done for _, caller in opened))
    for transport, _ in opened:
        transport.close()
    return sum(caller.answered for _, caller in opened) * 1e9 / (time.monotonic_ns() - begun)
