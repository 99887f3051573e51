"""Whatever happens in whatever order, the launcher's table keeps its promises."""

from collections.abc import Callable
from typing import ClassVar

import pytest
from hypothesis import Phase as Stage
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from msgspec.structs import replace

from mica.cli.launch.deciding import (
    BACKOFF_LAST_S,
    Action,
    Ask,
    Event,
    Exit,
    Kill,
    Look,
    Next,
    Phase,
    Refused,
    Restart,
    Rules,
    Seen,
    Sight,
    Start,
    Started,
    State,
    Stop,
    holds,
    noted,
    step,
)

OFTEN_OPEN = [*Seen, Seen.OPEN, Seen.OPEN, Seen.OPEN, Seen.LEAVING]
SIGHTS = st.builds(Sight, st.sampled_from(OFTEN_OPEN), st.sampled_from(["", "A", "B"])).map(
    lambda sight: replace(sight, place=sight.place or "A") if sight.seen is Seen.OPEN else sight
)
INSIDE = (Phase.RUNNING, Phase.STOPPING)


class Launcher(RuleBasedStateMachine):
    """The table, and a ledger of what it did."""

    step: ClassVar[Callable[[State, Event, Rules, float], Next]] = staticmethod(step)

    @initialize(restart=st.sampled_from(Restart), restarts_max=st.integers(0, 3))
    def begin(self, restart: Restart, restarts_max: int) -> None:
        """Any rules."""
        self.rules = Rules(restart=restart, restarts_max=restarts_max, stop_timeout_s=10, wait_s=60)
        self.state, self.now_s = State(), 0.0
        self.asked = False
        self.living = False
        self.own_ends = 0
        self.place = ""
        self.stops = 0

    def take(self, event: Event) -> None:
        """Play an event, and hold every action against the promises."""
        self.state, actions = type(self).step(self.state, event, self.rules, self.now_s)
        for action in actions:
            self.check(action)

    def check(self, action: Action) -> None:
        """One action."""
        sight = self.state.sight
        if action == Start():
            assert not self.living, "two at a time"
            assert not self.asked, "started after somebody asked for the end"
            assert sight.seen is Seen.OPEN, f"started where nobody gets in: {sight}"
            assert self.rules.restart is not Restart.NEVER or self.state.starts == 1
            assert self.own_ends <= self.rules.restarts_max, "restarted too often in a row"
            self.living, self.place, self.stops = True, sight.place, 0
        elif action == Stop():
            assert self.living
            assert not (sight.seen in (Seen.OPEN, Seen.SHUT) and sight.place in ("", self.place)), "stopped at its place"
            self.stops += 1
            assert self.stops == 1, "asked to end twice"
        elif action == Kill():
            assert self.stops == 1, "killed without being asked"

    @precondition(lambda self: self.state.phase is Phase.STARTING)
    @rule(refused=st.sampled_from([None, None, None, True, False]))
    def answer(self, refused: bool | None) -> None:
        """It runs, or it could not be started."""
        if refused is None:
            self.take(Started())
        else:
            self.living = False
            self.own_ends += 1
            self.take(Refused("no", passing=refused))

    @precondition(lambda self: self.state.phase not in (Phase.STARTING, Phase.ENDED))
    @rule(sight=SIGHTS)
    def look(self, sight: Sight) -> None:
        """The slice is seen anywhere."""
        self.take(Look(sight))
        if self.state.phase is Phase.RUNNING:
            assert holds(self.state), "goes on where the slice is not"
        if self.state.phase is Phase.STOPPING and self.now_s - self.state.since_s >= self.rules.stop_timeout_s:
            assert self.state.killed

    @precondition(lambda self: self.state.phase in INSIDE)
    @rule(status=st.sampled_from([0, 1, 143]), sight=SIGHTS)
    def exit(self, status: int, sight: Sight) -> None:
        """It ends, and that is judged by a look taken afterwards."""
        stopped = self.state.phase is Phase.STOPPING
        self.state = noted(self.state, sight, self.now_s)
        moved = stopped or (not holds(self.state) and status != 0)
        self.own_ends = self.own_ends if moved else self.own_ends + 1
        self.living = False
        self.take(Exit(status))

    @precondition(lambda self: self.state.phase not in (Phase.STARTING, Phase.ENDED))
    @rule(delivered=st.booleans(), rarely=st.integers(0, 9))
    def ask(self, delivered: bool, rarely: int) -> None:
        """Somebody asks for the end; of a launcher that only waits that is all, so that it seldom happens."""
        if self.state.phase is Phase.WAITING and rarely:
            return
        self.asked = True
        self.take(Ask(15, delivered=delivered))

    @rule(seconds=st.sampled_from([0.1, 10.0, BACKOFF_LAST_S]))
    def pass_time(self, seconds: float) -> None:
        """Time goes by, never so much that a life counts as healthy."""
        if self.state.phase is not Phase.RUNNING:
            self.now_s += seconds

    @invariant()
    def ends_only_without_a_program(self) -> None:
        """After the end nothing runs."""
        if hasattr(self, "state") and self.state.phase is Phase.ENDED:
            assert not self.living


def forgetful(state: State, event: Event, rules: Rules, now_s: float) -> Next:
    """A table that forgets who asked for the end: the control."""
    after, actions = step(state, event, rules, now_s)
    return replace(after, asked=0), actions


def test_the_table_keeps_its_promises() -> None:
    """One at a time, only where it may, bounded, never after the end was asked for."""
    run_state_machine_as_test(Launcher, settings=settings(max_examples=200, stateful_step_count=30, deadline=None))


def test_a_forgetful_table_is_found_out() -> None:
    """The control: without the memory of who asked, something starts after the end was asked for."""

    class Forgetful(Launcher):
        step = staticmethod(forgetful)

    unshrunk = settings(
        max_examples=500, stateful_step_count=30, deadline=None, database=None, derandomize=True, phases=[Stage.generate]
    )
    with pytest.raises(AssertionError, match="after somebody asked"):
        run_state_machine_as_test(Forgetful, settings=unshrunk)
