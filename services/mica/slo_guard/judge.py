"""Whether a promise is broken, and what is to be done about it. Pure.

Invariant: a report is counted once, however often it is delivered, and a slice is acted upon at most once in a cool-down.
"""

import math
from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import Struct

from mica.events import PPM, Control, GuardState, Mode, Slo, SloReported

RESIZE: Final = "resize"
NONE: Final = "none"
NS_PER_S: Final = 1_000_000_000


class Policy(Struct, frozen=True, kw_only=True):
    """How patient the guard is.

    It acts after ``windows`` bad windows in a row, then waits ``cooldown_s``; where it could do nothing it waits ``rest_s``.
    A resize multiplies the share by ``step_ppm`` millionths. A report older than ``stale_s`` says nothing about now.
    """

    windows: int = 3
    cooldown_s: float = 10.0
    rest_s: float = 60.0
    stale_s: float = 60.0
    step_ppm: int = 1_250_000


class Breach(Struct, frozen=True, kw_only=True):
    """The worst broken objective of a window. ``ratio`` is how far it is off: above 1."""

    objective: str
    observed: float
    promised: float
    ratio: float


class Standing(Struct, frozen=True, kw_only=True):
    """What the slice has now, on each of its devices."""

    share_ppm: int
    mode: Mode
    control: Control = Control.RUN


class Action(Struct, frozen=True, kw_only=True):
    """What to do: ``resize`` to ``share_ppm``, or ``none`` because of ``message``."""

    kind: str
    share_ppm: int
    message: str


class Verdict(Struct, frozen=True, kw_only=True):
    """What to remember, and what to do now if anything. ``state`` is None when nothing changed."""

    state: GuardState | None = None
    action: Action | None = None


def judge(slo: Slo, report: SloReported) -> Breach | None:
    """The objective that is missed by most, or None. What was not measured is not judged, nor is the rate of an idle window."""
    return max(_breaches(slo, report), key=lambda breach: breach.ratio, default=None)


def decide(policy: Policy, state: GuardState, standing: Standing, window: tuple[int, int, Breach | None]) -> Verdict:
    """What follows from one window: its stream sequence, the time it is judged at (Unix ns), and its breach."""
    sequence, now, breach = window
    if sequence < state.sequence:
        return Verdict()
    if sequence == state.sequence:
        return Verdict(action=_repeated(state, sequence))
    if breach is None:
        return Verdict(state=msgspec.structs.replace(state, breaches=0, sequence=sequence)) if state.breaches else Verdict()
    counted = msgspec.structs.replace(state, breaches=state.breaches + 1, sequence=sequence)
    if counted.breaches < policy.windows or not _rested(policy, state, now):
        return Verdict(state=counted)
    action = _action(policy, standing)
    return Verdict(state=_acted(counted, action, now), action=action)


def stale(policy: Policy, report: SloReported, now: int) -> bool:
    """Whether a report, left over from a time when nobody listened, is too old to act upon."""
    return now - report.at > (policy.stale_s + report.window_s) * NS_PER_S


def refused(state: GuardState, command_sequence: int, now: int) -> GuardState | None:
    """The state after the planner refused the guard's last command; None when it was not the guard's."""
    if state.last_action != RESIZE or state.command_sequence != command_sequence:
        return None
    return msgspec.structs.replace(state, last_action=NONE, last_action_at=now)


def _breaches(slo: Slo, report: SloReported) -> Iterator[Breach]:
    for objective in ("p99_ms", "ttft_ms", "tpot_ms"):
        promised, observed = getattr(slo, objective), getattr(report, objective)
        if promised is not None and _measured(observed) and observed > promised:
            yield Breach(objective=objective, observed=observed, promised=promised, ratio=observed / promised)
    idle = not report.requests and not report.rate_hz
    if slo.rate_hz is not None and report.rate_hz is not None and _measured(report.rate_hz) and not idle:
        promised, observed = slo.rate_hz, max(report.rate_hz, 0.0)
        if observed < promised:
            ratio = promised / observed if observed else math.inf
            yield Breach(objective="rate_hz", observed=observed, promised=promised, ratio=ratio)


def _measured(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _rested(policy: Policy, state: GuardState, now: int) -> bool:
    pause_s = policy.rest_s if state.last_action == NONE else policy.cooldown_s
    return not state.last_action or now - state.last_action_at >= pause_s * NS_PER_S


def _action(policy: Policy, standing: Standing) -> Action:
    share_ppm = min(PPM, -(-standing.share_ppm * policy.step_ppm // PPM))
    if standing.mode is Mode.HARDWARE:
        return _nothing(standing, "a hardware partition has the share it was made with")
    if standing.control is not Control.RUN:
        return _nothing(standing, f"the slice is under control {standing.control}")
    if standing.share_ppm >= PPM:
        return _nothing(standing, "the slice has the whole device")
    return Action(kind=RESIZE, share_ppm=share_ppm, message=f"share from {standing.share_ppm} to {share_ppm} ppm")


def _nothing(standing: Standing, message: str) -> Action:
    return Action(kind=NONE, share_ppm=standing.share_ppm, message=message)


def _acted(state: GuardState, action: Action, now: int) -> GuardState:
    return msgspec.structs.replace(
        state,
        breaches=0,
        last_action=action.kind,
        last_action_at=now,
        last_share_ppm=action.share_ppm,
        action_sequence=state.sequence,
        command_sequence=0,
    )


def _repeated(state: GuardState, sequence: int) -> Action | None:
    """The action that this report caused, when a crash may have kept it from being told."""
    if state.action_sequence != sequence or state.command_sequence:
        return None
    message = f"share to {state.last_share_ppm} ppm" if state.last_action == RESIZE else "nothing can be done"
    return Action(kind=state.last_action, share_ppm=state.last_share_ppm, message=message)
