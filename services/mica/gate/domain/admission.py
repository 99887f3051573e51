"""How many requests are answered at a time, and which wait.

Invariant: no more than ``concurrency`` are admitted at a time (but those that were when it was lowered), no more than ``queue``
wait, and nobody waits while there is a place. First come, first served.
"""

from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")


class Entry(Enum):
    """What became of a request that came."""

    GO = "go"
    WAIT = "wait"
    FULL = "full"


class Admission(Generic[T]):
    """The places and the queue before them. ``concurrency`` 0: as many as come."""

    def __init__(self, concurrency: int, queue: int) -> None:
        self.concurrency = concurrency
        self.queue = queue
        self.inflight = 0
        self._waiting: dict[T, None] = {}

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def enter(self, who: T) -> Entry:
        """A request comes."""
        if not self._waiting and self._free():
            self.inflight += 1
            return Entry.GO
        if len(self._waiting) < self.queue:
            self._waiting[who] = None
            return Entry.WAIT
        return Entry.FULL

    def leave(self) -> list[T]:
        """One that was admitted is done; those that are admitted now, in the order in which they came."""
        self.inflight -= 1
        return self._admit()

    def withdraw(self, who: T) -> bool:
        """One that waits gives up. False: it does not wait."""
        if who not in self._waiting:
            return False
        del self._waiting[who]
        return True

    def change(self, concurrency: int, queue: int) -> list[T]:
        """Other limits; those that are admitted now. Who waits beyond a shorter queue goes on waiting."""
        self.concurrency, self.queue = concurrency, queue
        return self._admit()

    def _free(self) -> bool:
        return not self.concurrency or self.inflight < self.concurrency

    def _admit(self) -> list[T]:
        admitted: list[T] = []
        while self._waiting and self._free():
            who = next(iter(self._waiting))
            del self._waiting[who]
            self.inflight += 1
            admitted.append(who)
        return admitted
