"""The signals that the launcher hears. Invariant: none of them ends it by itself, and none is lost while it is busy.

They are blocked and waited for, so that they come one by one and no handler runs in the midst of anything.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from msgspec import Struct

ASKING: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
"""Who sends one of these wants the end. SIGHUP means that only where there is a terminal, which is gone then."""
PASSED_ON: Final = frozenset({signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2})
SI_KERNEL: Final = 0x80


class Heard(Struct, frozen=True):
    """A signal, and whether the terminal sent it, to everybody in front of it."""

    number: int
    from_terminal: bool = False


class Ears:
    """Waits for signals. ``before``: the mask that a program is to be started with."""

    def __init__(self, numbers: frozenset[signal.Signals], before: set[int]) -> None:
        self._numbers = numbers
        self.before = before

    def wait(self, limit_s: float) -> list[Heard]:
        """The signals that came, in their order; the first one ends the wait. That of a child's end only does that."""
        found = signal.sigtimedwait(self._numbers, limit_s)
        heard = []
        while found is not None:
            if found.si_signo != signal.SIGCHLD:
                heard.append(Heard(found.si_signo, from_terminal=found.si_code == SI_KERNEL))
            found = signal.sigtimedwait(self._numbers, 0)
        return heard


@contextmanager
def listening() -> Iterator[Ears]:
    """Hear signals in the block. What the caller ignores, as under nohup, stays ignored, by the program, too."""
    numbers = frozenset(each for each in ASKING | PASSED_ON if signal.getsignal(each) is not signal.SIG_IGN)
    numbers |= {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    ears = Ears(numbers, {int(each) for each in before})
    try:
        yield ears
    finally:
        ears.wait(0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
