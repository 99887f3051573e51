"""Who is to blame when a slice's SLO breaks: a neighbour by name, with figures; its own demand; or nobody. Pure.

A neighbour is blamed when what it does to a device that both use stepped up with the breach or shortly before it, clearly beyond
what it did in the time before; or when the slice's bad windows go with the neighbour's busy ones (rank correlation); or, where
nothing is known of the time before, when it is far above its share while the slice is held back. Work, copies and launches are
looked at alike, each against what the whole device does of it.

Invariant: nobody is blamed for less than ``GPU_MIN``, ``COPY_MIN`` or ``LAUNCH_MIN`` more; and the slice's own rise goes first.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from statistics import fmean
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from mica.events import PPM
from mica.slo_guard.burning import LIKELY
from mica.slo_guard.sightings import Rate, Seen, Sightings

LOOK_BACK_S: Final = 45.0
"""The time before a breach to which it is compared."""
LEAD_S: Final = 20.0
"""A neighbour that rose longer ago than this before the breach did not cause it by that."""
LAG_S: Final = 1.5
"""Samples are a second apart: a rise may be seen so much after the breach that it caused."""
GPU_MIN: Final = 0.05
COPY_MIN: Final = 64 << 20
LAUNCH_MIN: Final = 200.0
OWN_RISE: Final = 1.3
OWN_BEFORE: Final = 3
LOUD: Final = 0.2
"""A neighbour that takes so much more of a device is a witness of the breach that begins with it."""
OVER_SHARE: Final = 0.1
HELD_BACK: Final = 0.05
CORRELATED: Final = 0.7
PAIRS_MIN: Final = 10
WAIT_S: Final = 2.5
"""So long after a breach began a sample of the time since is waited for."""


class Finding(Struct, frozen=True, kw_only=True):
    """Who it is, and why. ``kind``: ``neighbour``, ``own``, ``nobody`` or ``early`` (samples of the time since are on their way).

    ``cause``: ``gpu``, ``copies`` or ``launches``, of a neighbour. ``held_back``: the part of the time for which the slice's own
    work was held back since; None: not known.
    """

    kind: str
    target: str = ""
    cause: str = ""
    evidence: dict[str, float] = {}
    why: str = ""
    held_back: float | None = None


class Case(Struct, frozen=True, kw_only=True):
    """A breach of ``victim``, on ``devices``, since ``onset_s`` on the guard's clock. ``cleared``: who was found not to be it."""

    victim: str
    devices: tuple[str, ...]
    onset_s: float
    now_s: float
    cleared: AbstractSet[str] = frozenset()


class Metric(Struct, frozen=True):
    """One thing that slices do to a device: the least rise that counts, and how much it counts beside the others."""

    cause: str
    of: Callable[[Rate], float]
    least: float
    weight: float
    unit: str


METRICS: Final = (
    Metric("gpu", lambda rate: rate.gpu, GPU_MIN, 1.0, "gpu_pct"),
    Metric("copies", lambda rate: rate.copied_bytes_per_s, COPY_MIN, 0.6, "copied_mib_per_s"),
    Metric("launches", lambda rate: rate.launches_hz, LAUNCH_MIN, 0.3, "launches_hz"),
)
SCALE: Final = {"gpu_pct": 100.0, "copied_mib_per_s": 1 / (1 << 20), "launches_hz": 1.0}


class Rise(Struct, frozen=True, kw_only=True):
    """How much more a neighbour does of one thing. ``part``: of what all of the device's slices do of it now."""

    target: str
    metric: Metric
    before: float
    now: float
    lead_s: float
    part: float

    @property
    def score(self) -> float:
        """How much of the device's trouble it may explain."""
        return self.part * self.metric.weight


def find(case: Case, seen: Sightings) -> Finding:
    """Who is to blame for a breach, as far as this replica has seen."""
    followed = [device for device in case.devices if seen.on(device)]
    held_back = _held_back(case, seen, followed)
    if followed and held_back is None and case.now_s - case.onset_s < WAIT_S:
        return Finding(kind="early", why="no sample of the time since it began is there yet")
    own = _own_demand(case, seen)
    rises = _risen_most(case, seen, followed)
    if own is not None and not (rises and rises[0].score > _own_rise(case, seen, followed)):
        return replace(own, held_back=held_back)
    if rises:
        return _risen(case, seen, rises[0], held_back)
    for device in followed:
        finding = _correlated(case, seen, device, held_back) or _over_share(case, seen, device, held_back)
        if finding is not None:
            return finding
    why = "no neighbour does clearly more than before" if followed else "nothing is known of its neighbours' work"
    alone = followed and all(set(seen.on(device)) <= {case.victim} for device in followed)
    return Finding(kind="nobody", why="it has no neighbours at work" if alone else why, held_back=held_back)


def has_witness(case: Case, seen: Sightings) -> bool:
    """Whether a neighbour began to take much more of a device as the breach began, and the slice itself did not."""
    followed = [device for device in case.devices if seen.on(device)]
    rises = _risen_most(case, seen, followed)
    return bool(rises) and rises[0].score >= max(LOUD, _own_rise(case, seen, followed))


def _risen_most(case: Case, seen: Sightings, devices: Sequence[str]) -> list[Rise]:
    return sorted((rise for device in devices for rise in _rises(case, seen, device)), key=lambda rise: -rise.score)


def _before(case: Case, rates: Sequence[Rate]) -> list[Rate]:
    return [rate for rate in rates if case.onset_s - LOOK_BACK_S <= rate.to_s <= case.onset_s - LEAD_S / 20]


def _since(case: Case, rates: Sequence[Rate]) -> list[Rate]:
    return [rate for rate in rates if rate.to_s > case.onset_s]


def _held_back(case: Case, seen: Sightings, devices: Sequence[str]) -> float | None:
    found = [rate.throttled for device in devices for rate in _since(case, seen.rates(device, case.victim))]
    return max(found, default=None)


def _rises(case: Case, seen: Sightings, device: str) -> Iterator[Rise]:
    """What each neighbour does clearly more of, its greatest rise."""
    now = {each: _since(case, seen.rates(device, each)) for each in seen.on(device)}
    for target, since in now.items():
        if target in (case.victim, *case.cleared) or not since:
            continue
        found = [rise for metric in METRICS if (rise := _rise(case, seen, (device, target, metric))) is not None]
        parts = [_with_part(rise, now) for rise in found]
        if parts:
            yield max(parts, key=lambda rise: rise.score)


def _rise(case: Case, seen: Sightings, what: tuple[str, str, Metric]) -> Rise | None:
    device, target, metric = what
    rates = seen.rates(device, target)
    before, since = [metric.of(rate) for rate in _before(case, rates)], _since(case, rates)
    if len(before) < OWN_BEFORE and not _came(case, seen, device, target):
        return None
    usual = sorted(before)[int(0.9 * (len(before) - 1))] if before else 0.0
    now = max(metric.of(rate) for rate in since)
    if now - usual < max(metric.least, 0.25 * usual):
        return None
    risen = usual + (now - usual) / 2
    first = next(rate for rate in rates if rate.to_s > case.onset_s - LEAD_S and metric.of(rate) >= risen)
    lead_s = case.onset_s - first.from_s
    if lead_s < -LAG_S:
        return None
    return Rise(target=target, metric=metric, before=usual, now=now, lead_s=lead_s, part=0.0)


def _came(case: Case, seen: Sightings, device: str, target: str) -> bool:
    """Whether the slice was not there before, as far as the device was followed before."""
    since_s, began_s = seen.since_s(device), seen.began_s(device, target)
    return since_s is not None and began_s is not None and since_s < case.onset_s - LEAD_S / 4 and began_s > since_s


def _with_part(rise: Rise, now: dict[str, list[Rate]]) -> Rise:
    total = sum(max(map(rise.metric.of, rates), default=0.0) for rates in now.values())
    part = (rise.now - rise.before) if rise.metric.cause == "gpu" else (rise.now - rise.before) / total if total else 0.0
    return Rise(target=rise.target, metric=rise.metric, before=rise.before, now=rise.now, lead_s=rise.lead_s, part=min(1.0, part))


def _own_demand(case: Case, seen: Sightings) -> Finding | None:
    """Whether clearly more is asked of the slice itself than before: more than chance has it ask for in so short a time."""
    windows = seen.reports(case.victim)
    before = [w.demand_hz for w in windows if case.onset_s - LOOK_BACK_S <= w.at_s <= case.onset_s]
    since = [w for w in windows if w.at_s > case.onset_s]
    if len(before) < OWN_BEFORE or not since:
        return None
    came, span_s = sum(w.came for w in since), sum(w.window_s for w in since)
    usual, now = sorted(before)[int(0.75 * (len(before) - 1))], came / span_s
    if now < OWN_RISE * usual or now - usual < 1.0 or not _beyond_chance(came, usual * span_s):
        return None
    why = f"its own requests rose from {usual:.3g} to {now:.3g} a second"
    return Finding(kind="own", evidence={"requests_before_hz": round(usual, 3), "requests_now_hz": round(now, 3)}, why=why)


def _beyond_chance(came: float, expected: float) -> bool:
    """Whether random arrivals, of which so many are expected, are so many less than once in a hundred times (Chernoff)."""
    return expected <= 0 or came * math.log(came / expected) - (came - expected) >= LIKELY


def _own_rise(case: Case, seen: Sightings, devices: Sequence[str]) -> float:
    """How much more of a device the slice itself uses than before."""
    rises = [0.0]
    for device in devices:
        rates = seen.rates(device, case.victim)
        before, since = [rate.gpu for rate in _before(case, rates)], [rate.gpu for rate in _since(case, rates)]
        if before and since:
            rises.append(max(since) - fmean(before))
    return max(rises)


def _risen(case: Case, seen: Sightings, rise: Rise, held_back: float | None) -> Finding:
    unit, scale = rise.metric.unit, SCALE[rise.metric.unit]
    before, now = rise.before * scale, rise.now * scale
    evidence = {
        f"{unit}_before": round(before, 2),
        f"{unit}_now": round(now, 2),
        "lead_s": round(rise.lead_s, 2),
        "part_of_device_pct": round(rise.part * 100, 1),
    }
    correlation = _best_correlation(case, seen, rise.target, rise.metric)
    if correlation is not None:
        evidence["correlation"] = round(correlation, 2)
    if held_back is not None:
        evidence["held_back_pct"] = round(held_back * 100, 1)
    when = f"{rise.lead_s:.1f} s before" if rise.lead_s > 0 else "as it began"
    why = f"{rise.target} went from {_said(unit, before)} to {_said(unit, now)} {when}"
    return Finding(kind="neighbour", target=rise.target, cause=rise.metric.cause, evidence=evidence, why=why, held_back=held_back)


def _correlated(case: Case, seen: Sightings, device: str, held_back: float | None) -> Finding | None:
    """The neighbour whose busy times are the slice's bad ones, if there is one and the difference is clear."""
    best: tuple[float, str, Metric, float, float] | None = None
    for target in seen.on(device):
        if target in (case.victim, *case.cleared):
            continue
        for metric in METRICS:
            pairs = _pairs(case, seen.reports(case.victim), seen.rates(device, target), metric)
            together = spearman(pairs)
            bad = [value for badness, value in pairs if badness > 1]
            good = [value for badness, value in pairs if badness <= 1]
            if together is None or together < CORRELATED or not bad or not good or fmean(bad) - fmean(good) < metric.least:
                continue
            if best is None or together > best[0]:
                best = (together, target, metric, fmean(good), fmean(bad))
    if best is None:
        return None
    together, target, metric, good_mean, bad_mean = best
    scale = SCALE[metric.unit]
    evidence = {
        "correlation": round(together, 2),
        f"{metric.unit}_in_good_windows": round(good_mean * scale, 2),
        f"{metric.unit}_in_bad_windows": round(bad_mean * scale, 2),
    }
    why = (
        f"{target} is at {_said(metric.unit, bad_mean * scale)} in its bad windows and at"
        f" {_said(metric.unit, good_mean * scale)} in its good ones (rank correlation {together:.2f})"
    )
    return Finding(kind="neighbour", target=target, cause=metric.cause, evidence=evidence, why=why, held_back=held_back)


def _over_share(case: Case, seen: Sightings, device: str, held_back: float | None) -> Finding | None:
    """The neighbour that is furthest above its share, where nothing is known of the time before."""
    known = [rate for target in seen.on(device) for rate in _before(case, seen.rates(device, target))]
    if known or held_back is None or held_back < HELD_BACK:
        return None
    over: dict[str, tuple[float, float, float]] = {}
    for target in seen.on(device):
        since = _since(case, seen.rates(device, target))
        share_ppm = seen.share_ppm(device, target)
        if since and share_ppm and target not in (case.victim, *case.cleared):
            used, share = max(rate.gpu for rate in since), share_ppm / PPM
            over[target] = (used - share, used, share)
    target = max(over, key=lambda each: over[each][0], default="")
    if not target or over[target][0] < OVER_SHARE:
        return None
    _, used, share = over[target]
    evidence = {
        "gpu_pct_now": round(used * 100, 1), "share_pct": round(share * 100, 1), "held_back_pct": round(held_back * 100, 1)
    }  # fmt: skip
    why = f"{target} uses {used * 100:.0f} % of the device, {share * 100:.0f} % is its share, while the slice is held back"
    return Finding(kind="neighbour", target=target, cause="gpu", evidence=evidence, why=why, held_back=held_back)


def _best_correlation(case: Case, seen: Sightings, target: str, metric: Metric) -> float | None:
    windows = seen.reports(case.victim)
    found = (spearman(_pairs(case, windows, seen.rates(device, target), metric)) for device in case.devices)
    return max((each for each in found if each is not None), default=None)


def _pairs(case: Case, windows: Sequence[Seen], rates: Sequence[Rate], metric: Metric) -> list[tuple[float, float]]:
    """Of each of the slice's windows within reach how bad it was, and what the neighbour did at that time."""
    found, index = [], 0
    for window in windows:
        if window.at_s < case.onset_s - 2 * LOOK_BACK_S:
            continue
        while index < len(rates) and rates[index].to_s < window.at_s - 0.5:
            index += 1
        if index < len(rates) and rates[index].from_s <= window.at_s:
            found.append((window.badness, metric.of(rates[index])))
    return found


def spearman(pairs: Sequence[tuple[float, float]]) -> float | None:
    """The rank correlation; None of too few pairs, or where one side never changes."""
    if len(pairs) < PAIRS_MIN:
        return None
    left, right = _ranks([a for a, _ in pairs]), _ranks([b for _, b in pairs])
    mean = (len(pairs) - 1) / 2
    over = sum((a - mean) * (b - mean) for a, b in zip(left, right, strict=True))
    under = sum((a - mean) ** 2 for a in left) * sum((b - mean) ** 2 for b in right)
    return float(over / under**0.5) if under else None


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 0, equal values sharing theirs."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for index in order[start : end + 1]:
            ranks[index] = (start + end) / 2
        start = end + 1
    return ranks


def _said(unit: str, value: float) -> str:
    return {
        "gpu_pct": f"{value:.0f} % of the device",
        "copied_mib_per_s": f"{value:.0f} MiB/s of copies",
        "launches_hz": f"{value:.0f} launches/s",
    }[unit]
