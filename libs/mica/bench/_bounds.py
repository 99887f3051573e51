"""The bound beside each figure of ``mica bench placement``.

Invariant: it is of the very arrivals that the figure was averaged over, so that no policy's figure for that seed is above it.
"""

from collections import Counter
from collections.abc import Sequence

from mica.bench._bound_programme import Programme
from mica.bench._replay import arrivals
from mica.bench._trace import Trace
from mica.packing import Shape


def bounds(trace: Trace, seeds: Sequence[int], most: Sequence[int]) -> list[tuple[float, ...]]:
    """By seed, what can be allocated at most, in % of the capacity, when each of ``most`` (% of it) has arrived."""
    programme = Programme(trace.nodes, trace.pods)
    return [tuple(_bound(programme, trace, arrivals(trace, seed), each) for each in most) for seed in seeds]


def _bound(programme: Programme, trace: Trace, pods: Sequence[Shape], most: int) -> float:
    """Of the mean of what had come at those arrivals, which is no less than the mean of the bounds there."""
    percents = _percents(trace, pods)
    wanted = nearest(percents, most)
    begin, end = percents.index(wanted), len(percents) - percents[::-1].index(wanted)
    come = Counter[Shape](pods[:begin])
    mean: dict[Shape, float] = {shape: float(count) for shape, count in come.items()}
    for number, pod in enumerate(pods[begin:end]):
        mean[pod] = mean.get(pod, 0.0) + 1 - number / (end - begin)
    return 100 * programme.bound_milli(mean) / trace.capacity_milli


def _percents(trace: Trace, pods: Sequence[Shape]) -> list[int]:
    """After each arrival, how much has arrived, in % of the capacity, as the replay rounds it."""
    arrived, found = 0, []
    for pod in pods:
        arrived += pod.demand_milli
        found.append(round(100 * arrived / trace.capacity_milli))
    return found


def nearest(percents: Sequence[int], most: int) -> int:
    """The per cent nearest to ``most``, and not above it, at which something arrived: on a small trace not all are there."""
    return max((percent for percent in percents if percent <= most), default=min(percents))
