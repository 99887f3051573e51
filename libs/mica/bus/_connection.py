"""A nats-py client with subscriptions whose messages reach their handler the moment they are read from the socket.

Invariant: messages are handled in the order in which they came, none is dropped, and the handler never waits.
"""

from nats.aio.client import Client
from nats.aio.subscription import Subscription

from mica.bus._wire import Handler, Wire


class Connection(Client):
    """A connection to the server, over a ``Wire``."""

    def __init__(self) -> None:
        super().__init__()
        self._wire = Wire(self)
        self._transport = self._wire  # which keeps nats-py from making its own; see ADR 0004

    async def listen(self, subject: str, handle: Handler, *, queue: str = "") -> "Listening":
        """Subscribe to ``subject``, in the queue group ``queue`` if one is named. ``handle`` must not raise."""
        subscription = await self.subscribe(subject, queue=queue, pending_msgs_limit=-1, pending_bytes_limit=-1)
        self._wire.listen(subscription._id, handle)  # noqa: SLF001 - what the server calls the subscription; see ADR 0004
        while subscription.pending_msgs:
            handle(await subscription.next_msg())
        return Listening(self._wire, subscription)


class Listening:
    """A subscription in force."""

    def __init__(self, wire: Wire, subscription: Subscription) -> None:
        self._wire = wire
        self._subscription = subscription

    async def unsubscribe(self) -> None:
        """Hear no more."""
        self._wire.forget(self._subscription._id)  # noqa: SLF001 - as above
        await self._subscription.unsubscribe()
