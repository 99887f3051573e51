"""Turns reports into judgements, and judgements into commands and events.

Invariant: the decision to act is in KV before anything is published, so that no replica and no restart acts on a report twice;
what is published carries message ids made from the report's sequence.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import msgspec

from mica.bus import Bus, BusError, Clock, Delivery, Entry, StaleRevisionError
from mica.events import (
    TERMINAL_PHASES,
    EventError,
    GuardState,
    Phase,
    ResizeSlice,
    SliceRecord,
    SliceRefused,
    SloActed,
    SloBreached,
    SloReported,
    decode,
)
from mica.observability import Tracer
from mica.slo_guard.judge import NONE, RESIZE, Action, Breach, Policy, Standing, decide, judge, refused, stale

GUARD_TTL_S: Final = 3600.0
RETRY_S: Final = 0.5
ATTEMPTS: Final = 5
RACES_MAX: Final = 4

log = logging.getLogger(__name__)


class Guard:
    """One replica of the guard."""

    def __init__(self, bus: Bus, policy: Policy, clock: Clock, tracer: Tracer) -> None:
        self._bus = bus
        self._policy = policy
        self._clock = clock
        self._tracer = tracer

    async def on_batch(self, deliveries: Sequence[Delivery]) -> None:
        """Handle messages, those of one slice in order and slices side by side. Settles every one of them."""
        by_subject: dict[str, list[Delivery]] = defaultdict(list)
        for delivery in deliveries:
            by_subject[delivery.subject].append(delivery)
        await asyncio.gather(*(self._in_order(group) for group in by_subject.values()))

    async def _in_order(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            try:
                await self._settle(delivery)
            except EventError as error:
                log.warning("message %d on %s is dropped: %s", delivery.sequence, delivery.subject, error)
                await delivery.terminate()
            except BusError as error:
                log.info("message %d on %s comes again: %s", delivery.sequence, delivery.subject, error)
                await delivery.retry(RETRY_S)
            except Exception:
                log.exception("message %d on %s, delivery %d", delivery.sequence, delivery.subject, delivery.deliveries)
                await (delivery.retry(RETRY_S) if delivery.deliveries < ATTEMPTS else delivery.terminate())

    async def _settle(self, delivery: Delivery) -> None:
        """Handle a message; when another replica was quicker with the same slice, decide anew on what it left."""
        for _ in range(RACES_MAX):
            try:
                return await self._on_delivery(delivery)
            except StaleRevisionError:
                continue
        raise BusError(f"{RACES_MAX} races were lost")

    async def _on_delivery(self, delivery: Delivery) -> None:
        event = decode(delivery.subject, delivery.data, delivery.content_type)
        if isinstance(event, SloReported):
            if not delivery.subject.endswith(f".{event.id}"):
                raise EventError("id", event.id, f"the id that ends the subject {delivery.subject}")
            await self.on_report(event, delivery.sequence, delivery.traceparent)
        elif isinstance(event, SliceRefused):
            await self.on_refused(event)
        await delivery.ack()

    async def on_report(self, report: SloReported, sequence: int, traceparent: str = "") -> None:
        """Judge one window.

        Raises:
            BusError: its effect may not be durable; handle the same report again.
        """
        if stale(self._policy, report, self._clock.unix_ns()):
            return
        record = await self._bus.state.get(f"slice.{report.id}", SliceRecord)
        if record is None or record.value.phase is not Phase.PLACED or not record.value.placements:
            await self._forget(report.id, record)
            return
        slo, placement = record.value.request.slo, record.value.placements[0]
        if slo is None:
            return
        standing = Standing(share_ppm=placement.share_ppm, mode=placement.mode, control=record.value.control)
        breach = judge(slo, report)
        state = await self._state(report.id)
        known = state.value if state else GuardState(id=report.id)
        verdict = decide(self._policy, known, standing, (sequence, self._clock.unix_ns(), breach))
        if verdict.state is not None:
            state = await self._remember(state, verdict.state)
        if verdict.action is not None and breach is not None and state is not None:
            with self._tracer.span("guard", traceparent, slice=report.id, action=verdict.action.kind) as span:
                await self._act(state, verdict.action, breach, span.traceparent)

    async def on_refused(self, fact: SliceRefused) -> None:
        """Give up for a while when it was the guard's own command that the planner refused.

        Raises:
            BusError: handle the same fact again.
        """
        if fact.command != "slice.resize" or not fact.id:
            return
        state = await self._state(fact.id)
        if state is None:
            return
        if state.value.last_action == RESIZE and not state.value.command_sequence:
            raise BusError(f"guard.{fact.id}: the command is being published")
        now = self._clock.unix_ns()
        after = refused(state.value, fact.sequence, now)
        if after is None:
            return
        message = f"share to {state.value.last_share_ppm} ppm was refused: {fact.message}"
        log.info("slice %s: %s", fact.id, message)
        event = SloActed(at=now, id=fact.id, action=NONE, message=message[:256])
        await self._bus.publish(event, message_id=f"slo.action-{fact.id}-refused-{fact.sequence}")
        await self._remember(state, after)

    async def _act(self, state: Entry[GuardState], action: Action, breach: Breach, traceparent: str) -> None:
        slice_id, cause = state.value.id, state.value.sequence
        now = self._clock.unix_ns()
        told = f"{breach.objective} is {breach.observed:g}, promised {breach.promised:g}"
        log.info("slice %s: %s; %s: %s", slice_id, told, action.kind, action.message)
        await self._bus.publish(
            SloBreached(at=now, id=slice_id, objective=breach.objective, observed=breach.observed, promised=breach.promised),
            traceparent=traceparent,
            message_id=f"slo.breached-{slice_id}-{cause}",
        )
        share_ppm, sent = None, 0
        if action.kind == RESIZE:
            share_ppm = action.share_ppm
            command = ResizeSlice(id=slice_id, share_ppm=share_ppm, reason=f"slo_guard: {told}"[:256])
            sent = await self._bus.publish(command, traceparent=traceparent, message_id=f"slice.resize-{slice_id}-slo-{cause}")
        await self._bus.publish(
            SloActed(at=now, id=slice_id, action=action.kind, share_ppm=share_ppm, message=action.message),
            traceparent=traceparent,
            message_id=f"slo.action-{slice_id}-{cause}",
        )
        if sent:
            await self._remember(state, msgspec.structs.replace(state.value, command_sequence=sent))

    async def _state(self, slice_id: str) -> Entry[GuardState] | None:
        return await self._bus.state.get(f"guard.{slice_id}", GuardState)

    async def _remember(self, before: Entry[GuardState] | None, after: GuardState) -> Entry[GuardState]:
        key = f"guard.{after.id}"
        if before is None:
            return Entry(key, after, await self._bus.state.create(key, after, ttl_s=GUARD_TTL_S))
        return Entry(key, after, await self._bus.state.update(key, after, before.revision, ttl_s=GUARD_TTL_S))

    async def _forget(self, slice_id: str, record: Entry[SliceRecord] | None) -> None:
        """What is remembered of a slice that has ended is of no use; of one that waits or leaves, it stays."""
        if record is not None and record.value.phase in TERMINAL_PHASES and await self._state(slice_id) is not None:
            await self._bus.state.delete(f"guard.{slice_id}")
