"""What a report says about a slice's promise, the breach and what was done about it. Pure.

``weigh`` counts a window, begins and ends breaches, measures actions and finds those to take back, and needs to know nothing of
the slice's neighbours. What to do next is ``deciding``'s.

Invariant: a report is counted once, however often it is delivered; healthy windows of a slice for which nothing is in force are
not written.
"""

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from mica.events import Burn, Episode, GuardState, SloReported, StepPhase
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
    how_near,
    nearness,
    not_enough,
    run_on,
)
from mica.slo_guard.judge import LATE, Breach, better
from mica.slo_guard.steps import NS_PER_S

QUIET_TIMES: Final = 1.5
QUIET_SPARE_S: Final = 0.25
"""While nothing is to be taken back by mistake, so many times the budget may be bad, and so many seconds beside."""
CLOSE_S: Final = 30.0
"""A breach is over when the SLO has been kept for so long and nothing is in force for it."""
BEAT_S: Final = 20.0
"""While something is in force, good windows are written down so often: so that nobody takes silence for what is none."""


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
    """One report as it is judged: at ``now`` (Unix ns), of a window that ended at ``end``.

    ``witnessed``: a neighbour stepped up as the present run of bad windows began.
    """

    sequence: int
    now: int
    end: int
    report: SloReported
    tally: Tally
    breach: Breach | None = None
    witnessed: bool = False
    traceparent: str = ""


class Weighed(Struct, frozen=True, kw_only=True):
    """What to remember of a window; None: nothing new. ``fire``: the budget burns; ``wants``: something is to be done.

    ``doubts``: it would, had a neighbour stepped up as the run of bad windows began.
    """

    state: GuardState | None = None
    fire: Fire | None = None
    wants: bool = False
    doubts: bool = False


def weigh(patience: Patience, state: GuardState, window: Window) -> Weighed:
    """What a window says about a slice of which ``state`` is remembered. Not for a report that was counted before."""
    counted = _counted(state, window)
    fire = burning(counted.burns, counted=window.tally.counted, in_a_row=counted.breaches, windows=patience.windows)
    if fire is None and window.tally.counted:
        fire = flooded(counted.run, counted.breaches, counted.burns, witnessed=window.witnessed)
    doubts = fire is None and window.tally.counted and flooded(counted.run, counted.breaches, counted.burns, witnessed=True)
    after = _episode(counted, window, fire)
    after = _measured(patience, after, window)
    after = take_back(after, window.now)
    falls_short = window.tally.counted and steps.has_helped(after, window.end) and _falls_short(after, window)
    if fire is None and falls_short:
        bad = after.since.bad / after.since.total
        fire = Fire(short=after.burns[0].spent / BUDGET, long=bad / BUDGET, short_s=FAST.short_s, long_s=AFTER_S)
    rested = window.now >= after.rest_until or falls_short
    wants = fire is not None and not steps.busy(after) and rested
    is_news = fire is not None or _is_news(state, after, window)
    return Weighed(state=after if is_news else None, fire=fire, wants=wants, doubts=bool(doubts))


def _falls_short(state: GuardState, window: Window) -> bool:
    """Whether what was done is not enough, as far as this window and those since tell."""
    assert state.episode is not None
    now = how_near(window.report, (state.episode.objective, state.episode.promised)) or 0.0
    return not_enough(state.since, (state.since_ratio, state.since_windows), late=window.tally.is_bad, now=now)


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
    return replace(state, episode=with_end(state, episode, window.now))


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


def with_end(state: GuardState, episode: Episode, now: int) -> Episode:
    """The breach, and its end when it is over."""
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
    """Whether it has to be written: bad windows, what changed, what follows an action, and a sign of life now and then."""
    if window.tally.is_bad or before.breaches:
        return True
    if (before.episode, before.steps, before.quiet_since) != (after.episode, after.steps, after.quiet_since):
        return True
    fresh = window.end - after.last_action_at <= AFTER_S * NS_PER_S
    stale = window.end - before.reported_at >= BEAT_S * NS_PER_S
    return (fresh or stale) and bool(steps.holding(after))
