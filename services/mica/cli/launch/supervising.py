"""Carries out what ``deciding`` decides: one loop that looks, listens and acts.

Invariant: before an end of the program is judged, the slice is looked at anew, so that it is known whether its place has gone.
"""

import time
from collections.abc import Callable, Iterable
from signal import SIGHUP
from typing import Final, Protocol

from msgspec import Struct

from mica.cli._errors import CliError
from mica.cli.launch import deciding
from mica.cli.launch.attach import Attach
from mica.cli.launch.deciding import Action, Event, Exit, Look, Phase, Refused, Rules, Seen, Sight, Started, State, step
from mica.cli.launch.signals import ASKING, Heard
from mica.cli.launch.work import PassingError, Work

LOOK_S: Final = 0.1
"""Between two looks at the slice. Its records are memory, of whose change nobody is told; a look costs some 0.1 ms."""
ASK_S: Final = 2.0
"""Between two questions to the bus."""


class Sights(Protocol):
    """Looks at one slice on this node."""

    def look(self) -> Sight:
        """Where it is now."""

    def attach(self) -> Attach:
        """What a process needs to start now. Raises CliError where it is not here."""

    def node(self) -> str:
        """This node's name, empty where it is not known."""


class World(Struct, frozen=True, kw_only=True):
    """What the supervisor needs. ``wait`` returns the signals that come within so many seconds; ``why`` asks the bus."""

    work: Work
    sights: Sights
    wait: Callable[[float], Iterable[Heard]]
    why: Callable[[str], Sight]
    say: Callable[[str], None]
    at_terminal: bool = False
    now_s: Callable[[], float] = time.monotonic


class Supervisor:
    """One piece of work in one slice."""

    def __init__(self, world: World, rules: Rules) -> None:
        self._world = world
        self._rules = rules
        self._asked_s = float("-inf")
        self._told = ""
        self.state = State(since_s=world.now_s())

    def run(self) -> State:
        """Until the end; nothing of the work is left then."""
        heard: Iterable[Heard] = ()
        try:
            while True:
                self.turn(heard)
                if self.state.phase is Phase.ENDED:
                    return self.state
                heard = self._world.wait(LOOK_S)
        finally:
            self._world.work.close()

    def turn(self, heard: Iterable[Heard]) -> None:
        """Everything that there is to do now."""
        for signal in heard:
            self._hear(signal)
        status = self._world.work.ended() if self._inside() else None
        if self.state.phase is not Phase.ENDED:
            self._see(self._look(), ended=status is not None)
        if status is not None and self._inside():
            self._take(Exit(status))

    def _inside(self) -> bool:
        return self.state.phase in (Phase.RUNNING, Phase.STOPPING)

    def _see(self, sight: Sight, *, ended: bool) -> None:
        """Note it; who has ended is not asked to."""
        if ended:
            self.state = deciding.noted(self.state, sight, self._world.now_s())
        else:
            self._take(Look(sight))
        if self.state.phase is Phase.WAITING and sight.why and sight.why != self._told:
            self._world.say(f"waiting: {sight.why}")
            self._told = sight.why

    def _look(self) -> Sight:
        sight = self._world.sights.look()
        if sight.seen is not Seen.ABSENT or self.state.phase is not Phase.WAITING:
            return sight
        now_s = self._world.now_s()
        if now_s - self._asked_s < ASK_S:
            return self.state.sight if self.state.sight.seen is not Seen.OPEN else sight
        told = self._world.why(self._world.sights.node())
        self._asked_s = self._world.now_s()
        return told

    def _hear(self, heard: Heard) -> None:
        if self.state.phase is Phase.ENDED:
            return
        if heard.number in ASKING or (heard.number == SIGHUP and self._world.at_terminal):
            delivered = heard.from_terminal and heard.number in ASKING and self._world.work.shares_terminal
            self._take(deciding.Ask(heard.number, delivered=delivered))
        elif self._inside():
            self._world.work.forward(heard.number)

    def _take(self, event: Event) -> None:
        self.state, actions = step(self.state, event, self._rules, self._world.now_s())
        for action in actions:
            self._act(action)

    def _act(self, action: Action) -> None:
        work = self._world.work
        match action:
            case deciding.Start():
                self._start()
            case deciding.Stop():
                work.stop()
            case deciding.Kill():
                work.kill()
            case deciding.Forward(number=number):
                work.forward(number)
            case deciding.Say(text=text):
                self._world.say(text)

    def _start(self) -> None:
        """With what ``attach.json`` says now; where that is another place than was seen, the next look shows it."""
        self._told = ""
        try:
            attach = self._world.sights.attach()
            self._world.work.start(attach)
        except PassingError as error:
            self._take(Refused(error.message, passing=True))
        except CliError as error:
            self._take(Refused(error.message))
        else:
            self._take(Started())
