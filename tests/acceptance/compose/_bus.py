"""The bus as a stranger sees it: plain NATS, plain JSON, no code of mica.

Invariant: every fact about a slice that was ever published is in `facts`, in the stream's order, as often as it came.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple, TypeVar

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError, NotFoundError
from tests.acceptance.compose._shell import WaitError

FINAL = ("slice.ready", "slice.rejected", "slice.failed")
POLL_S = 0.05
T = TypeVar("T")


class SliceFact(NamedTuple):
    kind: str
    id: str
    body: dict[str, Any]
    traceparent: str


class Outsider:
    """A client that publishes commands, keeps the facts, and reads the state."""

    def __init__(self, client: Client) -> None:
        self._stream: JetStreamContext = client.jetstream()
        self.facts: list[SliceFact] = []

    async def follow(self) -> None:
        """Collect the facts from the first one on, as soon as their stream exists."""

        async def on_fact(message: Msg) -> None:
            kind, _, ident = message.subject.rpartition(".")
            body = json.loads(message.data)
            self.facts.append(SliceFact(kind, ident, body, (message.headers or {}).get("traceparent", "")))

        async def subscribed() -> bool:
            with suppress(NotFoundError, NatsError):
                await self._stream.subscribe("slice.*.*", cb=on_fact, ordered_consumer=True)
                return True
            return False

        await self.until("the stream of facts", subscribed, 60)

    async def command(self, subject: str, body: dict[str, Any], traceparent: str = "") -> None:
        headers = {"traceparent": traceparent} if traceparent else None
        await self._stream.publish(subject, json.dumps(body).encode(), headers=headers)

    async def state(self, key: str) -> Any:
        """The document under `key`, or None."""
        with suppress(KeyNotFoundError, NotFoundError):
            bucket = await self._stream.key_value("mica")
            return json.loads((await bucket.get(key)).value or b"null")
        return None

    def of(self, ident: str, *kinds: str) -> list[SliceFact]:
        return [fact for fact in self.facts if fact.id == ident and fact.kind in kinds]

    async def fact(self, ident: str, *kinds: str, timeout_s: float = 20) -> SliceFact:
        """The first fact of these kinds about the slice.

        Raises:
            WaitError: none came in time.
        """

        async def found() -> SliceFact | None:
            return next(iter(self.of(ident, *kinds)), None)

        fact: SliceFact = await self.until(f"{' or '.join(kinds)} of {ident}", found, timeout_s)
        return fact

    @staticmethod
    async def until(what: str, probe: Callable[[], Any], timeout_s: float) -> Any:
        """Ask `probe` until its answer is neither None nor False.

        Raises:
            WaitError: timeout_s passed.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while (found := await probe()) is None or found is False:
                    await asyncio.sleep(POLL_S)
                return found
        except TimeoutError:
            raise WaitError(f"waited {timeout_s:.0f} s in vain for {what}") from None


@asynccontextmanager
async def outsider(url: str) -> AsyncIterator[Outsider]:
    client = await nats.connect(url)
    try:
        yield Outsider(client)
    finally:
        await client.close()
