"""What follows from a report: first what it says about the breach and what was done about it, then what to do next. Pure.

Two steps, since the second needs to know the slice's neighbours, and most reports need none of that: ``weigh`` counts a window,
begins and ends breaches, measures actions and finds those to take back; ``act`` chooses the next action.

Invariant: a report is counted once, however often it is delivered. There is one action at a time, which is measured before the
next, and a cool-down lies between them unless the last was in vain or is found not to be enough; in an hour there are no more
than the policy's budget; what helps is taken back only after a hold, which doubles when it is needed again.
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
    SloReported,
    StepPhase,
)
from mica.slo_guard import steps
from mica.slo_guard.burning import (
    AFTER_S,
    BUDGET,
    FAST,
    Fire,
    Tally,
    burned,
    burning,
    calm,
    flooded,
    goes_on,
    nearness,
    not_enough,
    run_on,
)
from mica.slo_guard.judge import LATE, Breach, better
from mica.slo_guard.ladder import Plan, Scene, choose
from mica.slo_guard.steps import HARMLESS, HOLDING, KEPT_AFTER, LASTING, NS_PER_S, SILENCE_S

HOUR_NS: Final = 3600 * NS_PER_S
REST_MAX_S: Final = 3600.0
QUIET_TIMES: Final = 1.5
QUIET_SPARE_S: Final = 0.25
"""While nothing is to be taken back by mistake, so many times the budget may be bad, and so many seconds beside."""
CLOSE_S: Final = 30.0
"""A breach is over when the SLO has been kept for so long and nothing is in force for it."""
BEAT_S: Final = 20.0
"""While something is in force, good windows are written down so often: so that nobody takes silence for what is none."""
PROVEN: Final = frozenset({GuardRung.PAUSE, GuardRung.MOVE, GuardRung.EVICT})
"""A neighbour to whom that was done in vain is not the reason."""


class Patience(Struct, frozen=True, kw_only=True):
    """How patient the guard is where a pool's policy does not say.

    ``windows`` bad ones in a row are enough where nobody counts requests. Actions are ``cooldown_s`` apart; where nothing could
    be done it rests ``rest_s``, then twice that, up to an hour. A report older than ``stale_s`` says nothing about now.
    """

    windows: int = 3
    cooldown_s: float = 10.0
    rest_s: float = 60.0
    stale_s: float = 60.0


class Window(Struct, frozen=True, kw_only=True):
    """One report as it is judged: at ``now`` (Unix ns), of a window that ended at ``end``."""

    sequence: int
    now: int
    end: int
    report: SloReported
    tally: Tally
    breach: Breach | None = None
    traceparent: str = ""


class Weighed(Struct, frozen=True, kw_only=True):
    """What to remember of a window; None: nothing new. ``fire``: the budget burns; ``wants``: something is to be done."""

    state: GuardState | None = None
    fire: Fire | None = None
    wants: bool = False


def weigh(patience: Patience, state: GuardState, window: Window) -> Weighed:
    """What a window says about a slice of which ``state`` is remembered. Not for a report that was counted before."""
    counted = _counted(state, window)
    fire = burning(counted.burns, counted=window.tally.counted, in_a_row=counted.breaches, windows=patience.windows)
    if fire is None and window.tally.counted:
        fire = flooded(counted.run, counted.breaches, counted.burns)
    after = _episode(counted, window, fire)
    after = _measured(patience, after, window)
    after = take_back(after, window.now)
    late = window.tally.counted and window.tally.is_bad
    near = after.since_ratio, after.since_windows
    falls_short = late and steps.has_helped(after, window.end) and not_enough(after.since, near)
    if fire is None and falls_short:
        bad = after.since.bad / after.since.total
        fire = Fire(short=after.burns[0].spent / BUDGET, long=bad / BUDGET, short_s=FAST.short_s, long_s=AFTER_S)
    rested = window.now >= after.rest_until or falls_short
    wants = fire is not None and not steps.busy(after) and rested
    return Weighed(state=after if _is_news(state, after, window) else None, fire=fire, wants=wants)


def _counted(state: GuardState, window: Window) -> GuardState:
    elapsed_s = max(0, window.end - state.reported_at) / NS_PER_S if state.reported_at else float("inf")
    burns = burned(state.burns, window.tally, elapsed_s)
    bad = window.tally.is_bad
    began = window.end - int(window.tally.window_s * NS_PER_S)
    since, near = Burn(), (0.0, 0)
    if state.episode is not None and steps.is_settled(state, began):
        since = goes_on(state.since, window.tally, elapsed_s)
        promise = state.episode.objective, state.episode.promised
        near = nearness((state.since_ratio, state.since_windows), window.report, promise)
    bad_since = (state.bad_since or began) if bad else (0 if calm(burns) else state.bad_since)
    return replace(
        state,
        sequence=window.sequence,
        reported_at=max(state.reported_at, window.end),
        burns=burns,
        run=run_on(state.run, window.tally, elapsed_s),
        run_since=(state.run_since or began) if bad else 0,
        since=since,
        since_ratio=near[0],
        since_windows=near[1],
        breaches=state.breaches + 1 if bad else 0,
        bad_since=bad_since,
    )


def _episode(state: GuardState, window: Window, fire: Fire | None) -> GuardState:
    """Begin, follow or end a breach."""
    episode = state.episode
    if episode is None or episode.ended_at:
        return _begun(state, window, fire) if fire is not None else state
    observed = window.breach.observed if window.breach and window.breach.objective == episode.objective else episode.worst
    if better(episode.objective, observed, episode.worst, 0.0):
        episode = replace(episode, worst=observed)
    loud = window.tally.is_bad and state.burns[0].spent / BUDGET >= FAST.enter
    if fire is not None and state.quiet_since:
        episode = replace(episode, returned=episode.returned + 1, returned_at=window.now, observed=observed, kept_at=0)
        episode = replace(episode, sequence=window.sequence, told=False)
    state = _quiet(state, window)
    if fire is not None or loud:
        state = replace(state, quiet_since=0)
    elif calm(state.burns) and not window.tally.is_bad and not state.quiet_since:
        state = replace(state, quiet_since=window.end, quiet_bad_s=0.0)
        episode = replace(episode, kept_at=window.end)
    return replace(state, episode=_ended(state, episode, window.now))


def _quiet(state: GuardState, window: Window) -> GuardState:
    """What is bad while the SLO is thought to be kept; more of it than may be, and it is not kept."""
    if not state.quiet_since or not window.tally.is_bad:
        return state
    bad_s = state.quiet_bad_s + window.tally.part * window.tally.window_s
    allowed_s = BUDGET * QUIET_TIMES * max(0, window.end - state.quiet_since) / NS_PER_S + QUIET_SPARE_S
    return replace(state, quiet_bad_s=bad_s, quiet_since=state.quiet_since if bad_s <= allowed_s else 0)


def _begun(state: GuardState, window: Window, fire: Fire | None) -> GuardState:
    breach = window.breach or Breach(
        objective=LATE, observed=window.tally.part, promised=BUDGET, ratio=window.tally.part / BUDGET
    )
    assert fire is not None
    episode = Episode(
        began_at=state.bad_since or window.end, detected_at=window.now, objective=breach.objective, promised=breach.promised,
        observed=breach.observed, worst=breach.observed, burn_short=round(fire.short, 2), burn_long=round(fire.long, 2),
        short_s=fire.short_s,
        long_s=fire.long_s,
        sequence=window.sequence, told=False,
    )  # fmt: skip
    return replace(state, episode=episode, quiet_since=0)


def _ended(state: GuardState, episode: Episode, now: int) -> Episode:
    open_steps = [step for step in steps.holding(state) if step.phase is not StepPhase.KEPT]
    quiet = state.quiet_since and now - state.quiet_since >= CLOSE_S * NS_PER_S
    return replace(episode, ended_at=now) if quiet and not open_steps else episode


def _measured(patience: Patience, state: GuardState, window: Window) -> GuardState:
    for step in state.steps:
        after = steps.measured(
            step, window.report, window.now, kept=not window.tally.is_bad, cooldown_s=patience.cooldown_s
        )  # fmt: skip
        if after is not step:
            state = steps.with_step(state, after)
        if after.ready_at and not step.ready_at and not after.helped:
            state = replace(state, rest_until=min(state.rest_until, window.now))
    return state


def take_back(state: GuardState, now: int) -> GuardState:
    """The state with the newest step that is not needed any more about to be taken back; the next has a hold of its own."""
    step = steps.due(state, now)
    if step is None:
        return state
    return replace(
        steps.with_step(state, steps.to_be_undone(step, "it is not needed any more")), quiet_since=now, quiet_bad_s=0.0
    )


def _is_news(before: GuardState, after: GuardState, window: Window) -> bool:
    """Whether it has to be written: bad windows, what changed, and now and then that all is well while something is in force."""
    if window.tally.is_bad or before.breaches:
        return True
    if (before.episode, before.steps, before.quiet_since) != (after.episode, after.steps, after.quiet_since):
        return True
    stale = window.end - before.reported_at >= BEAT_S * NS_PER_S
    return stale and bool(steps.holding(after))


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
        state = replace(state, episode=_ended(state, episode, now))
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
        before=breach.observed if breach is not None else window.tally.part,
        hold_s=policy.grace_s if plan.rung in LASTING else _hold_s(policy, state, plan, window.now),
        message=plan.message,
        expected=plan.expected,
    )


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
