"""Durable consumption: one push consumer per durable name, shared by a queue group.

Invariant: a message is delivered until it is acknowledged or terminated, and to one member of the group at a time.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from msgspec import Struct
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError, NotFoundError

from mica.bus._connection import Connection
from mica.bus._errors import BusUnavailableError, reason_of
from mica.bus._port import Delivery

ACK_WAIT_S: Final = 2.0
IN_FLIGHT: Final = 4096
TRACEPARENT: Final = "traceparent"
CONTENT_TYPE: Final = "Content-Type"


def place_of(message: Msg) -> tuple[int, int]:
    """How often the message was delivered, and its sequence in the stream: two of the nine things that nats-py would work out."""
    # $JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<deliveries>.<stream sequence>.<consumer sequence>.<time>.<pending>
    tokens = message.reply.split(".")
    base = 2 if len(tokens) <= len(["$JS", "ACK", "stream", "consumer", "1", "2", "3", "4", "5"]) else 4
    return int(tokens[base + 2]), int(tokens[base + 3])


class JetStreamDelivery:
    """One message on its way; see ``Delivery``."""

    __slots__ = ("_message", "content_type", "data", "deliveries", "sequence", "subject", "traceparent")

    def __init__(self, message: Msg) -> None:
        self._message = message
        self.subject = message.subject
        self.data = message.data
        headers = message.headers or {}
        self.content_type = headers.get(CONTENT_TYPE)
        self.traceparent = headers.get(TRACEPARENT, "")
        self.deliveries, self.sequence = place_of(message)

    async def ack(self) -> None:
        """Done: its effect is durable."""
        await self._message.ack()

    async def retry(self, delay_s: float = 0) -> None:
        """Deliver it again after ``delay_s``."""
        await self._message.nak(delay=delay_s or None)

    async def in_progress(self) -> None:
        """As much time again as the ack wait."""
        await self._message.in_progress()

    async def terminate(self) -> None:
        """Never deliver it again."""
        await self._message.term()


class Durable(Struct, frozen=True):
    """What to consume, and under which name it is shared."""

    stream: str
    name: str
    subjects: Sequence[str] = ()


async def deliveries(
    client: Connection, jetstream: JetStreamContext, durable: Durable, batch: int
) -> AsyncIterator[list[Delivery]]:
    """Batches of what is there, at least one message each."""
    queue: asyncio.Queue[Msg] = asyncio.Queue()
    target = f"mica.deliver.{durable.stream}.{durable.name}"
    subscription = await client.listen(target, queue.put_nowait, queue=durable.name)
    try:
        await _ensure(jetstream, durable, target)
        while True:
            messages = [await queue.get()]
            while len(messages) < batch and not queue.empty():
                messages.append(queue.get_nowait())
            yield [JetStreamDelivery(message) for message in messages]
    finally:
        if not client.is_closed:
            await subscription.unsubscribe()


async def _ensure(jetstream: JetStreamContext, durable: Durable, target: str) -> None:
    config = ConsumerConfig(
        durable_name=durable.name,
        deliver_group=durable.name,
        deliver_subject=target,
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_S,
        max_ack_pending=IN_FLIGHT,
        filter_subjects=list(durable.subjects) or None,
    )
    try:
        try:
            await jetstream.consumer_info(durable.stream, durable.name)
        except NotFoundError:
            await jetstream.add_consumer(durable.stream, config=config)
    except (APIError, NatsError, TimeoutError) as error:
        raise BusUnavailableError(f"consumer {durable.name} of stream {durable.stream}: {reason_of(error)}") from error
