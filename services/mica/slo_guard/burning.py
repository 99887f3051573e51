"""How fast a slice spends its error budget. Pure.

An SLO's bound is to hold for all but ``BUDGET`` of the requests. The burn rate is how many times faster than that they go wrong,
over a long span (it matters) and a short one (it goes on), as in the SRE workbook's chapter on alerting, whose hours are seconds
here. Spans are decaying means instead of sliding windows, and windows weigh by their time and not by their requests: a flood
makes a slice answer fewer, and would make its own bad seconds count for less.

Invariant: what is remembered is four numbers for each span, whatever is reported; and a second weighs as one second, however
many reports tell of it.
"""

import math
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from mica.events import Burn, Slo, SloReported
from mica.slo_guard.judge import LATENCIES, Breach, value_of

BUDGET: Final = 0.01
"""The part of the requests that may break a bound: latencies are promised as 99th percentiles."""

CERTAIN: Final = math.log(1e6)
"""What is counted must be so unlikely, were the SLO kept: of a million healthy looks one is mistaken (Chernoff's bound)."""

LIKELY: Final = math.log(100)
"""The same while something is in force against a breach that was certain: whether it was enough."""

AFTER_S: Final = 10.0
"""Over so long a span is counted what goes wrong although something was done."""

NEAR: Final = 0.85
"""Where the slowest of every few requests takes so much of what is promised on average, the slowest of a hundred takes more."""

FEW: Final = 30
"""A window of fewer requests has no 99th percentile: what it reports as that is its slowest."""

NEAR_WINDOWS: Final = 4
NEAR_MAX: Final = 20
"""The average is of so many windows at least, and of about so many at most."""

CALM: Final = 2.0
"""Below this burn rate, over the shortest span, a breach is thought to be over: far below what begins one."""


class Pair(Struct, frozen=True, kw_only=True):
    """Two spans in seconds, and the burn rate that both must reach; ``blind``: where nobody counted and not in a row."""

    short_s: float
    long_s: float
    enter: float
    blind: float


FAST: Final = Pair(short_s=1.0, long_s=8.0, enter=14.4, blind=math.inf)
"""A flood: two seconds of it are enough, one is not, and two in ten are not unless they follow each other."""

SLOW: Final = Pair(short_s=5.0, long_s=60.0, enter=2.0, blind=30.0)
"""What goes wrong for a minute at twice the rate that was promised."""

SLOW_CAP: Final = 0.2
"""More than that a counted window does not weigh over the slow spans: a second in which all is late is no minute of 2 %."""

RUN_S: Final = 1.5
RUN_WINDOWS: Final = 3
RUN_PART: Final = 0.1
RUN_LEAST: Final = 0.05
"""So many windows in a row, over so long, with so many bad requests in all and so many in each, are a flood as well: one in which
not every request is late. One bad window never is, nor a hiccup that two of them see."""

WITNESSED_S: Final = 1.0
WITNESSED_WINDOWS: Final = 2
WITNESSED_PART: Final = 0.5
"""Where a neighbour stepped up at the same time, so many windows in a row in which so much is late, over so long, are a flood."""

STUCK: Final = 3
"""So many at once that have taken too long already are no chance; fewer, where nothing ends, are told again in each window."""

ABOUT: Final = 0.9
"""Windows are about as long as they say: of a length that is asked for, so much is enough."""

SPANS_S: Final = (FAST.short_s, FAST.long_s, SLOW.short_s, SLOW.long_s)


class Tally(Struct, frozen=True, kw_only=True):
    """A window's requests: ``bad`` of ``total``. Not ``counted``: the window as a whole was good, or so bad."""

    window_s: float
    total: float
    bad: float
    counted: bool = True

    @property
    def part(self) -> float:
        """The part that was bad; 0 of nothing."""
        return min(1.0, self.bad / self.total) if self.total else 0.0

    @property
    def is_bad(self) -> bool:
        """More than may be."""
        return self.part > BUDGET


class Fire(Struct, frozen=True, kw_only=True):
    """The budget burns: at these rates over these spans (s)."""

    short: float
    long: float
    short_s: float
    long_s: float


def tally(slo: Slo, report: SloReported, breach: Breach | None) -> Tally | None:
    """What a report counts for; None when it says nothing: everybody was turned away, or nothing ended of what is under way."""
    ended = report.requests + report.errors
    if report.late is not None and ended:
        bad = report.late + report.errors
        return Tally(window_s=report.window_s, total=ended, bad=bad)
    if not ended and breach is None and report.overdue >= STUCK:
        return Tally(window_s=report.window_s, total=report.inflight, bad=report.overdue)
    waits = report.refused or report.inflight or report.queued
    if waits and not ended and breach is None:
        return None
    failing = bool(ended) and report.errors / ended > BUDGET
    part = 1.0 if failing else _part(slo, report, breach)
    return Tally(window_s=report.window_s, total=1.0, bad=part, counted=False)


def burned(burns: Sequence[Burn], window: Tally, elapsed_s: float) -> tuple[Burn, ...]:
    """The spans after a window that ends ``elapsed_s`` after what ``burns`` know. What nobody remembered was good."""
    before = tuple(burns) if len(burns) == len(SPANS_S) else (Burn(),) * len(SPANS_S)
    caps = (1.0, 1.0, *([SLOW_CAP if window.counted else 1.0] * 2))
    return tuple(_after(burn, (over_s, cap), window, elapsed_s) for burn, over_s, cap in zip(before, SPANS_S, caps, strict=True))


def run_on(run: Burn, window: Tally, elapsed_s: float) -> Burn:
    """The run of clearly bad windows, with one more; an end of it with any other."""
    if window.part < RUN_LEAST:
        return Burn()
    weight_s = min(window.window_s, elapsed_s)
    scale = weight_s / window.window_s
    return Burn(
        spent=run.spent + window.part * weight_s,
        total=run.total + window.total * scale,
        bad=run.bad + min(window.bad, window.total) * scale,
        seconds=run.seconds + weight_s,
    )


def flooded(run: Burn, in_a_row: int, burns: Sequence[Burn], *, witnessed: bool = False) -> Fire | None:
    """Whether a run of counted windows is a flood. ``witnessed``: a neighbour stepped up as it began."""
    windows, over_s, part = RUN_WINDOWS, RUN_S, RUN_PART
    if witnessed:
        windows, over_s, part = WITNESSED_WINDOWS, WITNESSED_S, WITNESSED_PART
    if in_a_row < windows or run.seconds < ABOUT * over_s or run.spent < part * run.seconds or not certain(run):
        return None
    return Fire(short=burns[0].spent / BUDGET, long=burns[1].spent / BUDGET, short_s=FAST.short_s, long_s=FAST.long_s)


def burning(burns: Sequence[Burn], *, counted: bool, in_a_row: int, windows: int) -> Fire | None:
    """Whether the budget burns, and how. ``in_a_row``: bad windows up to now, of which ``windows`` do where nobody counted."""
    for pair, short, long in ((FAST, burns[0], burns[1]), (SLOW, burns[2], burns[3])):
        rates = short.spent / BUDGET, long.spent / BUDGET
        sure = in_a_row >= 2 and certain(long) if counted else in_a_row >= windows or (in_a_row > 0 and rates[1] >= pair.blind)
        if in_a_row and sure and min(rates) >= pair.enter:
            return Fire(short=rates[0], long=rates[1], short_s=pair.short_s, long_s=pair.long_s)
    return None


def calm(burns: Sequence[Burn]) -> bool:
    """Whether it is over, as far as the last second tells."""
    return burns[0].spent / BUDGET < CALM


def goes_on(since: Burn, window: Tally, elapsed_s: float) -> Burn:
    """What was counted since the last action had settled, with one more window."""
    return _after(since, (AFTER_S, 1.0), window, elapsed_s)


def nearness(before: tuple[float, int], report: SloReported, promise: tuple[str, float]) -> tuple[float, int]:
    """How near to the promise the slowest requests were on average, and in how many windows, with one more window."""
    now = how_near(report, promise)
    if now is None:
        return before
    mean, windows = before
    windows = min(windows + 1, NEAR_MAX)
    return mean + (now - mean) / windows, windows


def how_near(report: SloReported, promise: tuple[str, float]) -> float | None:
    """How near to the promise the slowest request of a window of few was; None: it does not say."""
    objective, promised = promise
    observed = value_of(report, objective) if objective in LATENCIES else None
    return observed / promised if promised and observed is not None and 0 < report.requests < FEW else None


def not_enough(since: Burn, near: tuple[float, int], *, late: bool, now: float = 0.0) -> bool:
    """Whether too many requests are bad still, by what was counted since something was done, and by the last window.

    That is certain by their number while there are ``late`` ones, or because the slowest are so near to the promise on average
    (``near``: see ``nearness``), and ``now`` too (or late).
    """
    if not since.total or since.bad / since.total < CALM * BUDGET:
        return False
    mean, windows = near
    return (late and certain(since, LIKELY)) or (windows >= NEAR_WINDOWS and mean >= NEAR and (late or now >= NEAR))


def certain(burn: Burn, least: float = CERTAIN) -> bool:
    """Whether so many bad requests of so many are more than chance, were only ``BUDGET`` of all to be bad.

    ``least``: of what is expected by chance one in e to that power is mistaken.
    """
    if not burn.total or burn.bad / burn.total <= BUDGET:
        return False
    part = min(1.0, burn.bad / burn.total)
    rest = (1 - part) * math.log((1 - part) / (1 - BUDGET)) if part < 1 else 0.0
    return burn.total * (part * math.log(part / BUDGET) + rest) >= least


def _part(slo: Slo, report: SloReported, breach: Breach | None) -> float:
    """How bad a window was of which only percentiles are known: as little as they allow, and all of it without any."""
    if breach is None:
        return 0.0
    if breach.objective != "p99_ms" or slo.p99_ms is None or report.p95_ms is None:
        return 1.0
    if report.p95_ms <= slo.p99_ms:
        return 0.05
    return 1.0 if (report.p50_ms or 0.0) > slo.p99_ms else 0.5


def _after(burn: Burn, span: tuple[float, float], window: Tally, elapsed_s: float) -> Burn:
    over_s, cap = span
    weight_s = min(window.window_s, elapsed_s)
    keep, fresh = math.exp(-elapsed_s / over_s), math.exp(-weight_s / over_s)
    scale = weight_s / window.window_s
    unseen = window.total / window.window_s * over_s * (fresh - keep)
    return Burn(
        spent=burn.spent * keep + min(window.part, cap) * (1 - fresh),
        total=burn.total * keep + window.total * scale + unseen,
        bad=burn.bad * keep + min(window.bad, window.total) * scale,
    )
