"""Everything that a stream holds now. Invariant: the consumer that reads it is gone afterwards, or soon after a failure."""

from collections.abc import Sequence
from typing import Final

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError

from mica.bus._errors import BusUnavailableError, reason_of

HISTORY_BATCH: Final = 500
ABANDONED_S: Final = 30.0


async def everything(jetstream: JetStreamContext, stream: str, subjects: Sequence[str] = ()) -> list[Msg]:
    """What the stream holds on these subjects, oldest first.

    Raises:
        BusUnavailableError: the server did not answer in time.
    """
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.NONE,
        filter_subjects=list(subjects) or None,
        inactive_threshold=ABANDONED_S,
        mem_storage=True,
    )
    found: list[Msg] = []
    try:
        info = await jetstream.add_consumer(stream, config=config)
        name = info.name or ""
        subscription = await jetstream.pull_subscribe_bind(consumer=name, stream=stream)
        left = info.num_pending or 0
        while left > 0:
            messages = await subscription.fetch(min(left, HISTORY_BATCH), timeout=5)
            left = messages[-1].metadata.num_pending or 0
            found.extend(messages)
        await jetstream.delete_consumer(stream, name)
    except (APIError, NatsError, TimeoutError) as error:
        raise BusUnavailableError(f"stream {stream}: {reason_of(error)}") from error
    return found
