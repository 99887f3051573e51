"""Carries out what a state says was decided: publishes it, and notes that it is out.

Invariant: nothing is published that is not in KV before; what may have been published and is not noted is published again under
the same message ids; what somebody else has set since is not taken back.
"""

import logging
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from mica.bus import Bus, Clock, Entry
from mica.events import Control, GuardRung, GuardState, GuardStep, SliceRecord, StepPhase
from mica.slo_guard import steps, telling
from mica.slo_guard.desk import Desk

log = logging.getLogger(__name__)

OVER: Final = frozenset({StepPhase.REFUSED, StepPhase.UNDONE, StepPhase.LEFT, StepPhase.DONE})


class Carrier:
    """Between a state's outbox and the bus."""

    def __init__(self, bus: Bus, desk: Desk, clock: Clock) -> None:
        self._bus = bus
        self._desk = desk
        self._clock = clock

    async def finish(self, entry: Entry[GuardState]) -> Entry[GuardState]:
        """Publish what is not known to be published.

        Raises:
            BusError: it may not be; to be called again with the same state, or a newer one.
        """
        state = entry.value
        if state.episode is not None and not state.episode.told:
            await self._say(telling.breached(state), state)
            state = replace(state, episode=replace(state.episode, told=True))
        for step in steps.outbox(state):
            state = await self._carry(state, step)
        if state == entry.value:
            return entry
        after = await self._desk.remember(entry, state)
        await self._let_go(entry.value, state)
        return after

    async def tell_refused(self, state: GuardState, step: GuardStep) -> None:
        """Say that the planner refused a step."""
        said = telling.in_vain(state, step, self._clock.unix_ns())
        log.info("slice %s: %s: %s", state.id, step.message, step.note)
        await self._say(said, state)

    async def let_go(self, before: GuardState, after: GuardState) -> None:
        """Give back the leases on neighbours of whom nothing is held any more."""
        await self._let_go(before, after)

    async def _carry(self, state: GuardState, step: GuardStep) -> GuardState:
        if step.phase is StepPhase.DECIDED:
            return await self._send(state, step)
        if step.phase is StepPhase.UNDOING:
            return await self._undo(state, step)
        if step.phase is StepPhase.TOLD:
            log.info("slice %s: %s: %s", state.id, step.rung, step.message)
            await self._say(telling.acted(state, step), state)
        else:
            log.info("slice %s: %s of %s helped: %s", state.id, step.rung, step.target, step.helped)
            await self._say(telling.measured(state, step), state)
        return steps.with_step(state, replace(step, told=True))

    async def _send(self, state: GuardState, step: GuardStep) -> GuardState:
        log.info("slice %s: %s is %g, promised %g; %s", state.id, step.objective, step.before, step.promised, step.message)
        command = telling.command(state, step)
        assert command is not None
        sequence = await self._say(command, state)
        await self._say(telling.acted(state, step), state)
        after = steps.with_step(state, steps.sent(step, sequence, self._clock.unix_ns()))
        return replace(after, command_sequence=sequence)

    async def _undo(self, state: GuardState, step: GuardStep) -> GuardState:
        now = self._clock.unix_ns()
        record = await self._desk.record(step.target)
        why = steps.is_ours(step, record, _commands(state, step.target))
        after, sequence = step, 0
        if not why:
            sequence = await self._say(telling.undoing(step), state)
            after = steps.undone(step, sequence, now)
        elif record is not None and _is_back(step, record):
            # Ours, if the stream has that command already; else somebody else's, and saying it again changes nothing.
            sequence = await self._say(telling.undoing(step), state)
            after = steps.undone(step, sequence if sequence == _last(step, record) else 0, now)
        else:
            after = steps.left(step, now, why)
        log.info("slice %s: %s of %s is taken back (%s): %s", state.id, step.rung, step.target, step.note, why or "sent")
        await self._say(telling.measured(state, after), state)
        if step.rung is GuardRung.RESIZE:
            state = replace(state, last_share_ppm=0)
        return replace(steps.with_step(state, after), command_sequence=sequence or state.command_sequence)

    async def _say(self, said: telling.Said, state: GuardState) -> int:
        return await self._bus.publish(said.event, traceparent=state.traceparent, message_id=said.message_id)

    async def _let_go(self, before: GuardState, after: GuardState) -> None:
        held = {step.target for step in steps.holding(after)}
        for target in {step.target for step in before.steps} - held - {after.id}:
            if any(step.target == target and step.phase in OVER for step in after.steps):
                await self._desk.let_go(target, after.id)


def _commands(state: GuardState, target: str) -> Sequence[int]:
    """The commands that were sent to a slice for this one's SLO."""
    return [
        number
        for step in state.steps
        if step.target == target
        for number in (step.command_sequence, step.undo_sequence)
        if number
    ]


def _last(step: GuardStep, record: SliceRecord) -> int:
    """The command by which what the step has set is what it is."""
    return record.control_sequence if step.was.control is not None else record.size_sequence


def _is_back(step: GuardStep, record: SliceRecord) -> bool:
    """Whether what was set is what it was before already, as after a crash between taking back and noting that."""
    if step.was.control is not None:
        return record.control is step.was.control and record.control is not Control.DRAIN
    if not record.placements:
        return False
    first = record.placements[0]
    limits = all(getattr(first.limits, name) == getattr(step.was.limits, name) for name in step.was.limits.given)
    return limits and step.was.share_ppm in (None, first.share_ppm)
