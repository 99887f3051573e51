"""Percentiles of times in bounded memory, which can be added up.

Invariant: a percentile is within 1/256 (0.4 %) of the exact one (by nearest rank) of all that was added.
A time is counted by its highest 8 bits (as HdrHistogram does), in at most 7,296 counters however many times there are.
"""

from typing import Final

BITS: Final = 8
LONGEST_NS: Final = (1 << 63) - 1


class Histogram:
    """Counts of times in nanoseconds."""

    __slots__ = ("_counts", "_max_ns", "_min_ns", "total")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._min_ns, self._max_ns = LONGEST_NS, 0
        self.total = 0

    def add(self, time_ns: int) -> None:
        """Count a time; one below 0 counts as 0."""
        time_ns = min(max(time_ns, 0), LONGEST_NS)
        shift = max(0, time_ns.bit_length() - BITS)
        lowest = time_ns >> shift << shift
        self._counts[lowest] = self._counts.get(lowest, 0) + 1
        self.total += 1
        self._min_ns, self._max_ns = min(self._min_ns, time_ns), max(self._max_ns, time_ns)

    def merge(self, other: "Histogram") -> None:
        """Count all that ``other`` has counted, too."""
        for lowest, count in other._counts.items():  # noqa: SLF001 - one of its own kind
            self._counts[lowest] = self._counts.get(lowest, 0) + count
        self.total += other.total
        self._min_ns, self._max_ns = min(self._min_ns, other._min_ns), max(self._max_ns, other._max_ns)  # noqa: SLF001 - as above

    def percentiles_ns(self, *parts_ppm: int) -> tuple[int, ...]:
        """The times that ``parts_ppm`` millionths of all do not exceed, asked for in ascending order; 0 of nothing."""
        if not self.total:
            return (0,) * len(parts_ppm)
        found, seen = [], 0
        ranks = [max(1, -(-self.total * part // 1_000_000)) for part in parts_ppm]
        counts = iter(sorted(self._counts.items()))
        lowest = 0
        for rank in ranks:
            while seen < rank:
                lowest, count = next(counts)
                seen += count
            found.append(self._middle(lowest))
        return tuple(found)

    def _middle(self, lowest: int) -> int:
        width = 1 << max(0, lowest.bit_length() - BITS)
        return min(max(lowest + width // 2, self._min_ns), self._max_ns)
