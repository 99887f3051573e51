"""The replay: arrivals and departures in the order of their times, and a look at the board now and then.

Invariant: at any moment exactly those stand on the board that were placed and have not left; at equal times whoever leaves does
so before anybody comes, and both before the look. A piece of work that fits nowhere is gone, or waits where waiting is allowed.
"""

import heapq
import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from msgspec import Struct

from mica.simulation._errors import SimulationError
from mica.simulation._job import Job, Watch
from mica.simulation._measure import Measure, Sample
from mica.simulation._placer import Placer
from mica.simulation._waiting import Waiting


class Outcome(Struct, frozen=True):
    """What came of it. ``waited_s``: by number of the job, of those that were placed, how long each waited first."""

    watch: Watch
    samples: tuple[Sample, ...]
    waited_s: dict[int, float]


def simulate(jobs: Sequence[Job], placer: Placer, measure: Measure, watch: Watch, *, wait: bool = False) -> Outcome:
    """Replay ``jobs`` until the end of the watch. Raises SimulationError: they are not in the order of their arrivals."""
    if any(later.arrival_s < sooner.arrival_s for sooner, later in pairwise(jobs)):
        raise SimulationError("work: got an arrival before the one before it, allowed: in the order of arrival")
    replay = _Replay(jobs, placer, wait=wait)
    samples = []
    for at_s in watch.times_s:
        replay.until(at_s)
        samples.append(measure.sample(at_s, placer.board, replay.wanted_milli))
    return Outcome(watch, tuple(samples), replay.waited_s)


class _Replay:
    """Where in time it is, who is due to leave, and who waits."""

    def __init__(self, jobs: Sequence[Job], placer: Placer, *, wait: bool) -> None:
        self._jobs = jobs
        self._placer = placer
        self._waiting = Waiting() if wait else None
        self._next = 0
        self._leaving: list[tuple[float, int]] = []
        self._satisfied: list[tuple[float, int]] = []
        self.wanted_milli = 0
        self.waited_s: dict[int, float] = {}

    def until(self, at_s: float) -> None:
        """Do all that happens up to then."""
        while self._next < len(self._jobs) and self._jobs[self._next].arrival_s <= at_s:
            self._leave(self._jobs[self._next].arrival_s)
            self._arrive(self._next)
            self._next += 1
        self._leave(at_s)
        while self._satisfied and self._satisfied[0][0] <= at_s:
            self.wanted_milli -= heapq.heappop(self._satisfied)[1]

    def _arrive(self, key: int) -> None:
        job = self._jobs[key]
        self.wanted_milli += job.shape.demand_milli
        heapq.heappush(self._satisfied, (_end(job.arrival_s, job), job.shape.demand_milli))
        if self._placer.arrive(key, job.shape, job.arrival_s):
            self._placed(key, job.arrival_s)
        elif self._waiting is not None:
            self._waiting.add(key, job.shape)

    def _placed(self, key: int, now_s: float) -> None:
        job = self._jobs[key]
        self.waited_s[key] = now_s - job.arrival_s
        heapq.heappush(self._leaving, (_end(now_s, job), key))

    def _leave(self, at_s: float) -> None:
        while self._leaving and self._leaving[0][0] <= at_s:
            now_s, key = heapq.heappop(self._leaving)
            self._placer.depart(key, now_s)
            if self._waiting is not None:
                for come in self._waiting.let_in(partial(self._placer.again, now_s=now_s)):
                    self._placed(come, now_s)


def _end(begin_s: float, job: Job) -> float:
    return math.inf if job.duration_s is None else begin_s + job.duration_s
