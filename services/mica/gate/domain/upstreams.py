"""Which of several upstreams gets a request. Invariant: one that can be reached is preferred to one that lately could not."""

from collections.abc import Iterable, Sequence
from typing import Final

REST_NS: Final = 1_000_000_000
"""For so long an upstream that could not be reached is asked only when there is no other."""


class Upstream:
    """One address, such as ``http://127.0.0.1:8000``."""

    __slots__ = ("inflight", "origin", "rests_until_ns")

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.inflight = 0
        self.rests_until_ns = 0


class Upstreams:
    """All of them; of those that are as busy, each in its turn."""

    def __init__(self, origins: Iterable[str]) -> None:
        self.all = [Upstream(origin) for origin in origins]
        self._turn = 0

    def pick(self, now_ns: int, tried: Sequence[Upstream] = ()) -> Upstream | None:
        """The least busy one that was not ``tried``, or None."""
        if len(self.all) == 1:
            return None if tried else self.all[0]
        rest = [each for each in self.all[self._turn :] + self.all[: self._turn] if each not in tried]
        if not rest:
            return None
        chosen = min(rest, key=lambda each: (each.rests_until_ns > now_ns, each.inflight))
        self._turn = (self.all.index(chosen) + 1) % len(self.all)
        return chosen

    def unreachable(self, upstream: Upstream, now_ns: int) -> bool:
        """It could not be reached. True: that is news."""
        news = upstream.rests_until_ns <= now_ns
        upstream.rests_until_ns = now_ns + REST_NS
        return news
