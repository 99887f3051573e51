"""Blocking calls in threads of their own, with one deadline for all that is asked in a round.

Invariant: no call delays another one, and none delays the round beyond its deadline; under one name at most one call is under
way, so that what hangs costs one thread however often it is asked. The threads are daemons: they do not hold up the end of the
process.
"""

import threading
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from queue import Empty, SimpleQueue
from typing import Any

from msgspec import Struct

from mica.bus import Clock, SystemClock

Name = tuple[str, ...]


class Answer(Struct, frozen=True):
    """What came of a call: its value, or the exception that it ended with. ``round`` is that in which it was asked."""

    name: Name
    round: int
    value: Any = None
    error: Exception | None = None


Wait = Callable[["SimpleQueue[Answer]", AbstractSet[Name], float], Answer | None]
"""The next answer of the queue, or None when none of those that are awaited came within so many seconds."""


def wait(answers: "SimpleQueue[Answer]", awaited: AbstractSet[Name], left_s: float) -> Answer | None:  # noqa: ARG001 - as ``Wait``
    """Wait in real time."""
    try:
        return answers.get(timeout=max(0.0, left_s))
    except Empty:
        return None


class Watchdog:
    """Asks, and hears the answers, from one thread: the caller's."""

    def __init__(self, clock: Clock | None = None, wait: Wait = wait) -> None:
        self._clock = clock or SystemClock()
        self._wait = wait
        self._answers: SimpleQueue[Answer] = SimpleQueue()
        self._out: set[Name] = set()
        self._awaited: set[Name] = set()
        self._deadline_ns = 0
        self.round = 0

    def begin(self, within_s: float) -> list[Answer]:
        """A new round; the answers that came too late for earlier ones."""
        self.round += 1
        self._awaited.clear()
        self._deadline_ns = self._clock.monotonic_ns() + int(within_s * 1e9)
        late = []
        while True:
            try:
                late.append(self._came(self._answers.get_nowait()))
            except Empty:
                return late

    def ask(self, name: Name, call: Callable[[], Any]) -> bool:
        """Start the call; False, and nothing is started, while an earlier one of that name has not come back."""
        if name in self._out:
            return False
        self._out.add(name)
        self._awaited.add(name)
        try:
            threading.Thread(target=self._run, args=(name, self.round, call), name="-".join(name), daemon=True).start()
        except RuntimeError as error:  # no more threads can be had
            self._answers.put(Answer(name, self.round, error=error))
        return True

    def next(self) -> Answer | None:
        """The next answer, of an earlier round perhaps; None when all of this round's have come, or its time is over."""
        if not self._awaited:
            return None
        answer = self._wait(self._answers, self._awaited, (self._deadline_ns - self._clock.monotonic_ns()) / 1e9)
        return self._came(answer) if answer is not None else None

    def stuck(self, *beginning: str) -> bool:
        """Whether a call whose name begins so has not come back."""
        return any(name[: len(beginning)] == beginning for name in self._out)

    def _came(self, answer: Answer) -> Answer:
        self._out.discard(answer.name)
        self._awaited.discard(answer.name)
        return answer

    def _run(self, name: Name, in_round: int, call: Callable[[], Any]) -> None:
        try:
            answer = Answer(name, in_round, value=call())
        except Exception as error:  # noqa: BLE001 - whatever a library raises is its answer
            answer = Answer(name, in_round, error=error)
        self._answers.put(answer)
