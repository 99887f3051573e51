"""What is published about a step: its command, what was done and what it brought. Pure.

Invariant: whoever publishes a step, and how often, says the same under the same message id.
"""

from typing import Final

from msgspec import Struct

from mica.events import (
    Command,
    ControlSlice,
    EvictSlice,
    GuardRung,
    GuardState,
    GuardStep,
    MoveSlice,
    ResizeSlice,
    Setting,
    SloActed,
    SloBreached,
    SloMeasured,
    StepPhase,
)

TEXT_MAX: Final = 256


class Said(Struct, frozen=True):
    """A command or fact, and the message id under which the stream keeps it once."""

    event: Command | SloActed | SloBreached | SloMeasured
    message_id: str


def breached(state: GuardState) -> Said:
    """The breach that has begun, or come back."""
    episode = state.episode
    assert episode is not None
    event = SloBreached(
        at=episode.returned_at or episode.detected_at, id=state.id, objective=episode.objective,
        observed=episode.observed, promised=episode.promised, burn_short=episode.burn_short,
        burn_long=episode.burn_long, short_s=episode.short_s, long_s=episode.long_s,
    )  # fmt: skip
    return Said(event, f"slo.breached-{state.id}-{episode.sequence}")


def command(state: GuardState, step: GuardStep) -> Said | None:
    """What carries a step out; None of a step that is only told."""
    if step.phase is StepPhase.TOLD:
        return None
    objective = f"{step.objective} of {state.id} is {step.before:g}, promised {step.promised:g}"
    reason = f"slo_guard: {objective}"[:TEXT_MAX]
    made: Command
    if step.rung is GuardRung.MOVE:
        made = MoveSlice(id=step.target, grace_s=step.hold_s, reason=reason)
    elif step.rung is GuardRung.EVICT:
        made = EvictSlice(id=step.target, grace_s=step.hold_s, reason=reason)
    else:
        made = _set(step.target, step.to, reason)
    return Said(made, f"guard-{step.id}")


def undoing(step: GuardStep) -> Said:
    """What takes a step back."""
    return Said(_set(step.target, step.was, f"slo_guard: {step.note}"[:TEXT_MAX]), f"guard-{step.id}-undo")


def acted(state: GuardState, step: GuardStep) -> Said:
    """What was done, or would have been."""
    event = SloActed(
        at=step.at, id=state.id, action=step.rung.value, message=step.message, action_id=step.id, evidence=step.evidence,
        share_ppm=step.to.share_ppm, control=step.to.control, target="" if step.target == state.id else step.target,
        expected=step.expected, dry_run=step.phase is StepPhase.TOLD and step.rung is not GuardRung.NONE,
    )  # fmt: skip
    return Said(event, f"slo.action-{step.id}")


def in_vain(state: GuardState, step: GuardStep, now: int) -> Said:
    """The planner refused it."""
    message = f"{step.message} was refused: {step.note}"[:TEXT_MAX]
    target = "" if step.target == state.id else step.target
    event = SloActed(at=now, id=state.id, action=GuardRung.NONE.value, message=message, action_id=step.id, target=target)
    return Said(event, f"slo.action-{step.id}-refused")


def measured(state: GuardState, step: GuardStep) -> Said:
    """What it brought, when that is known, and again when it is taken back or left as it is."""
    ended = step.phase in (StepPhase.UNDONE, StepPhase.LEFT)
    event = SloMeasured(
        at=step.ended_at if ended else step.ready_at, id=state.id, action_id=step.id, action=step.rung.value,
        target="" if step.target == state.id else step.target, objective=step.objective, before=step.before,
        after=step.after if step.after is not None else 0.0, helped=step.helped, undone=step.phase is StepPhase.UNDONE,
        message=step.note,
    )  # fmt: skip
    return Said(event, f"slo.measured-{step.id}{f'-{step.phase}' if ended else ''}")


def _set(target: str, to: Setting, reason: str) -> Command:
    if to.control is not None:
        return ControlSlice(id=target, control=to.control, reason=reason)
    return ResizeSlice(id=target, share_ppm=to.share_ppm, limits=to.limits, reason=reason)
