"""Work that comes and goes, and how much of it there is at a time.

Invariant: however much is made of it, each piece of work runs as long as it does in the trace.
"""

import math
import random
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

import numpy as np
from msgspec import Struct

from mica.packing import Shape
from mica.simulation._errors import SimulationError

BEFORE: Final = 0.01
"""The first pieces may have come long before the others: a trace that is overlaid begins when this part of them is there."""
DAY_S: Final = 86_400.0
WEEK_S: Final = 7 * DAY_S
COPIES: Final = 10_000


class Job(Struct, frozen=True):
    """A piece of work, when it comes, and how long it runs once it was placed; None: until the end."""

    arrival_s: float
    duration_s: float | None
    shape: Shape


class Watch(Struct, frozen=True):
    """What is looked at: from when to when, and how often, evenly."""

    begin_s: float
    end_s: float
    samples: int = 500

    @property
    def times_s(self) -> list[float]:
        """The moments, both ends among them."""
        return [float(each) for each in np.linspace(self.begin_s, self.end_s, self.samples)]


def watch_for(jobs: Sequence[Job], warm_up: float, samples: int = 500) -> Watch:
    """From the arrival at which so large a part of the work has come until the last one.

    Raises SimulationError: no time is left.
    """
    if not jobs:
        raise SimulationError("work: got none, allowed: at least one piece")
    if not 0 <= warm_up < 1:
        raise SimulationError(f"warm-up: got {warm_up:g}, allowed: a part of the arrivals from 0 to below 1")
    arrivals_s = sorted(job.arrival_s for job in jobs)
    begin_s, end_s = arrivals_s[int(warm_up * len(arrivals_s))], arrivals_s[-1]
    if begin_s >= end_s:
        raise SimulationError(f"work: got all arrivals of the time looked at in one moment ({end_s:g} s), allowed: in several")
    return Watch(begin_s, end_s, samples)


def offered(jobs: Sequence[Job], watch: Watch) -> float:
    """Thousandths of a device that would be in use on average, were nobody refused."""
    present_s = [max(0.0, min(_end_s(job), watch.end_s) - max(job.arrival_s, watch.begin_s)) for job in jobs]
    return sum(job.shape.demand_milli * each for job, each in zip(jobs, present_s, strict=True)) / (watch.end_s - watch.begin_s)


def overlaid(jobs: Sequence[Job], wanted_milli: float, seed: int) -> list[Job]:
    """So many copies of the same work laid over one another that ``wanted_milli`` would be in use on average, at any time.

    The trace is a ring: what runs beyond its end is there at its beginning. Each copy is turned by a time of its own, of a trace
    of more than a week by whole days; of the last copy only a part is taken. Raises SimulationError: that takes too many copies.
    """
    ring = _ring(jobs)
    used_milli = [job.shape.demand_milli * min(job.duration_s or 0.0, ring.length_s) / ring.length_s for job in ring.jobs]
    copies = wanted_milli / sum(used_milli) if sum(used_milli) else COPIES + 1
    if not 0 < copies <= COPIES:
        raise SimulationError(
            f"load: got {wanted_milli / 1000:g} devices in use, allowed: more than 0, at most {COPIES} times what the work takes,"
            f" {sum(used_milli) / 1000:g}"
        )
    draw = random.Random(seed)  # noqa: S311 - an experiment that can be repeated
    found = [each for _ in range(int(copies)) for each in ring.turned(_turn_s(ring, draw), ring.jobs)]
    order, left_milli = list(range(len(ring.jobs))), (copies - int(copies)) * sum(used_milli)
    draw.shuffle(order)
    taken = [
        number for number, so_far in zip(order, accumulate(used_milli[n] for n in order), strict=True) if so_far <= left_milli
    ]
    found += ring.turned(_turn_s(ring, draw), [ring.jobs[number] for number in taken])
    return sorted(found, key=lambda job: job.arrival_s)


class _Ring(Struct, frozen=True):
    """Work within ``length_s``, which then begins anew. All durations are known."""

    jobs: tuple[Job, ...]
    length_s: float

    def turned(self, by_s: float, jobs: Sequence[Job]) -> Iterator[Job]:
        """Some of the work so much later; what runs beyond the end twice, once of them from the beginning on."""
        for job in jobs:
            at_s, duration_s = (job.arrival_s + by_s) % self.length_s, job.duration_s or 0.0
            if duration_s >= self.length_s:
                yield Job(0.0, None, job.shape)
                continue
            yield Job(at_s, duration_s, job.shape)
            if at_s + duration_s > self.length_s:
                yield Job(0.0, at_s + duration_s - self.length_s, job.shape)


def _ring(jobs: Sequence[Job]) -> _Ring:
    """From when the first hundredth has come until the last arrival. Who came before and is still there comes then."""
    watch = watch_for(jobs, BEFORE)
    kept = [
        Job(max(0.0, job.arrival_s - watch.begin_s), min(_end_s(job), watch.end_s if job.duration_s is None else math.inf)
            - max(job.arrival_s, watch.begin_s), job.shape)
        for job in jobs
        if _end_s(job) >= watch.begin_s
    ]  # fmt: skip
    return _Ring(tuple(kept), watch.end_s - watch.begin_s)


def _turn_s(ring: _Ring, draw: random.Random) -> float:
    if ring.length_s <= WEEK_S:
        return draw.random() * ring.length_s
    return draw.randrange(int(ring.length_s / DAY_S)) * DAY_S


def _end_s(job: Job) -> float:
    return math.inf if job.duration_s is None else job.arrival_s + job.duration_s
