"""What the launcher does next: everything that decides it stands in ``TABLE``.

Pure: time is handed in, in seconds of any clock that only goes forward. Invariants: a program is started only where the slice can
be entered now, one at a time, and never again once somebody has asked for the end; who runs at a place that the slice has left is
asked to end; restarts after the program's own end are bounded, those after a move are not, since each needs a new place.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

BACKOFF_FIRST_S: Final = 0.2
BACKOFF_LAST_S: Final = 30.0
HEALTHY_S: Final = 60.0
"""Who ran for so long has not failed in a row with what was before."""

GONE_STATUS: Final = 69
"""The exit status when there is no slice any more to run in (EX_UNAVAILABLE of sysexits.h)."""


class Restart(StrEnum):
    """When the program is started again; each includes the one before it."""

    NEVER = "never"
    ON_MOVE = "on-move"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


class Phase(StrEnum):
    """Where the launcher stands."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"


class Seen(StrEnum):
    """What can be seen of the slice.

    ``open``: whoever starts at ``place`` gets in. ``shut``: nobody gets in now, what is inside goes on. ``leaving``: what is
    inside has to end. ``absent``: it is not here, and nobody says why. ``gone``: it will not be here again.
    """

    OPEN = "open"
    SHUT = "shut"
    LEAVING = "leaving"
    ABSENT = "absent"
    GONE = "gone"


class Sight(Struct, frozen=True):
    """One look at the slice. ``place`` is empty where it has none; ``why`` is for people."""

    seen: Seen
    place: str = ""
    why: str = ""


class Rules(Struct, frozen=True, kw_only=True):
    """What the launcher was told. ``restarts_max``: after so many in a row it gives up.

    ``stop_timeout_s``: between asking the program to end and making it. ``wait_s``: how long a slice may be absent.
    """

    restart: Restart = Restart.NEVER
    restarts_max: int = 5
    stop_timeout_s: float = 10.0
    wait_s: float = 60.0


class Look(Struct, frozen=True):
    """The slice was looked at."""

    sight: Sight


class Started(Struct, frozen=True):
    """The program runs."""


class Refused(Struct, frozen=True):
    """The program could not be started. ``passing``: it may be possible later."""

    message: str
    passing: bool = False


class Exit(Struct, frozen=True):
    """The program and all that it started is gone; ``status`` is as a shell tells it."""

    status: int


class Ask(Struct, frozen=True):
    """Somebody sent us the signal ``number``, which asks for the end. ``delivered``: the program has got it, too."""

    number: int
    delivered: bool = False


Event = Look | Started | Refused | Exit | Ask


class Start(Struct, frozen=True):
    """Start the program where the slice was seen last; to be answered with Started or Refused."""


class Stop(Struct, frozen=True):
    """Ask the program to end."""


class Kill(Struct, frozen=True):
    """End the program and all that it started."""


class Forward(Struct, frozen=True):
    """Send the program this signal."""

    number: int


class Say(Struct, frozen=True):
    """Tell the user."""

    text: str


Action = Start | Stop | Kill | Forward | Say


class State(Struct, frozen=True, kw_only=True):
    """Where the launcher stands.

    ``since_s``: since when it is in its phase; ``place``: where the program runs, or ran last; ``due_s``: before that it is not
    started; ``failures``: ends in a row that were the program's own; ``absent_s``: since when the slice is absent; ``asked``:
    the signal by which the end was asked for; ``status`` and ``message``: how it ended.
    """

    phase: Phase = Phase.WAITING
    since_s: float = 0.0
    sight: Sight = Sight(Seen.ABSENT)
    place: str = ""
    due_s: float = 0.0
    failures: int = 0
    starts: int = 0
    absent_s: float | None = None
    asked: int = 0
    killed: bool = False
    status: int = 0
    message: str = ""


Next = tuple[State, tuple[Action, ...]]


def step(state: State, event: Event, rules: Rules, now_s: float) -> Next:
    """What becomes of the launcher, and what it does."""
    if isinstance(event, Look):
        state = noted(state, event.sight, now_s)
    return TABLE[state.phase, type(event)](state, event, rules, now_s)


def holds(state: State) -> bool:
    """Whether the slice is still where the program runs."""
    return state.sight.seen in (Seen.OPEN, Seen.SHUT) and state.sight.place in ("", state.place)


def noted(state: State, sight: Sight, now_s: float) -> State:
    """The state with what was seen, before anything follows from it."""
    since_s = now_s if state.absent_s is None else state.absent_s
    return replace(state, sight=sight, absent_s=since_s if sight.seen is Seen.ABSENT else None)


def _to(state: State, phase: Phase, now_s: float, **changes: object) -> State:
    return replace(state, phase=phase, since_s=now_s, **changes)


def _end(state: State, now_s: float, status: int, message: str = "") -> Next:
    return _to(state, Phase.ENDED, now_s, status=status, message=message), ()


def _wait(state: State, _: object, rules: Rules, now_s: float) -> Next:
    """Start as soon as the slice can be entered; give up when it will not come."""
    sight = state.sight
    if sight.seen is Seen.GONE:
        return _end(state, now_s, GONE_STATUS, sight.why)
    if state.absent_s is not None and now_s - state.absent_s >= rules.wait_s:
        return _end(state, now_s, GONE_STATUS, f"not on this node for {rules.wait_s:g} s, allowed by --wait; {sight.why}")
    if sight.seen is not Seen.OPEN or now_s < state.due_s:
        return state, ()
    return _to(state, Phase.STARTING, now_s, place=sight.place, starts=state.starts + 1, killed=False), (Start(),)


def _begin(state: State, _: object, __: Rules, now_s: float) -> Next:
    return _to(state, Phase.RUNNING, now_s), ()


def _refuse(state: State, event: Refused, rules: Rules, now_s: float) -> Next:
    if event.passing and rules.restart is not Restart.NEVER:
        return _again(state, 1, event.message, rules, now_s)
    return _end(state, now_s, 1, event.message)


def _check_place(state: State, _: object, __: Rules, now_s: float) -> Next:
    """Ask the program to end as soon as the slice is elsewhere, so that it can use all of the grace."""
    if holds(state):
        return state, ()
    where = "has moved" if state.sight.seen is Seen.OPEN else state.sight.why or state.sight.seen
    return _to(state, Phase.STOPPING, now_s), (Say(f"{where}; the program is asked to end"), Stop())


def _press(state: State, _: object, rules: Rules, now_s: float) -> Next:
    if state.killed or now_s - state.since_s < rules.stop_timeout_s:
        return state, ()
    return replace(state, killed=True), (Say(f"still there after {rules.stop_timeout_s:g} s; it is killed"), Kill())


def _own_end(state: State, event: Exit, rules: Rules, now_s: float) -> Next:
    """The program ended without our asking for it; or the enforcer ended it before we saw why."""
    moves = rules.restart is not Restart.NEVER and event.status != 0 and not holds(state)
    if state.asked or rules.restart is Restart.NEVER:
        return _end(state, now_s, event.status)
    if moves:
        return _to(state, Phase.WAITING, now_s), (Say(f"the program ended with its place ({event.status})"),)
    failed = event.status != 0 and rules.restart is Restart.ON_FAILURE
    if not failed and rules.restart is not Restart.ALWAYS:
        return _end(state, now_s, event.status)
    return _again(state, event.status, f"the program ended with status {event.status}", rules, now_s)


def _again(state: State, status: int, why: str, rules: Rules, now_s: float) -> Next:
    """Once more after a pause, each twice the one before, unless it was too often."""
    healthy = state.phase is Phase.RUNNING and now_s - state.since_s >= HEALTHY_S
    failures = 1 if healthy else state.failures + 1
    if failures > rules.restarts_max:
        return _end(state, now_s, status, f"{why}, {failures} times in a row; allowed by --restarts-max: {rules.restarts_max}")
    pause_s = min(BACKOFF_FIRST_S * 2.0 ** (failures - 1), BACKOFF_LAST_S)
    waiting = _to(state, Phase.WAITING, now_s, failures=failures, due_s=now_s + pause_s)
    return waiting, (Say(f"{why}; again in {pause_s:g} s ({failures} of {rules.restarts_max})"),)


def _stopped(state: State, event: Exit, rules: Rules, now_s: float) -> Next:
    """It ended because its place is gone: that is nobody's failure."""
    if state.asked:
        return _end(state, now_s, event.status)
    if rules.restart is Restart.NEVER:
        return _end(state, now_s, event.status, f"ended, as its place is gone ({event.status}); --restart starts it again")
    return _to(state, Phase.WAITING, now_s), ()


def _pass_on(state: State, event: Ask, _: Rules, __: float) -> Next:
    """The program may take its time, or another view: it is not killed for it."""
    return replace(state, asked=event.number), () if event.delivered else (Forward(event.number),)


def _give_up(state: State, event: Ask, _: Rules, now_s: float) -> Next:
    return _end(state, now_s, 128 + event.number)


TABLE: Final[dict[tuple[Phase, type[Event]], Callable[..., Next]]] = {
    (Phase.WAITING, Look): _wait,
    (Phase.WAITING, Ask): _give_up,
    (Phase.STARTING, Started): _begin,
    (Phase.STARTING, Refused): _refuse,
    (Phase.RUNNING, Look): _check_place,
    (Phase.RUNNING, Exit): _own_end,
    (Phase.RUNNING, Ask): _pass_on,
    (Phase.STOPPING, Look): _press,
    (Phase.STOPPING, Exit): _stopped,
    (Phase.STOPPING, Ask): _pass_on,
}
"""What happens in which phase; starting ends before anything else is looked at, and after the end nothing is."""
