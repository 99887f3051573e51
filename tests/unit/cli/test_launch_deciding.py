"""What the launcher does next: its table, state by state."""

import signal

import pytest

from mica.cli.launch.deciding import (
    BACKOFF_FIRST_S,
    BACKOFF_LAST_S,
    GONE_STATUS,
    HEALTHY_S,
    Action,
    Ask,
    Event,
    Exit,
    Forward,
    Kill,
    Look,
    Phase,
    Refused,
    Restart,
    Rules,
    Say,
    Seen,
    Sight,
    Start,
    Started,
    State,
    Stop,
    step,
)

HERE, THERE = Sight(Seen.OPEN, "fcsp GPU-1"), Sight(Seen.OPEN, "fcsp GPU-2")
LEAVING = Sight(Seen.LEAVING, "fcsp GPU-1", "it leaves device GPU-1")
SHUT = Sight(Seen.SHUT, "fcsp GPU-1", "its control word is drain")
ABSENT = Sight(Seen.ABSENT, why="nobody says why")
GONE = Sight(Seen.GONE, why="it is released")
TERM = int(signal.SIGTERM)


class Play:
    """Plays events to the table and keeps what it wants done, but for what it says."""

    def __init__(self, restart: Restart = Restart.ON_MOVE, **rules: float) -> None:
        self.rules = Rules(restart=restart, **rules)
        self.state = State()
        self.now_s = 0.0
        self.said: list[str] = []

    def take(self, *events: Event) -> list[Action]:
        """The actions that follow; the engine's answer to a start is that it runs."""
        done: list[Action] = []
        for event in events:
            self.state, actions = step(self.state, event, self.rules, self.now_s)
            self.said += [action.text for action in actions if isinstance(action, Say)]
            done += [action for action in actions if not isinstance(action, Say)]
            if Start() in actions:
                self.state, _ = step(self.state, Started(), self.rules, self.now_s)
        return done

    def running(self) -> "Play":
        """As it is once the program runs here."""
        assert self.take(Look(HERE)) == [Start()]
        return self

    def later(self, seconds: float) -> "Play":
        """Time goes by."""
        self.now_s += seconds
        return self


def ended(play: Play) -> tuple[Phase, int]:
    return play.state.phase, play.state.status


def test_a_move_stops_the_program_and_starts_it_where_the_slice_is() -> None:
    """It is asked to end once, and starts as soon as it has, whatever status it ended with; a move is no failure."""
    play = Play().running()
    assert play.take(Look(THERE), Look(THERE)) == [Stop()]
    assert play.take(Exit(143), Look(THERE)) == [Start()]
    assert (play.state.place, play.state.failures, play.state.starts) == ("fcsp GPU-2", 0, 2)


@pytest.mark.parametrize("sight", [LEAVING, ABSENT, GONE, THERE])
def test_whatever_takes_the_place_away_asks_the_program_to_end(sight: Sight) -> None:
    """At the first look, so that it has all of the grace for it."""
    assert Play().running().take(Look(sight)) == [Stop()]


def test_a_slice_that_takes_nobody_in_leaves_alone_what_runs_and_starts_nothing() -> None:
    """Drained by its control word: the program goes on, and after its end the next one waits."""
    play = Play(Restart.ON_FAILURE).running()
    assert play.take(Look(SHUT)) == []
    assert play.take(Exit(1)) == []
    assert play.later(BACKOFF_LAST_S).take(Look(SHUT)) == []
    assert play.take(Look(HERE)) == [Start()]


def test_who_does_not_end_in_time_is_killed_once() -> None:
    """After --stop-timeout, and not before."""
    play = Play(stop_timeout_s=5).running()
    play.take(Look(LEAVING))
    assert play.later(4.9).take(Look(LEAVING)) == []
    assert play.later(0.2).take(Look(LEAVING)) == [Kill()]
    assert play.later(60).take(Look(LEAVING)) == []


@pytest.mark.parametrize(
    ("restart", "status", "again"),
    [
        (Restart.ON_MOVE, 1, False),
        (Restart.ON_MOVE, 0, False),
        (Restart.ON_FAILURE, 1, True),
        (Restart.ON_FAILURE, 137, True),
        (Restart.ON_FAILURE, 0, False),
        (Restart.ALWAYS, 0, True),
        (Restart.ALWAYS, 1, True),
        (Restart.NEVER, 1, False),
    ],
)
def test_an_end_of_its_own_is_the_end_unless_the_rule_says_otherwise(restart: Restart, status: int, *, again: bool) -> None:
    """on-failure looks at the status, always at nothing; without a restart the status is ours."""
    play = Play(restart).running()
    play.take(Exit(status))
    if again:
        assert play.later(BACKOFF_FIRST_S).take(Look(HERE)) == [Start()]
    else:
        assert ended(play) == (Phase.ENDED, status)


def test_restarts_back_off_and_are_bounded() -> None:
    """Each pause is twice the one before; after so many in a row it gives up with the last status."""
    play = Play(Restart.ALWAYS, restarts_max=3).running()
    for pause_s in (0.2, 0.4, 0.8):
        play.take(Exit(3))
        assert play.later(pause_s - 0.01).take(Look(HERE)) == []
        assert play.later(0.02).take(Look(HERE)) == [Start()]
    play.take(Exit(3))
    assert ended(play) == (Phase.ENDED, 3)
    assert "4 times in a row; allowed by --restarts-max: 3" in play.state.message


def test_a_healthy_life_is_forgiven() -> None:
    """Who ran long enough has not failed in a row."""
    play = Play(Restart.ON_FAILURE, restarts_max=1).running()
    for _ in range(5):
        play.later(HEALTHY_S + 1).take(Exit(1))
        assert play.later(2 * BACKOFF_FIRST_S).take(Look(HERE)) == [Start()]


def test_who_is_ended_with_its_place_before_that_was_seen_has_moved() -> None:
    """The enforcer was faster than our look: the look that goes with the end shows why, and it is no failure."""
    play = Play().running()
    play.state = step(play.state, Look(HERE), play.rules, 0)[0]
    from mica.cli.launch.deciding import noted

    play.state = noted(play.state, LEAVING, 0)
    assert play.take(Exit(137)) == []
    assert play.state.phase is Phase.WAITING
    assert play.take(Look(THERE)) == [Start()]


def test_asked_to_end_it_passes_that_on_and_starts_nothing_more() -> None:
    """The program may take its time; its status is ours, also when the slice moves meanwhile."""
    play = Play(Restart.ALWAYS).running()
    assert play.take(Ask(TERM)) == [Forward(TERM)]
    assert play.later(3600).take(Look(HERE)) == []
    assert play.take(Look(THERE)) == [Stop()]
    play.take(Exit(5))
    assert ended(play) == (Phase.ENDED, 5)


def test_what_the_terminal_has_sent_is_not_sent_twice() -> None:
    """Ctrl-C reaches the program without us; it is an end all the same."""
    play = Play(Restart.ALWAYS).running()
    assert play.take(Ask(signal.SIGINT, delivered=True)) == []
    play.take(Exit(130))
    assert ended(play) == (Phase.ENDED, 130)


def test_asked_while_nothing_runs_it_ends_at_once() -> None:
    """With the status of a program that the signal had ended."""
    play = Play()
    play.take(Look(LEAVING), Ask(TERM))
    assert ended(play) == (Phase.ENDED, 128 + TERM)


def test_a_slice_that_is_gone_ends_it_and_says_why() -> None:
    """A queued one is waited for, one that nobody knows of only for so long."""
    play = Play()
    play.later(3600).take(Look(Sight(Seen.SHUT, why="it is queued")))
    assert play.state.phase is Phase.WAITING
    play.take(Look(GONE))
    assert (ended(play), play.state.message) == ((Phase.ENDED, GONE_STATUS), "it is released")


def test_a_slice_of_which_nobody_says_why_is_waited_for_so_long() -> None:
    """The clock starts anew whenever it is seen."""
    play = Play(wait_s=60)
    play.take(Look(ABSENT))
    play.later(59).take(Look(LEAVING), Look(ABSENT))
    play.later(59).take(Look(ABSENT))
    assert play.state.phase is Phase.WAITING
    play.later(1).take(Look(ABSENT))
    assert ended(play) == (Phase.ENDED, GONE_STATUS)


def test_without_restart_it_ends_with_its_place() -> None:
    """A container that is started once is asked to end in time all the same."""
    play = Play(Restart.NEVER).running()
    assert play.take(Look(THERE)) == [Stop()]
    play.take(Exit(0))
    assert ended(play) == (Phase.ENDED, 0)


@pytest.mark.parametrize(("restart", "passing", "phase"), [
    (Restart.ON_FAILURE, True, Phase.WAITING),
    (Restart.ON_FAILURE, False, Phase.ENDED),
    (Restart.NEVER, True, Phase.ENDED),
])  # fmt: skip
def test_what_can_not_start_is_tried_again_only_where_that_may_help(restart: Restart, phase: Phase, *, passing: bool) -> None:
    """A program that is not there will not be; an engine that is away may come back."""
    state, _ = step(State(), Look(HERE), rules := Rules(restart=restart), 0)
    state, _ = step(state, Refused("no engine", passing=passing), rules, 0)
    assert state.phase is phase
