"""Every command that comes, mapped to the call that carries it out, and settled with the stream.

Invariant: a command is acknowledged only after its effect is durable and its answer published; one that can never work is
answered, then terminated. Nothing that a command does can end the service.
"""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from msgspec import Struct

from mica.bus import BusError, Delivery
from mica.events import (
    CHANNEL_BY_SUBJECT,
    Command,
    ControlSlice,
    EventError,
    EvictSlice,
    ExplainSlice,
    Fact,
    MoveSlice,
    ReleaseSlice,
    RepackPool,
    RequestSlice,
    ResizeSlice,
    ResumeSlice,
    RightsizeSlices,
    SuspendSlice,
    decode,
)
from mica.planner.changes import Changes, NotYetError
from mica.planner.desk import Call, ContendedError, Desk
from mica.planner.domain.answers import refused, unowned_rejection
from mica.planner.domain.misfits import Refusal
from mica.planner.explanations import Explanations
from mica.planner.lanes import Lanes
from mica.planner.repacks import Repacks
from mica.planner.requests import Requests
from mica.planner.rightsizes import Rightsizes
from mica.planner.suspensions import Suspensions

log = logging.getLogger(__name__)

Handler = Callable[[Call], Awaitable[Fact | None]]
UNEXPECTED: Final = 5
"""Deliveries after which a command that always fails is answered as an internal error."""
NOT_YET: Final = 100
NOT_YET_S: Final = 0.05
RETRY_S: Final = 0.2
OVERFULL_S: Final = 1.0
KEEP_AFTER_NS: Final = 1_000_000_000
"""A command that is in hand for longer asks for more time; the ack wait is 2 s."""


class InHand:
    """The commands between delivery and acknowledgement, by stream sequence."""

    def __init__(self) -> None:
        self._calls: dict[int, tuple[Call, int]] = {}

    def take(self, delivery: Delivery) -> bool:
        """Whether the command is in hand already; then this delivery of it is the one to acknowledge."""
        held = self._calls.get(delivery.sequence)
        if held is not None:
            held[0].delivery = delivery
        return held is not None

    def add(self, call: Call, now_ns: int) -> None:
        """From now on."""
        self._calls[call.sequence] = (call, now_ns)

    def drop(self, call: Call) -> None:
        """It is settled, or given back."""
        self._calls.pop(call.sequence, None)

    async def keep(self, now_ns: int) -> None:
        """Ask for more time for what is in hand for long."""
        for call, since_ns in list(self._calls.values()):
            if now_ns - since_ns > KEEP_AFTER_NS:
                with suppress(BusError):
                    await call.delivery.in_progress()


class Commands(Struct, frozen=True):
    """Who carries out what is asked of slices that exist."""

    changes: Changes
    suspensions: Suspensions
    repacks: Repacks
    rightsizes: Rightsizes


class Handlers:
    """Takes deliveries, sees each of them through."""

    def __init__(self, desk: Desk, requests: Requests, on: Commands) -> None:
        self._desk = desk
        self.in_hand = InHand()
        self._lanes = Lanes(desk.policies.commands_per_s, self._handle, desk.spawn)
        self._by_type: dict[type[Command], Handler] = {
            RequestSlice: requests.on_request,
            ReleaseSlice: on.changes.on_release,
            EvictSlice: on.changes.on_evict,
            ResizeSlice: on.changes.on_resize,
            ControlSlice: on.changes.on_control,
            MoveSlice: on.changes.on_move,
            SuspendSlice: on.suspensions.on_suspend,
            ResumeSlice: on.suspensions.on_resume,
            ExplainSlice: Explanations(desk, requests.preemptions).on_explain,
            RepackPool: on.repacks.on_repack,
            RightsizeSlices: on.rightsizes.on_rightsize,
        }

    async def on_delivery(self, delivery: Delivery) -> None:
        """Take one command in hand."""
        if self.in_hand.take(delivery):
            return
        try:
            command = decode(delivery.subject, delivery.data, delivery.content_type)
        except EventError as error:
            self._desk.spawn(self._reject_malformed(delivery, error))
            return
        assert isinstance(command, Command)
        given: str | None = getattr(command, "id", None)
        call = Call(delivery, command, given or f"seq-{delivery.sequence}", delivery.sequence)
        self.in_hand.add(call, self._desk.clock.monotonic_ns())
        if not self._lanes.put(self._tenant_of(call), call):
            self.in_hand.drop(call)
            await _give_back(delivery, OVERFULL_S)

    def _tenant_of(self, call: Call) -> str:
        if isinstance(call.command, RequestSlice):
            return call.command.tenant
        if isinstance(call.command, ExplainSlice):
            return call.command.request.tenant
        entry = self._desk.records.cached(call.id)
        return entry.value.request.tenant if entry is not None else ""

    async def _handle(self, call: Call) -> None:
        handler = self._by_type[type(call.command)]
        try:
            with self._desk.tracer.span("plan", call.delivery.traceparent, id=call.id) as span:
                call.traceparent = span.traceparent
                async with self._desk.turns.of(call.id):
                    fact = await handler(call)
                if fact is not None:
                    await self._desk.say(fact, call.traceparent)
                await call.delivery.ack()
        except NotYetError as error:
            await self._wait(call, error)
            return
        except (BusError, ContendedError) as error:
            log.info("command %d is tried again: %s", call.sequence, error)
            await _give_back(call.delivery, RETRY_S)
        except Exception as error:  # noqa: BLE001 - no command may end the service; it is logged and answered
            await self._fail(call, error)
        self.in_hand.drop(call)

    async def _wait(self, call: Call, error: NotYetError) -> None:
        """Try again when the enforcer has had time to confirm what came before."""
        call.waits += 1
        if call.waits <= NOT_YET:
            self._desk.spawn(self._later(call))
            return
        refusal = Refusal("id", call.id, f"a slice whose last change is in force ({error})")
        await self._answer_and_end(call.delivery, self._refusal_of(call, refusal))
        self.in_hand.drop(call)

    async def _later(self, call: Call) -> None:
        await self._desk.clock.sleep(NOT_YET_S)
        self._lanes.put_again(call)

    async def _fail(self, call: Call, error: Exception) -> None:
        """Nobody expected this: try again a few times, then say so."""
        if call.delivery.deliveries < UNEXPECTED:
            if call.delivery.deliveries == 1:
                log.error("command %d on %s failed", call.sequence, call.delivery.subject, exc_info=error)
            await _give_back(call.delivery, RETRY_S * call.delivery.deliveries)
            return
        refusal = Refusal("internal", type(error).__name__, "a planner without this error; see its log")
        if isinstance(call.command, RequestSlice) and await self._has_record(call):
            await self._answer_and_end(call.delivery, None)
            return
        await self._answer_and_end(call.delivery, self._refusal_of(call, refusal))

    async def _has_record(self, call: Call) -> bool:
        """Whether the request was recorded: then its record's answer stands, and reconciliation goes on with it."""
        try:
            entry = await self._desk.records.read(call.id)
        except BusError:
            return True
        if entry is None or entry.value.request_sequence != call.sequence:
            return False
        self._desk.untidy.add(call.id)
        return True

    def _refusal_of(self, call: Call, refusal: Refusal) -> Fact:
        now = self._desk.now_ns()
        if isinstance(call.command, RequestSlice):
            return unowned_rejection(call.sequence, call.command.tenant, refusal, now)
        return refused(call.sequence, call.delivery.subject, call.id, refusal, now)

    async def _reject_malformed(self, delivery: Delivery, error: EventError) -> None:
        refusal, now = Refusal(error.field, error.given, error.allowed), self._desk.now_ns()
        channel = CHANNEL_BY_SUBJECT.get(delivery.subject)
        if channel is not None and channel.event is RequestSlice:
            fact: Fact = unowned_rejection(delivery.sequence, "", refusal, now)
        else:
            fact = refused(delivery.sequence, delivery.subject[:80], "", refusal, now)
        await self._answer_and_end(delivery, fact)

    async def _answer_and_end(self, delivery: Delivery, fact: Fact | None) -> None:
        try:
            if fact is not None:
                await self._desk.say(fact, delivery.traceparent)
            await delivery.terminate()
        except BusError as error:
            log.info("command %d is answered later: %s", delivery.sequence, error)
            await _give_back(delivery, RETRY_S)


async def _give_back(delivery: Delivery, delay_s: float) -> None:
    """Have it delivered again; where even that does not go through, the ack wait does it."""
    with suppress(BusError):
        await delivery.retry(delay_s)
