"""Python's search for cycles, in a service that remembers much.

What a service remembers lives long, is in no cycles, and is freed by its reference counts. Left to itself the collector looks at
all of it whenever it has grown by a quarter: half a second without an answer, with the slices of ten thousand nodes. Here what is
new is searched, and what outlives that is put aside until an hour is over.
Owns when cycles are searched for. Invariant: no cycle outlives two searches of everything.
"""

import gc
import time
from collections.abc import Callable
from typing import Final

from mica.bus._pages import Pages

NEW_S: Final = 0.1
"""What is new is searched so often; that takes a millisecond for some ten thousand objects."""
ALL_S: Final = 3600.0


class Collector:
    """Searches for cycles when ``step`` is called, and not otherwise."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin: what is there now is searched, and put aside. ``clock`` tells seconds."""
        self._clock = clock
        self._new_due_s = self._all_due_s = 0.0
        self._pages = Pages()
        gc.disable()
        self._search_all()

    def step(self) -> None:
        """Search what is due; to be called often, between one piece of work and the next."""
        now_s = self._clock()
        if now_s < self._new_due_s:
            return
        if now_s >= self._all_due_s:
            self._search_all()
            return
        gc.collect(0)
        gc.freeze()
        self._pages.step()
        self._new_due_s = now_s + NEW_S

    def end(self) -> None:
        """Leave it to Python again."""
        self._pages.end()
        gc.unfreeze()
        gc.enable()

    def _search_all(self) -> None:
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        now_s = self._clock()
        self._new_due_s, self._all_due_s = now_s + NEW_S, now_s + ALL_S
