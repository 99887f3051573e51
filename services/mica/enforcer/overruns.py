"""What becomes of a process whose work stays on a device beyond its time.

Everything that affects the steps stands in this file. Work that has been launched can not be called back: so the slice is first
kept to its own window or share (throttled), then from launching at all (paused), and then the process is ended. A process that
behaves again climbs down the same way, a step at a time, and only after it has behaved for a while: so one that overruns now and
then stays where it is instead of going to and fro.

Only whose work has been on the device the longest is judged. Others' may not end because his does not; their time begins when
he is gone.

Invariants: pure, the time is handed in. A step up comes after the one before and its own grace; nobody who behaves goes up.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from msgspec import Struct

from mica.enforcer.places import Holder, Place, Work
from mica.events import Control, Grace, LedgerEntry, Mode, Overruns, OverrunStep

TURNS: Final = 50
"""Where there are no windows, work may be on the device for so many quanta: as long as work that nobody knows has it alone."""

STEPS: Final = tuple(OverrunStep)
"""In their order."""

NEXT: Final[Mapping[tuple[OverrunStep, bool], tuple[OverrunStep, str]]] = {
    (OverrunStep.NONE, True): (OverrunStep.THROTTLED, "throttle_s"),
    (OverrunStep.THROTTLED, True): (OverrunStep.PAUSED, "pause_s"),
    (OverrunStep.PAUSED, True): (OverrunStep.TERMINATED, "terminate_s"),
    (OverrunStep.PAUSED, False): (OverrunStep.THROTTLED, "calm_s"),
    (OverrunStep.THROTTLED, False): (OverrunStep.NONE, "calm_s"),
}
"""By the step and whether it overruns: the next step, and after how long."""

CONTROL: Final = {
    OverrunStep.NONE: Control.RUN,
    OverrunStep.THROTTLED: Control.THROTTLE,
    OverrunStep.PAUSED: Control.PAUSE,
    OverrunStep.TERMINATED: Control.PAUSE,
}
"""What the slice of such a process may do."""


class Who(NamedTuple):
    """One process of a slice on one device."""

    place: Place
    holder: Holder


class Progress(Struct, frozen=True):
    """How many launches have ended, and since when none has although some are unfinished (monotonic ns; 0: none is)."""

    ended: int
    since_ns: int


class Terms(Struct, frozen=True):
    """How long a process's work may stay (ns), how patient the node is then, and how far it goes."""

    allowed_ns: int
    grace: Grace
    calm_s: float
    furthest: OverrunStep


class Climb(Struct, frozen=True):
    """Where a process stands: the step, whether it overruns, and since when both have been so (monotonic ns)."""

    step: OverrunStep = OverrunStep.NONE
    over: bool = False
    since_ns: int = 0


def progress(work: Work, before: Progress | None, now_ns: int) -> Progress:
    """What a look at a process's words says, beside the look before."""
    ended = work.launches - work.inflight
    if work.inflight <= 0:
        since_ns = 0
    elif before is not None and before.since_ns and before.ended == ended:
        since_ns = before.since_ns
    else:
        since_ns = now_ns
    stuck_ns = work.stuck_ns if 0 < work.stuck_ns <= now_ns else 0
    return Progress(ended, min(filter(None, (since_ns, stuck_ns)), default=0))


def longest(found: Mapping[Who, Progress], before: tuple[Who, int] | None, now_ns: int) -> tuple[Who, int] | None:
    """Whose work has been on a device the longest, and since when it counts; None: nothing is there.

    Who comes after another had been the longest before counts from now on: his work may have waited behind that one's.
    """
    waiting = {who: its.since_ns for who, its in found.items() if its.since_ns}
    if not waiting:
        return None
    if before is not None and waiting.get(before[0], 0):
        return before[0], max(before[1], waiting[before[0]])
    first = min(waiting, key=lambda who: (waiting[who], who))
    return first, waiting[first] if before is None else now_ns


def terms_of(entry: LedgerEntry, quantum_ns: int, policy: Overruns) -> Terms:
    """What holds for a slice's processes."""
    allowed_ns = entry.window.length_ns if entry.window is not None else TURNS * quantum_ns
    furthest = policy.timeslice if entry.mode is Mode.TIMESLICE else policy.fcsp
    return Terms(allowed_ns, policy.grace(entry.tier), policy.calm_s, furthest)


def advance(climb: Climb, ran_ns: int, terms: Terms, now_ns: int) -> Climb:
    """Where a process stands after a look that found its work there for ``ran_ns``."""
    over = ran_ns > terms.allowed_ns
    if STEPS.index(climb.step) > STEPS.index(terms.furthest):
        return Climb(terms.furthest, over, now_ns)
    since_ns = climb.since_ns
    if over and not climb.over:
        since_ns = max(since_ns, now_ns - (ran_ns - terms.allowed_ns))
    elif over is not climb.over:
        since_ns = now_ns
    next_step, patience = NEXT.get((climb.step, over), (climb.step, ""))
    if not patience or (over and climb.step is terms.furthest):
        return Climb(climb.step, over, since_ns)
    patience_s = terms.calm_s if patience == "calm_s" else getattr(terms.grace, patience)
    due_ns = since_ns + int(patience_s * 1e9)
    return Climb(next_step, over, now_ns) if now_ns >= due_ns else Climb(climb.step, over, since_ns)


def strictest(steps: Iterable[OverrunStep]) -> Control:
    """What a slice may do whose processes stand on these steps."""
    return CONTROL[max(steps, key=STEPS.index, default=OverrunStep.NONE)]
