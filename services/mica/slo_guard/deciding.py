"""What to do next about a breach, by what ``weighing`` found and who the slice's neighbours are. Pure.

Invariant: there is one action at a time, which is measured before the next, and a cool-down lies between them unless the last was
in vain or is found not to be enough; in an hour there are no more than the policy's budget; what helps is taken back only after a
hold, which doubles when it is needed again.
"""

from collections.abc import Set as AbstractSet
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from mica.events import (
    Burn,
    Episode,
    Guarding,
    GuardMode,
    GuardRung,
    GuardState,
    GuardStep,
    Phase,
    SliceRecord,
    StepPhase,
)
from mica.slo_guard import steps
from mica.slo_guard.judge import value_of
from mica.slo_guard.ladder import Plan, Scene, choose
from mica.slo_guard.steps import HARMLESS, HOLDING, KEPT_AFTER, LASTING, NS_PER_S, SILENCE_S
from mica.slo_guard.weighing import Patience, Window, take_back, with_end

HOUR_NS: Final = 3600 * NS_PER_S
REST_MAX_S: Final = 3600.0
PROVEN: Final = frozenset({GuardRung.PAUSE, GuardRung.MOVE, GuardRung.EVICT})
"""A neighbour to whom that was done in vain is not the reason."""


class Moment(Struct, frozen=True, kw_only=True):
    """When, and because of what, something is to be done. ``fleet_spent``: the pool's budget of actions is."""

    window: Window
    fleet_spent: bool = False


def act(terms: tuple[Guarding, Patience], state: GuardState, scene: Scene, moment: Moment) -> GuardState:
    """The state with the next action decided, or with a rest because there is none. Only while there is a breach."""
    policy, patience = terms
    now = moment.window.now
    waits = policy.cooldown_s is not None and now < state.rest_until
    if scene.finding.kind == "early" or state.episode is None or waits:
        return state
    state = _blaming(state, scene)
    if len(spent(state, now)) >= policy.actions_per_hour:
        return _rest(patience, state, moment, f"its budget of {policy.actions_per_hour} actions an hour is spent")
    plan = choose(policy, scene, tried(state))
    if not isinstance(plan, str) and moment.fleet_spent:
        plan = f"the pool's budget of {policy.fleet_actions_per_hour} actions an hour is spent"
    if isinstance(plan, str):
        return _rest(patience, state, moment, plan)
    step = _step(policy, state, plan, moment)
    step = replace(step, cause=scene.finding.cause, evidence=scene.finding.evidence)
    if policy.mode is not GuardMode.ACT:
        return _told(patience, state, replace(step, phase=StepPhase.TOLD, told=False), now)
    cooldown_s = policy.cooldown_s if policy.cooldown_s is not None else patience.cooldown_s
    return replace(
        steps.with_step(state, step),
        breaches=0,
        run=Burn(),
        last_action_at=now,
        last_action=plan.rung.value,
        last_share_ppm=plan.to.share_ppm or state.last_share_ppm if plan.rung is GuardRung.RESIZE else state.last_share_ppm,
        action_sequence=moment.window.sequence,
        command_sequence=0,
        rest_until=now + int(cooldown_s * NS_PER_S),
        acted=(*spent(state, now), now),
        traceparent=moment.window.traceparent,
    )


def spent(state: GuardState, now: int) -> tuple[int, ...]:
    """When the guard acted within the last hour."""
    return tuple(at for at in state.acted if now - at < HOUR_NS)


def tried(state: GuardState) -> AbstractSet[tuple[str, str]]:
    """Rungs and targets that are not to be chosen: in force, or in vain since the breach began and the guard last rested."""
    rests = [step.at for step in state.steps if step.rung is GuardRung.NONE]
    since = max([state.episode.detected_at if state.episode is not None else 0, *rests])
    found = set()
    for step in state.steps:
        if step.phase is StepPhase.TOLD:
            continue
        again = step.rung is GuardRung.RESIZE and step.helped
        in_vain = step.at >= since and step.phase not in HOLDING and not step.helped
        if (step.phase in HOLDING and not again) or in_vain or (step.phase is StepPhase.LEFT and step.at >= since):
            found.add((step.rung.value, step.target))
    return found


def cleared(state: GuardState) -> AbstractSet[str]:
    """Neighbours that were found not to be the reason of this breach."""
    since = state.episode.detected_at if state.episode is not None else 0
    return {
        step.target for step in state.steps if step.at >= since and step.rung in PROVEN and step.ready_at and not step.helped
    } - {state.id}


def refused(state: GuardState, command_sequence: int, now: int, why: str) -> GuardState | None:
    """The state after the planner refused a command of the guard's; None when it was none of this slice's."""
    for step in state.steps:
        if command_sequence in (step.command_sequence, step.undo_sequence) and step.phase not in (
            StepPhase.REFUSED,
            StepPhase.LEFT,
        ):
            last_share_ppm = 0 if step.rung is GuardRung.RESIZE else state.last_share_ppm
            after = steps.with_step(state, steps.refused(step, now, why))
            return replace(after, rest_until=min(state.rest_until, now), last_share_ppm=last_share_ppm)
    return None


def upkeep(state: GuardState, record: SliceRecord | None, now: int) -> GuardState:
    """The state when nobody reports: what nobody measures or needs is taken back, all of it where the slice has ended."""
    ended = record is None or record.phase is not Phase.PLACED
    silent = now - state.reported_at >= SILENCE_S * NS_PER_S
    for step in steps.holding(state):
        if step.phase in (StepPhase.DECIDED, StepPhase.UNDOING):
            continue
        if ended:
            state = steps.with_step(state, steps.to_be_undone(step, "the slice whose SLO it was is not running any more"))
        elif silent and step.phase is StepPhase.SENT:
            state = steps.with_step(state, steps.to_be_undone(step, "nothing was reported since"))
    episode = state.episode
    if silent and episode is not None and not episode.ended_at:
        state = replace(state, quiet_since=state.quiet_since or now)
        state = take_back(state, now)
        state = replace(state, episode=with_end(state, episode, now))
    return state


def _blaming(state: GuardState, scene: Scene) -> GuardState:
    finding, episode = scene.finding, state.episode
    assert episode is not None
    if finding.kind != "neighbour" and episode.blamed:
        return state
    found = replace(episode, blamed=finding.target, why=finding.why, evidence=finding.evidence)
    return replace(state, episode=found)


def _step(policy: Guarding, state: GuardState, plan: Plan, moment: Moment) -> GuardStep:
    window, episode = moment.window, state.episode
    assert episode is not None
    breach = window.breach
    same = breach is not None and breach.objective == episode.objective
    return GuardStep(
        id=f"{state.id}-{window.sequence}",
        rung=plan.rung,
        target=plan.target,
        phase=StepPhase.DECIDED,
        at=window.now,
        to=plan.to,
        was=plan.was,
        objective=episode.objective if same or breach is None else breach.objective,
        promised=episode.promised if same or breach is None else breach.promised,
        before=_observed(window, episode),
        hold_s=policy.grace_s if plan.rung in LASTING else _hold_s(policy, state, plan, window.now),
        message=plan.message,
        expected=plan.expected,
    )


def _observed(window: Window, episode: Episode) -> float:
    """What was seen of the objective when something was decided; of a window without a breach as well."""
    if window.breach is not None:
        return window.breach.observed
    value = value_of(window.report, episode.objective)
    return value if value is not None else window.tally.part


def _hold_s(policy: Guarding, state: GuardState, plan: Plan, now: int) -> float:
    """How long it is held: twice as long as the last time, where it was taken back within the hour; 0: for good."""
    before = [
        step
        for step in state.steps
        if (step.rung, step.target) == (plan.rung, plan.target) and step.helped and step.phase is StepPhase.UNDONE
    ]
    if not before or now - before[-1].ended_at > HOUR_NS:
        return policy.hold_s
    hold_s = min(policy.hold_max_s, 2 * before[-1].hold_s)
    return 0.0 if plan.rung in HARMLESS and hold_s >= min(KEPT_AFTER * policy.hold_s, policy.hold_max_s) else hold_s


def _rest(patience: Patience, state: GuardState, moment: Moment, why: str) -> GuardState:
    """Nothing is left to do: say so, and wait, longer each time."""
    window = moment.window
    step = GuardStep(
        id=f"{state.id}-{window.sequence}", rung=GuardRung.NONE, target=state.id, phase=StepPhase.TOLD, at=window.now,
        told=False, message=why[:1000],
    )  # fmt: skip
    return _told(patience, state, step, window.now)


def _told(patience: Patience, state: GuardState, step: GuardStep, now: int) -> GuardState:
    episode = state.episode
    assert episode is not None
    rest_s = min(REST_MAX_S, patience.rest_s * 2 ** min(episode.rests, 16))
    dry = step.rung is not GuardRung.NONE
    return replace(
        steps.with_step(state, replace(step, ended_at=now)),
        breaches=0,
        run=Burn(),
        last_action_at=now,
        last_action=step.rung.value,
        action_sequence=state.sequence,
        rest_until=now + int(rest_s * NS_PER_S),
        episode=replace(episode, rests=episode.rests + 1, dry_run=dry or episode.dry_run),
    )
