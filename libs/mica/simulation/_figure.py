"""What a replay comes to. Invariant: all of it is of the time looked at, and of the work that came in it."""

from collections.abc import Sequence
from statistics import fmean, quantiles
from typing import Any

import msgspec
from msgspec import Struct

from mica.simulation._engine import Outcome
from mica.simulation._job import Job


class Spread(Struct, frozen=True):
    """Over time, in % of the capacity: the mean, and between which values it lies."""

    mean: float
    p5: float
    p50: float
    p95: float


class Figure(Struct, frozen=True, kw_only=True):
    """One policy over time.

    ``refused``: of the demand (thousandths of a device) that came, the part that was not placed, in %; ``refused_pieces``: of
    the pieces of work. ``lost``: of the device-time that was asked for. ``waited``: of the pieces placed, the part that waited,
    in %, and ``wait_p95_s`` how long.
    """

    wanted: float
    allocated: Spread
    fragmentation: Spread
    stranded: Spread
    refused: float
    refused_pieces: float
    lost: float
    waited: float
    wait_p95_s: float


def figure(jobs: Sequence[Job], outcome: Outcome) -> Figure:
    """The outcome of a replay of ``jobs`` in figures."""
    begin_s, end_s = outcome.watch.begin_s, outcome.watch.end_s
    came = [number for number, job in enumerate(jobs) if begin_s <= job.arrival_s <= end_s]
    refused = [number for number in came if number not in outcome.waited_s]
    waits_s = [outcome.waited_s[number] for number in came if number in outcome.waited_s]

    def demand(numbers: Sequence[int]) -> float:
        return float(sum(jobs[number].shape.demand_milli for number in numbers))

    def device_time(numbers: Sequence[int]) -> float:
        return sum(jobs[number].shape.demand_milli * _within_s(jobs[number], end_s) for number in numbers)

    return Figure(
        wanted=round(fmean(sample.wanted for sample in outcome.samples), 3),
        allocated=_spread([sample.allocated for sample in outcome.samples]),
        fragmentation=_spread([sample.fragmentation for sample in outcome.samples]),
        stranded=_spread([sample.stranded for sample in outcome.samples]),
        refused=_part(demand(refused), demand(came)),
        refused_pieces=_part(len(refused), len(came)),
        lost=_part(device_time(refused), device_time(came)),
        waited=_part(sum(wait_s > 0 for wait_s in waits_s), len(waits_s)),
        wait_p95_s=round(_cuts(waits_s)[18], 1) if len(waits_s) > 1 else 0.0,
    )


def mean(figures: Sequence[Figure]) -> Figure:
    """Of several seeds."""
    return msgspec.convert(_mean([msgspec.to_builtins(each) for each in figures]), Figure)


def _mean(values: Sequence[Any]) -> Any:
    if isinstance(values[0], dict):
        return {name: _mean([each[name] for each in values]) for name in values[0]}
    return round(fmean(values), 3)


def _within_s(job: Job, end_s: float) -> float:
    left_s = end_s - job.arrival_s
    return left_s if job.duration_s is None else min(job.duration_s, left_s)


def _spread(values: Sequence[float]) -> Spread:
    cuts = _cuts(values)
    return Spread(*(round(each, 3) for each in (fmean(values), cuts[0], cuts[9], cuts[18])))


def _cuts(values: Sequence[float]) -> list[float]:
    """At 5, 10, … 95 %."""
    return quantiles(values, n=20, method="inclusive")


def _part(some: float, everything: float) -> float:
    return round(100 * some / everything, 3) if everything else 0.0
