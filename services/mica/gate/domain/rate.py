"""How many requests a second may pass. Invariant: in any span of t seconds at most ``burst`` + t times ``rate_hz`` of them do.

The generic cell rate algorithm: one number, the time up to which what has passed is paid for. Source: ITU-T I.371, annex A.
"""

from typing import Final

NS_PER_S: Final = 1_000_000_000


class RateLimit:
    """``rate_hz`` requests a second, above 0, and ``burst`` of them at once, at least 1."""

    __slots__ = ("_interval_ns", "_paid_until_ns", "_tolerance_ns")

    def __init__(self, rate_hz: float, burst: int) -> None:
        self._interval_ns = max(1, -int(-NS_PER_S // rate_hz))
        self._tolerance_ns = (burst - 1) * self._interval_ns
        self._paid_until_ns = 0

    def take(self, now_ns: int) -> int:
        """Let one request pass: 0; or the nanoseconds after which one would."""
        early_ns = self._paid_until_ns - now_ns - self._tolerance_ns
        if early_ns > 0:
            return early_ns
        self._paid_until_ns = max(self._paid_until_ns, now_ns) + self._interval_ns
        return 0
