"""Pipelined JetStream publishing: any number of publishes under way on one reply subscription.

Owns the acknowledgements under way. Invariant: every publish ends in exactly one of a sequence, an error, or
``BusUnavailableError`` after ``ACK_TIMEOUT_S``. nats-py's own ``publish`` makes a timer and a task for each message; here one
timer serves all, which is what lets a Python planner keep up with 500 requests a second.
"""

import asyncio
from itertools import count
from typing import Final

import msgspec
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError, MaxPayloadError, OutboundBufferLimitError
from nats.errors import Error as NatsError

from mica.bus._connection import Connection
from mica.bus._errors import BusError, BusUnavailableError, StaleRevisionError, StreamFullError

ACK_TIMEOUT_S: Final = 5.0
NOT_THE_LATEST: Final = frozenset({10070, 10071, 10164})
"""Another message id, or another sequence, is the latest than the one that was expected."""
STREAM_FULL: Final = frozenset({10047, 10077})
NO_RESPONDERS: Final = "503"


class _Failure(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Ack(msgspec.Struct):
    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: _Failure | None = None


_decode_ack = msgspec.json.Decoder(_Ack).decode


class Publisher:
    """Publishes to JetStream and resolves the acknowledgements."""

    def __init__(self, client: Connection) -> None:
        self._client = client
        self._inbox = client.new_inbox()
        self._tokens = count()
        self._pending: dict[str, tuple[float, str, int, asyncio.Future[int]]] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Subscribe to the acknowledgements."""
        await self._client.listen(f"{self._inbox}.*", self._on_ack)

    async def publish(self, subject: str, data: bytes, headers: dict[str, str] | None, *, expected: int = -1) -> int:
        """Publish and wait for the acknowledgement.

        Args:
            expected: the revision that a compare-and-set stands on, for the error only; the header decides.

        Raises:
            StaleRevisionError, StreamFullError, BusUnavailableError, BusError: see the classes.
        """
        return await (await self.send(subject, data, headers, expected=expected))

    async def send(self, subject: str, data: bytes, headers: dict[str, str] | None, *, expected: int = -1) -> asyncio.Future[int]:
        """As ``publish``, but what is returned has still to be awaited: the sequence, or why there is none."""
        loop = asyncio.get_running_loop()
        reply = f"{self._inbox}.{next(self._tokens)}"
        future: asyncio.Future[int] = loop.create_future()
        self._pending[reply] = (loop.time() + ACK_TIMEOUT_S, subject, expected, future)
        if self._sweeper is None:
            self._sweeper = loop.call_later(ACK_TIMEOUT_S, self._sweep)
        try:
            await self._client.publish(subject, data, reply=reply, headers=headers)
        except NatsError as error:
            del self._pending[reply]
            raise self._unsent(f"publish on {subject}", len(data), error) from error
        return future

    def _unsent(self, what: str, size: int, error: NatsError) -> BusError:
        if isinstance(error, MaxPayloadError):
            return BusError(f"{what}: {size} bytes, allowed: at most {self._client.max_payload}")
        if isinstance(error, ConnectionClosedError | OutboundBufferLimitError):
            return BusUnavailableError(f"{what}: {error}")
        return BusError(f"{what}: {error}")

    def new_name(self) -> str:
        """A name that nobody else has given, for message ids."""
        return f"{self._inbox}.{next(self._tokens)}"

    def _on_ack(self, message: Msg) -> None:
        pending = self._pending.pop(message.subject, None)
        if pending is None or pending[3].done():
            return
        _, subject, expected, future = pending
        if message.headers and message.headers.get("Status") == NO_RESPONDERS:
            future.set_exception(BusUnavailableError(f"no stream takes {subject}"))
            return
        try:
            ack = _decode_ack(message.data)
        except msgspec.DecodeError as error:
            future.set_exception(BusError(f"publish on {subject}: an answer that is no acknowledgement: {error}"))
            return
        if ack.error is None:
            future.set_result(ack.seq)
        else:
            future.set_exception(_error_of(ack.error, subject, expected))

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        overdue = [reply for reply, (deadline, *_) in self._pending.items() if deadline <= now]
        for reply in overdue:
            _, subject, _, future = self._pending.pop(reply)
            if not future.done():
                future.set_exception(BusUnavailableError(f"publish on {subject}: no answer in {ACK_TIMEOUT_S:.0f} s"))
        self._sweeper = loop.call_later(1.0, self._sweep) if self._pending else None

    def close(self) -> None:
        """Fail what is still under way."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for _, subject, _, future in self._pending.values():
            if not future.done():
                future.set_exception(BusUnavailableError(f"publish on {subject}: the connection is closed"))
        self._pending.clear()


def _error_of(failure: _Failure, subject: str, expected: int) -> BusError:
    if failure.err_code in NOT_THE_LATEST:
        return StaleRevisionError(subject.split(".", 2)[-1], expected)
    if failure.err_code in STREAM_FULL:
        return StreamFullError(f"{subject}: {failure.description}")
    return BusError(f"{subject}: the server refuses it: {failure.description} ({failure.err_code})")
