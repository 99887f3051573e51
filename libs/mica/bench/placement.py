"""``mica bench placement``: how much of a fleet each policy allocates when more is asked for than it has.

Workloads are replayed by FGD's method (``_replay.py``), each policy on the same arrivals; runs do not depend on one another and
go side by side. Invariant: means stand with their deviation, and beside what was published for the peers.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev
from time import perf_counter
from typing import Final

from msgspec import Struct

from mica.bench._errors import BenchError
from mica.bench._machine import Machine, describe_machine
from mica.bench._replay import Policy, replay
from mica.bench._trace import read_trace, workloads

FULL: Final = 100
OVERFULL: Final = 130
SEEDS: Final = tuple(range(42, 52))
PUBLISHED: Final[dict[str, dict[Policy, tuple[float | None, float]]]] = {
    "default": {Policy.BEST_FIT: (92.86, 93.08), Policy.FGD: (95.23, 95.39)},
    "cpu050": {Policy.BEST_FIT: (None, 93.79), Policy.FGD: (None, 95.21)},
    "cpu200": {Policy.BEST_FIT: (None, 92.40), Policy.FGD: (None, 95.05)},
    "gpushare40": {Policy.BEST_FIT: (None, 91.69), Policy.FGD: (None, 94.15)},
    "gpushare100": {Policy.BEST_FIT: (None, 85.01), Policy.FGD: (None, 86.90)},
    "gpuspec10": {Policy.BEST_FIT: (None, 93.30), Policy.FGD: (None, 94.95)},
    "gpuspec33": {Policy.BEST_FIT: (80.39, 93.09), Policy.FGD: (87.84, 94.55)},
    "multigpu20": {Policy.BEST_FIT: (None, 93.93), Policy.FGD: (None, 95.65)},
}
"""Means of the authors' own simulator, at 100 and at 130 % arrived (hkust-adsl/kubernetes-scheduler-simulator)."""


class Plan(Struct, frozen=True, kw_only=True):
    """What to run; no workload: all of the folder."""

    folder: str
    workloads: tuple[str, ...] = ()
    seeds: tuple[int, ...] = SEEDS
    policies: tuple[Policy, ...] = (Policy.BEST_FIT, Policy.FGD, Policy.MICA, Policy.MICA_MOVING, Policy.MICA_MOVING_5)
    processes: int = 0


class Figure(Struct, frozen=True, kw_only=True, rename={"at_100": "100", "at_130": "130", "deviation_100": "100_sd",
                                                       "deviation_130": "130_sd", "published_100": "100_published",
                                                       "published_130": "130_published"}):  # fmt: skip
    """Allocated, in % of the capacity, when 100 and when 130 % of it have arrived: the mean over seeds, and its deviation.

    ``moved_pct``: pods moved in the end, in % of those placed; the most of all seeds.
    """

    at_100: float
    at_130: float
    deviation_100: float
    deviation_130: float
    published_100: float | None = None
    published_130: float | None = None
    moved_pct: float | None = None


class Report(Struct, frozen=True, kw_only=True):
    """By workload and policy."""

    workloads: dict[str, dict[str, Figure]]
    seeds: tuple[int, ...]
    seconds: float
    machine: Machine
    device: str = "none: a replay of a trace"


class _Run(Struct, frozen=True):
    folder: str
    workload: str
    policy: Policy
    seed: int


class _Result(Struct, frozen=True):
    at_100: float
    at_130: float
    moved_pct: float | None


def run(plan: Plan, told: Callable[[str], None] = lambda _: None) -> Report:
    """Replay all; ``told`` hears of each workload that is ready. Raises BenchError: a trace can not be read or replayed."""
    folder = Path(plan.folder)
    known = workloads(folder)
    names = plan.workloads or tuple(known)
    if odd := sorted(set(names) - set(known)):
        raise BenchError(f"workload {odd[0]!r}: allowed in {folder}: {', '.join(known)}")
    begun = perf_counter()
    runs = [_Run(plan.folder, name, policy, seed) for name in names for policy in plan.policies for seed in plan.seeds]
    figures: dict[str, dict[str, Figure]] = {name: {} for name in names}
    found: dict[tuple[str, Policy], list[_Result]] = {}
    for each, result in zip(runs, _side_by_side(runs, plan.processes), strict=True):
        values = found.setdefault((each.workload, each.policy), [])
        values.append(result)
        if len(values) == len(plan.seeds):
            figures[each.workload][each.policy] = figure = _figure(each, values)
            told(f"{each.workload}, {each.policy}: {figure.at_100:.2f} / {figure.at_130:.2f}")
    return Report(workloads=figures, seeds=plan.seeds, seconds=round(perf_counter() - begun, 1), machine=describe_machine())


def _side_by_side(runs: list[_Run], processes: int) -> Iterable[_Result]:
    processes = min(processes or len(os.sched_getaffinity(0)), len(runs))
    if processes == 1:
        yield from map(_replayed, runs)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_replayed, runs)


def _replayed(each: _Run) -> _Result:
    replayed = replay(read_trace(Path(each.folder), each.workload), each.policy, each.seed)
    curve = replayed.allocated
    return _Result(curve[_last(curve, FULL)], curve[_last(curve, OVERFULL)], replayed.moved_pct)


def _last(curve: dict[int, float], most: int) -> int:
    """The per cent nearest to ``most``, and not above it, at which something arrived: on a small trace not all are there."""
    return max((percent for percent in curve if percent <= most), default=min(curve))


def _figure(each: _Run, values: list[_Result]) -> Figure:
    full, over = [value.at_100 for value in values], [value.at_130 for value in values]
    moved = [value.moved_pct for value in values if value.moved_pct is not None]
    published = PUBLISHED.get(each.workload, {}).get(each.policy, (None, None))
    return Figure(
        at_100=round(fmean(full), 3),
        at_130=round(fmean(over), 3),
        deviation_100=round(stdev(full), 3) if len(full) > 1 else 0.0,
        deviation_130=round(stdev(over), 3) if len(over) > 1 else 0.0,
        published_100=published[0],
        published_130=published[1],
        moved_pct=round(max(moved), 3) if moved else None,
    )


HEAD: Final = ("WORKLOAD", "POLICY", "AT 100 %", "AT 130 %", "MOVED", "PUBLISHED")


def rows(report: Report) -> list[tuple[str, ...]]:
    """The report as a table."""
    return [
        (
            workload, policy, f"{figure.at_100:.2f} ± {figure.deviation_100:.2f}",
            f"{figure.at_130:.2f} ± {figure.deviation_130:.2f}",
            "" if figure.moved_pct is None else f"{figure.moved_pct:.2f} %", _published(figure),
        )
        for workload, policies in report.workloads.items()
        for policy, figure in policies.items()
    ]  # fmt: skip


def _published(figure: Figure) -> str:
    if figure.published_130 is None:
        return ""
    return f"{'-' if figure.published_100 is None else f'{figure.published_100:.2f}'} / {figure.published_130:.2f}"
