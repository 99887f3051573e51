"""The launcher's loop, with work, slice and clock in memory."""

import signal

import pytest

from mica.cli._errors import CliError
from mica.cli.launch.attach import Attach
from mica.cli.launch.deciding import GONE_STATUS, Phase, Restart, Rules, Seen, Sight
from mica.cli.launch.signals import Heard
from mica.cli.launch.supervising import ASK_S, LOOK_S, Supervisor, World
from mica.cli.launch.work import FakeWork, PassingError


class House:
    """A slice that a test moves about, and a supervisor of fake work in it."""

    def __init__(self, rules: Rules, work: FakeWork | None = None, *, at_terminal: bool = False) -> None:
        self.work = work or FakeWork()
        self.now_s = 0.0
        self.here: Attach | None = Attach("s1", "fcsp", {}, node="n1", devices=("GPU-1",))
        self.leaving = False
        self.told = Sight(Seen.ABSENT, why="nobody says why")
        self.questions: list[str] = []
        self.said: list[str] = []
        self.supervisor = Supervisor(
            World(
                work=self.work, sights=self, wait=lambda _: (), why=self.why, say=self.said.append,
                now_s=lambda: self.now_s, at_terminal=at_terminal,
            ),
            rules,
        )  # fmt: skip

    def look(self) -> Sight:
        """See the port."""
        if self.here is None:
            return Sight(Seen.ABSENT)
        return Sight(Seen.LEAVING if self.leaving else Seen.OPEN, self.here.place)

    def attach(self) -> Attach:
        """See the port."""
        if self.here is None:
            raise CliError("slice s1: not on this node")
        return self.here

    def node(self) -> str:
        """See the port."""
        return "n1"

    def why(self, node: str) -> Sight:
        """The bus."""
        self.questions.append(node)
        return self.told

    def move(self, device_id: str) -> None:
        """The slice is on another device."""
        self.here = Attach("s1", "fcsp", {}, node="n1", devices=(device_id,))

    def turn(self, *signals: Heard, times: int = 1) -> Phase:
        """The loop goes round."""
        for _ in range(times):
            self.supervisor.turn(signals)
            self.now_s += LOOK_S
        return self.supervisor.state.phase


def test_each_life_starts_with_what_attach_json_says_then() -> None:
    """It is read anew at each start, also when the place has changed since the look."""
    house = House(Rules(restart=Restart.ON_MOVE))
    house.turn()
    house.move("GPU-2")
    house.turn()
    house.work.status = 0
    house.turn(times=2)
    assert [(life.place, life.signals) for life in house.work.lives] == [("fcsp GPU-1", ["stop"]), ("fcsp GPU-2", [])]


def test_an_end_is_judged_by_a_look_taken_after_it() -> None:
    """Killed by the enforcer together with its place, between two looks: that was no failure."""
    house = House(Rules(restart=Restart.ON_MOVE))
    house.turn()
    house.leaving, house.work.status = True, 137
    assert house.turn() is Phase.WAITING
    assert house.work.lives[0].signals == []
    house.leaving = False
    house.move("GPU-2")
    assert house.turn() is Phase.RUNNING


def test_the_bus_is_asked_only_while_the_slice_is_not_here() -> None:
    """And then once in a while, with this node's name; what it says is told once, and is the end when it says so."""
    house = House(Rules(restart=Restart.ALWAYS))
    house.turn(times=20)
    assert house.questions == []
    house.here = None
    house.turn()
    house.work.status = 0
    house.told = Sight(Seen.SHUT, why="it is queued")
    house.turn(times=int(2.5 * ASK_S / LOOK_S))
    assert house.questions == ["n1"] * 3
    assert house.said.count("waiting: it is queued") == 1
    house.told = Sight(Seen.GONE, why="it is released")
    assert house.turn(times=int(ASK_S / LOOK_S) + 1) is Phase.ENDED
    assert (house.supervisor.state.status, house.supervisor.state.message) == (GONE_STATUS, "it is released")


@pytest.mark.parametrize(("shares", "sent"), [(True, []), (False, ["2"])])
def test_ctrl_c_reaches_the_work_once(shares: bool, sent: list[str]) -> None:
    """A program in our process group has got it from the terminal; a container gets it from us."""
    house = House(Rules(restart=Restart.ALWAYS), FakeWork(shares_terminal=shares))
    house.turn()
    house.turn(Heard(signal.SIGINT, from_terminal=True))
    house.work.status = 130
    assert house.turn() is Phase.ENDED
    assert house.work.lives[0].signals == sent


def test_other_signals_are_the_programs_own() -> None:
    """SIGHUP by hand asks for no end; where nothing runs, nobody gets it."""
    house = House(Rules(restart=Restart.ALWAYS))
    house.turn(Heard(signal.SIGHUP), Heard(signal.SIGUSR1))
    assert house.turn(Heard(signal.SIGHUP)) is Phase.RUNNING
    assert house.work.lives[0].signals == [str(int(signal.SIGHUP))]


def test_when_the_terminal_goes_the_end_is_asked_for() -> None:
    """By the kernel or by the shell: SIGHUP at a terminal is no message to the program alone, and is passed on."""
    house = House(Rules(restart=Restart.ALWAYS), FakeWork(shares_terminal=True), at_terminal=True)
    house.turn()
    house.turn(Heard(signal.SIGHUP, from_terminal=True))
    house.work.status = 129
    assert house.turn() is Phase.ENDED
    assert house.work.lives[0].signals == [str(int(signal.SIGHUP))]


def test_what_may_pass_is_tried_again_and_what_will_not_is_the_end() -> None:
    """An engine that starts anew is waited for; a program that is not there is not."""
    house = House(Rules(restart=Restart.ON_FAILURE))
    house.work.refusals = [PassingError("no engine answers"), CliError("run: x: No such file or directory")]
    assert house.turn() is Phase.WAITING
    assert house.turn(times=5) is Phase.ENDED
    assert (house.supervisor.state.status, house.supervisor.state.message) == (1, "run: x: No such file or directory")


def test_nothing_is_left_whatever_ends_the_loop() -> None:
    """Also when it fails itself."""
    house = House(Rules())
    house.supervisor.state = house.supervisor.state.__class__(phase=Phase.ENDED)
    house.supervisor.run()
    assert house.work.closed
