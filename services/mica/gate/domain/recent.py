"""Counts over the last while. Invariant: what is older than the window, but for a tenth of it, is not counted."""

from typing import Final

SLOTS: Final = 10


class Recent:
    """Counts of ``kinds`` sorts of things over ``window_ns``, in tenths of it."""

    def __init__(self, window_ns: int, kinds: int) -> None:
        self._slot_ns = max(1, window_ns // SLOTS)
        self._counts = [[0] * kinds for _ in range(SLOTS)]
        self._latest = 0

    def add(self, kind: int, now_ns: int) -> None:
        """One more of ``kind``."""
        self._turn(now_ns)
        self._counts[self._latest % SLOTS][kind] += 1

    def totals(self, now_ns: int) -> list[int]:
        """How many of each kind."""
        self._turn(now_ns)
        return [sum(column) for column in zip(*self._counts, strict=True)]

    def clear(self) -> None:
        """Forget everything."""
        for slot in self._counts:
            slot[:] = [0] * len(slot)

    def _turn(self, now_ns: int) -> None:
        slot = now_ns // self._slot_ns
        for number in range(max(self._latest + 1, slot - SLOTS + 1), slot + 1):
            counts = self._counts[number % SLOTS]
            counts[:] = [0] * len(counts)
        self._latest = max(self._latest, slot)
