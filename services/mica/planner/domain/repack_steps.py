"""How far a plan of moves is carried out. Pure.

Owns the transitions of ``repack.<pool>``. Invariants: at most one move is under way; a step that has ended never changes; once a
step did not end as planned, those after it on its node are skipped, because they may rest on it.
"""

from typing import Final

from msgspec.structs import replace

from mica.events import PlannedMove, RepackState, RepackStep, StepState

HOUR_NS: Final = 3_600_000_000_000
MOVED_NS: Final = 7 * 24 * HOUR_NS
"""Moves that are older are forgotten; no policy lets a slice rest for longer."""
OPEN: Final = frozenset({StepState.WAITING, StepState.SENT})


def begun(state: RepackState, about: str, moves: tuple[PlannedMove, ...]) -> RepackState:
    """A plan takes the place of the last one."""
    return replace(state, about=about, steps=tuple(RepackStep(move=move) for move in moves))


def is_open(state: RepackState) -> bool:
    """Whether a plan is under way."""
    return any(step.state in OPEN for step in state.steps)


def current(state: RepackState) -> int | None:
    """The step that is to be looked at: the one under way, else the first that waits."""
    return next((index for index, step in enumerate(state.steps) if step.state in OPEN), None)


def sent_lately(state: RepackState, now: int) -> int:
    """How many moves were sent within the last hour."""
    return sum(at > now - HOUR_NS for at in state.sent)


def sent(state: RepackState, index: int, generation: int, now: int) -> RepackState:
    """The step's command is on its way; ``generation`` is what the slice has before it."""
    step = replace(state.steps[index], state=StepState.SENT, generation=generation, at=now)
    lately = tuple(at for at in state.sent if at > now - HOUR_NS)
    moved = {id_: at for id_, at in state.moved.items() if at > now - MOVED_NS} | {step.move.id: now}
    return replace(_with(state, index, step), sent=(*lately, now), moved=moved)


def ended(state: RepackState, index: int, outcome: StepState, message: str, now: int) -> RepackState:
    """The step is over; if it is not done, so are those after it on its node."""
    step = replace(state.steps[index], state=outcome, message=message, at=now)
    state = _with(state, index, step)
    if outcome is StepState.DONE:
        return state
    why = f"the move of {step.move.id} before it is {outcome}"
    return replace(
        state,
        steps=tuple(
            replace(each, state=StepState.SKIPPED, message=why, at=now)
            if each.state is StepState.WAITING and each.move.node == step.move.node
            else each
            for each in state.steps
        ),
    )


def _with(state: RepackState, index: int, step: RepackStep) -> RepackState:
    return replace(state, steps=(*state.steps[:index], step, *state.steps[index + 1 :]))
