"""The arithmetic of ``mica bench slo``: from answered requests and the device's books to percentiles, windows and moments.

Invariant: pure; latencies are those that the tenant's own clock saw, device time is what the device's books say.
"""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import pairwise
from math import ceil
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from mica.events import Slo, SloReported

NS_PER_MS: Final = 1e6
NS_PER_S: Final = 1_000_000_000


TOKENS_LEAST: Final = 5
"""Of a shorter answer nobody asks how fast its tokens came."""


class Answer(Struct, frozen=True):
    """An answered request: its number, and when it arrived and its first and last token came (CLOCK_MONOTONIC, ns)."""

    number: int
    arrived_ns: int
    first_ns: int
    ended_ns: int
    tokens: int = 1

    @property
    def latency_ms(self) -> float:
        """From its arrival to its last token."""
        return (self.ended_ns - self.arrived_ns) / NS_PER_MS

    @property
    def ttft_ms(self) -> float:
        """From its arrival to its first token."""
        return (self.first_ns - self.arrived_ns) / NS_PER_MS

    @property
    def tpot_ms(self) -> float | None:
        """From token to token, on average; None of a short answer."""
        return (self.ended_ns - self.first_ns) / NS_PER_MS / (self.tokens - 1) if self.tokens >= TOKENS_LEAST else None

    def keeps(self, slo: Slo) -> bool:
        """Whether it is what was promised."""
        pairs = ((self.latency_ms, slo.p99_ms), (self.ttft_ms, slo.ttft_ms), (self.tpot_ms, slo.tpot_ms))
        return all(seen is None or bound is None or seen <= bound for seen, bound in pairs)


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest value that so large a part of them does not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[max(0, ceil(part * len(ordered)) - 1)] if ordered else 0.0


def p99_ms(answers: Sequence[Answer]) -> float:
    """Of the latencies."""
    return quantile([answer.latency_ms for answer in answers], 0.99)


def tpots_ms(answers: Sequence[Answer]) -> list[float]:
    """Of those that are long enough."""
    return [answer.tpot_ms for answer in answers if answer.tpot_ms is not None]


def attained_pct(answers: Sequence[Answer], slo: Slo) -> float:
    """The part of the requests for which the promise was kept."""
    return 100.0 * sum(answer.keeps(slo) for answer in answers) / len(answers) if answers else 0.0


class Stretch(Struct, frozen=True, kw_only=True):
    """A window of the workload's own: how long it was (s), what was answered in it, and how many wait at its end."""

    seconds: float
    answers: Sequence[Answer]
    waiting: int


def report_of(slice_id: str, stretch: Stretch, slo: Slo, at: int) -> SloReported:
    """What a workload says of one window."""
    answers = stretch.answers
    latencies = [answer.latency_ms for answer in answers]
    late = sum(not answer.keeps(slo) for answer in answers)
    tpots = tpots_ms(answers)
    report = SloReported(
        at=at,
        id=slice_id,
        window_s=stretch.seconds,
        requests=len(answers),
        rate_hz=len(answers) / stretch.seconds,
        late=late,
        inflight=stretch.waiting,
    )
    if not answers:
        return report
    return replace(
        report,
        p50_ms=quantile(latencies, 0.5),
        p95_ms=quantile(latencies, 0.95),
        p99_ms=quantile(latencies, 0.99),
        ttft_ms=quantile([answer.ttft_ms for answer in answers], 0.99),
        tpot_ms=quantile(tpots, 0.99) if tpots else None,
    )


class Window(Struct, frozen=True):
    """One stretch of a run: when it began after the run's beginning (s), what ended in it, what of that was late; p99 (ms)."""

    at_s: float
    latency_ms: float
    tpot_ms: float
    requests: int
    late: int


def windows(answers: Sequence[Answer], begin_ns: int, seconds: float, every_s: float, slo: Slo) -> list[Window]:
    """The run in stretches of ``every_s``."""
    count = max(1, round(seconds / every_s))
    found: list[list[Answer]] = [[] for _ in range(count)]
    for answer in answers:
        index = int((answer.ended_ns - begin_ns) / NS_PER_S / every_s)
        if 0 <= index < count:
            found[index].append(answer)
    return [
        Window(
            round(index * every_s, 3),
            p99_ms(each),
            quantile(tpots_ms(each), 0.99),
            len(each),
            sum(not answer.keeps(slo) for answer in each),
        )
        for index, each in enumerate(found)
    ]


def late_of(answers: Sequence[Answer], slo: Slo) -> frozenset[int]:
    """The numbers of the requests that were not answered as promised."""
    return frozenset(answer.number for answer in answers if not answer.keeps(slo))


def recovered_s(
    answers: Sequence[Answer], from_ns: int, slo: Slo, quiet_s: float, but: AbstractSet[int] = frozenset()
) -> float | None:
    """How long after ``from_ns`` the last of a series of late requests ended: none is late for ``quiet_s`` after it, or ever.

    A late request that stands alone after that is the tail that any p99 allows; those in ``but`` do not count, because they are
    late with nobody beside, too. None: it never came to rest.
    """
    ends = sorted(
        (answer.ended_ns, not answer.keeps(slo) and answer.number not in but) for answer in answers if answer.ended_ns >= from_ns
    )
    last = from_ns
    for end_ns, is_late in ends:
        if end_ns - last > quiet_s * NS_PER_S:
            break
        last = end_ns if is_late else last
    else:
        if ends and ends[-1][0] - last < quiet_s * NS_PER_S:
            return None
    return (last - from_ns) / NS_PER_S


def busy_seconds(kernel_ns: Sequence[tuple[int, int]]) -> Iterator[tuple[int, float]]:
    """From cumulative kernel time at moments (both ns): the moment, and the part of the device since the one before (percent)."""
    for (before_ns, before), (at_ns, now) in pairwise(kernel_ns):
        if at_ns > before_ns:
            yield at_ns, 100.0 * (now - before) / (at_ns - before_ns)
