"""The life of an action: decided, sent, measured, in force, and taken back. Pure; the one place where a step changes its phase.

Invariant: what is in force is taken back once, by whoever finds it due, or is left because somebody else has spoken since; a step
that is over stays as it is.
"""

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from mica.events import GuardRung, GuardState, GuardStep, Setting, SliceRecord, SloReported, StepPhase
from mica.slo_guard.judge import LATENCIES, better, value_of

NS_PER_S: Final = 1_000_000_000
SETTLE_S: Final = 1.0
"""So long after it was sent an action is not measured: the windows that are reported began before it."""
MEASURE_S: Final = 1.0
ENOUGH_S: Final = 1.9
"""What has helped is given so long before it is found to fall short: about two seconds, as exactly as windows end."""
PATIENCE_S: Final = 10.0
"""So long it is waited for while the objective falls, since a queue drains before latencies are what they were; and where the
promise was only nearly broken, since one bad window is no proof then."""
WINDOWS: Final = 2
IMPROVED: Final = 0.2
FALLING: Final = 0.1
SILENCE_S: Final = 60.0
"""Without a report for so long nothing is measured any more, and nothing is needed."""

STEPS_KEPT: Final = 16
OUTBOX: Final = frozenset({StepPhase.DECIDED, StepPhase.UNDOING})
HOLDING: Final = frozenset({StepPhase.DECIDED, StepPhase.SENT, StepPhase.IN_FORCE, StepPhase.UNDOING, StepPhase.KEPT})
"""What is, or may be, in force."""
LASTING: Final = frozenset({GuardRung.MOVE, GuardRung.EVICT})
"""What can't be taken back."""
HARMLESS: Final = frozenset({GuardRung.CEILING, GuardRung.THROTTLE, GuardRung.RESIZE})
"""What leaves everybody what was promised: kept for good once it was needed again and again."""
KEPT_AFTER: Final = 8.0
"""That is, once what it is held for has grown to so many times of what it began with."""


def with_step(state: GuardState, step: GuardStep) -> GuardState:
    """The state with a step changed, or added; of those that are over the oldest are forgotten."""
    if any(each.id == step.id for each in state.steps):
        return replace(state, steps=tuple(step if each.id == step.id else each for each in state.steps))
    steps = (*state.steps, step)
    over = [each.id for each in steps if each.phase not in HOLDING]
    forgotten = set(over[: max(0, len(steps) - STEPS_KEPT)])
    return replace(state, steps=tuple(each for each in steps if each.id not in forgotten))


def holding(state: GuardState) -> list[GuardStep]:
    """The steps that are, or may be, in force, oldest first."""
    return [step for step in state.steps if step.phase in HOLDING]


def outbox(state: GuardState) -> list[GuardStep]:
    """The steps of which something may not have been published."""
    return [step for step in state.steps if step.phase in OUTBOX or not step.told]


def busy(state: GuardState) -> bool:
    """Whether something is on its way, or not measured yet."""
    return any(step.phase in (*OUTBOX, StepPhase.SENT) for step in state.steps)


def is_settled(state: GuardState, began: int) -> bool:
    """Whether a window that began then (Unix ns) is wholly after what was done last, in a breach that is not over."""
    episode, newest = state.episode, _newest(state)
    if episode is None or episode.ended_at or newest is None or newest.at < episode.detected_at:
        return False
    return began >= newest.at + int(settle_s(newest) * NS_PER_S)


def has_helped(state: GuardState, end: int) -> bool:
    """Whether what was done last has helped, and had time enough until ``end``; it may fall short all the same."""
    newest = _newest(state)
    if newest is None or newest.phase not in (StepPhase.IN_FORCE, StepPhase.KEPT):
        return False
    return end >= newest.at + int((settle_s(newest) + ENOUGH_S) * NS_PER_S)


def _newest(state: GuardState) -> GuardStep | None:
    return state.steps[-1] if state.steps else None


def sent(step: GuardStep, sequence: int, now: int) -> GuardStep:
    """Its command is out. Nothing is carried out of what was only told."""
    return replace(step, phase=StepPhase.SENT, command_sequence=sequence, at=now)


def undone(step: GuardStep, sequence: int, now: int) -> GuardStep:
    """The command that takes it back is out."""
    return replace(step, phase=StepPhase.UNDONE, undo_sequence=sequence, ended_at=now)


def left(step: GuardStep, now: int, why: str) -> GuardStep:
    """It is not the guard's any more."""
    return replace(step, phase=StepPhase.LEFT, ended_at=now, note=why[:200])


def refused(step: GuardStep, now: int, why: str) -> GuardStep:
    """The planner did not carry it out; where that was the taking back, it stays."""
    phase = StepPhase.REFUSED if not step.undo_sequence else StepPhase.LEFT
    return replace(step, phase=phase, ended_at=now, note=why[:200])


def to_be_undone(step: GuardStep, why: str) -> GuardStep:
    """It is to be taken back."""
    return replace(step, phase=StepPhase.UNDOING, note=why)


def measured(step: GuardStep, report: SloReported, now: int, *, kept: bool, cooldown_s: float) -> GuardStep:
    """The step after one more window; ``kept``: the SLO was kept in it. Nothing changes before it has settled."""
    since_s = (now - step.at) / NS_PER_S - settle_s(step)
    if step.phase is not StepPhase.SENT or since_s < 0:
        return step
    value = value_of(report, step.objective)
    first = step.first_after if step.first_after is not None else value
    step = replace(step, windows=step.windows + 1, after=value if value is not None else step.after, first_after=first)
    return step if step.windows < WINDOWS or since_s < MEASURE_S else _judged(step, now, since_s, (kept, cooldown_s))


def settle_s(step: GuardStep) -> float:
    """How long after it was sent an action may show nothing; a move or an eviction has its grace first."""
    return SETTLE_S + (step.hold_s if step.rung in LASTING else 0.0)


def due(state: GuardState, now: int) -> GuardStep | None:
    """The step to take back now, the newest first, if the SLO has been kept for as long as it is held."""
    held = [step for step in holding(state) if step.phase is StepPhase.IN_FORCE]
    if not held or not state.quiet_since or busy(state):
        return None
    newest = held[-1]
    return newest if now - state.quiet_since >= newest.hold_s * NS_PER_S else None


def is_ours(step: GuardStep, record: SliceRecord | None, commands: Iterable[int]) -> str:
    """Why what the step has set is not the guard's to take back any more; empty where it is.

    ``commands``: those that the guard has sent for this slice's SLO.
    """
    if record is None or not record.placements:
        return "the slice is gone"
    ours = set(commands)
    if step.to.control is not None and record.control_sequence not in ours:
        return f"somebody else has set its control word to {record.control} since"
    if step.to.control is not None and record.control is not step.to.control:
        return f"its control word is {record.control} now"
    sized = step.to.share_ppm is not None or bool(step.to.limits.given)
    if sized and record.size_sequence not in ours:
        return "somebody else has resized it since"
    return ""


def back(step: GuardStep) -> Setting:
    """What is set to take it back."""
    return step.was


def _judged(step: GuardStep, now: int, since_s: float, terms: tuple[bool, float]) -> GuardStep:
    """Whether it helped, as far as that can be told ``since_s`` after it had settled."""
    kept, cooldown_s = terms
    if kept or (step.after is not None and better(step.objective, step.before, step.after, IMPROVED)):
        return _helped(step, now)
    first, last = step.first_after, step.after
    falls = first is not None and last is not None and better(step.objective, first, last, FALLING)
    was_kept = step.objective in LATENCIES and step.before <= step.promised
    if since_s < max(cooldown_s if step.rung is GuardRung.RESIZE else 0.0, PATIENCE_S if falls or was_kept else 0.0):
        return step
    if step.rung in LASTING:
        return replace(step, phase=StepPhase.DONE, ready_at=now, ended_at=now, told=False, note="it did not help")
    return to_be_undone(replace(step, ready_at=now), "it did not help")


def _helped(step: GuardStep, now: int) -> GuardStep:
    if step.rung in LASTING:
        return replace(step, phase=StepPhase.DONE, ready_at=now, ended_at=now, helped=True, told=False)
    return replace(step, phase=StepPhase.KEPT if not step.hold_s else StepPhase.IN_FORCE, ready_at=now, helped=True, told=False)
