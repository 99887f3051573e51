"""The story of a slice's last breach, as an engineer would note it. Invariant: every figure is one that the guard went by."""

import time
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from mica.cli._quantities import show_seconds
from mica.events import Episode, GuardRung, GuardState, GuardStep, StepPhase

OBJECTIVES: Final = {
    "p99_ms": ("p99", " ms"),
    "ttft_ms": ("time to first token", " ms"),
    "tpot_ms": ("time per token", " ms"),
    "rate_hz": ("rate", " requests/s"),
    "late": ("part of requests late or failed", ""),
}
UNITS: Final = (
    ("_pct", " %"), ("_mib_per_s", " MiB/s"), ("_hz", "/s"), ("_s", " s"), ("", ""),
)  # fmt: skip
IN_FORCE: Final = frozenset({StepPhase.SENT, StepPhase.IN_FORCE, StepPhase.DECIDED, StepPhase.UNDOING, StepPhase.KEPT})


def breach_lines(state: GuardState, now_ns: int) -> list[str]:
    """What was promised and observed, who was blamed and why, what was done, expected and measured, and what became of it."""
    episode = state.episode
    if episode is None:
        return []
    lines = ["", f"last breach, {_when(episode.detected_at, now_ns)}"]
    lines += [f"  {line}" for line in _seen(episode)]
    lines += [f"  {line}" for line in _blamed(episode)]
    for step in steps_of(state, episode):
        lines += [f"  {line}" for line in _step(step, state.id)]
    return [*lines, *(f"  {line}" for line in _ending(state, episode, now_ns))]


def breach_row(state: GuardState | None) -> dict[str, Any] | None:
    """All that is remembered of it, for ``--json``; None where there was none."""
    if state is None or state.episode is None:
        return None
    return {**msgspec.to_builtins(state.episode), "steps": msgspec.to_builtins(steps_of(state, state.episode))}


def steps_of(state: GuardState, episode: Episode) -> list[GuardStep]:
    """What was done in it, and what was in force when it began."""
    ended = episode.ended_at or time.time_ns() + 1
    return [
        step for step in state.steps if (episode.detected_at <= step.at <= ended) or step.phase in IN_FORCE
    ]  # fmt: skip


def _seen(episode: Episode) -> Iterator[str]:
    name, unit = OBJECTIVES.get(episode.objective, (episode.objective, ""))
    worst = f", at worst {_figure(episode.worst)}{unit}" if episode.worst != episode.observed else ""
    yield f"promised   {name} {_figure(episode.promised)}{unit}"
    yield f"observed   {_figure(episode.observed)}{unit}{worst}"
    found_s = (episode.detected_at - episode.began_at) / 1e9
    burns = (
        f"; the error budget burned {episode.burn_short:.0f} times too fast over {episode.short_s:g} s and"
        f" {episode.burn_long:.1f} times over {episode.long_s:g} s"
        if episode.short_s
        else ""
    )
    yield f"began      {clock(episode.began_at)}, found {found_s:.1f} s later{burns}"
    if episode.returned:
        yield f"came back  {_times(episode.returned)}, the last time at {clock(episode.returned_at)}"


def _blamed(episode: Episode) -> Iterator[str]:
    if not episode.blamed and not episode.why:
        return
    yield f"blamed     {episode.blamed or 'nobody else'}: {episode.why}"
    figures = [f"{_words(name)} {_valued(name, value)}" for name, value in episode.evidence.items()]
    if figures:
        yield f"evidence   {', '.join(figures)}"


def _step(step: GuardStep, slice_id: str) -> Iterator[str]:
    if step.rung is GuardRung.NONE:
        yield f"{clock(step.at)}   nothing was left to do: {step.message}"
        return
    did = "would have done" if step.phase is StepPhase.TOLD else "done"
    whom = f" to {step.target}" if step.target != slice_id else ""
    yield f"{clock(step.at)}   {did}: {step.rung}{whom}: {step.message}"
    if step.expected:
        yield f"           expected: {step.expected}"
    measured = _measured(step)
    if measured:
        yield f"           measured: {measured}"
    fate = _fate(step)
    if fate:
        yield f"           {fate}"


def _measured(step: GuardStep) -> str:
    if step.phase is StepPhase.TOLD:
        return ""
    name, unit = OBJECTIVES.get(step.objective, (step.objective, ""))
    if step.after is None:
        return "" if not step.ready_at else "no request ended since, and the SLO was kept" if step.helped else "nothing"
    verdict = "it helped" if step.helped else "it did not help" if step.ready_at else "too early to tell"
    return f"{name} from {_figure(step.before)} to {_figure(step.after)}{unit}: {verdict}"


def _fate(step: GuardStep) -> str:
    at = clock(step.ended_at) if step.ended_at else ""
    fates = {
        StepPhase.REFUSED: f"refused by the planner at {at}: {step.note}",
        StepPhase.UNDONE: f"undone at {at}: {step.note}",
        StepPhase.LEFT: f"left as it is since {at}: {step.note}",
        StepPhase.UNDOING: f"being undone: {step.note}",
        StepPhase.IN_FORCE: f"in force; undone once the SLO has been kept for {show_seconds(step.hold_s)}",
        StepPhase.KEPT: "in force for good: it was needed again each time that it was undone",
        StepPhase.DECIDED: "being carried out",
    }
    return fates.get(step.phase, "")


def _ending(state: GuardState, episode: Episode, now_ns: int) -> Iterator[str]:
    if episode.kept_at and (state.quiet_since or episode.ended_at):
        lasted = show_seconds((episode.kept_at - episode.began_at) / 1e9)
        over = f"; over since {clock(episode.ended_at)}" if episode.ended_at else ""
        yield f"kept again {clock(episode.kept_at)}, {lasted} after it began{over}"
        return
    rest_s = (state.rest_until - now_ns) / 1e9
    resting = state.steps and state.steps[-1].rung is GuardRung.NONE and rest_s > 0
    yield "goes on" + (f"; tried again in {show_seconds(rest_s)}" if resting else "")


def clock(at_ns: int) -> str:
    """``12:30:05`` in UTC."""
    return time.strftime("%H:%M:%S", time.gmtime(at_ns / 1e9))


def _when(at_ns: int, now_ns: int) -> str:
    stamp = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at_ns / 1e9))
    return f"{stamp}, {show_seconds((now_ns - at_ns) / 1e9)} ago"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def _words(name: str) -> str:
    for suffix in ("_pct", "_mib_per_s", "_hz", "_s"):
        name = name.replace(f"{suffix}_", "_").removesuffix(suffix)
    return name.replace("_", " ").replace("gpu", "GPU")


def _valued(name: str, value: float) -> str:
    unit = next(unit for suffix, unit in UNITS if f"{suffix}_" in f"{name}_")
    return f"{value:g}{unit}"
