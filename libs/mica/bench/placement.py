"""``mica bench placement``: how much of a fleet each policy allocates when more is asked for than it has.

Workloads are replayed by FGD's method (``_replay.py``), each policy on the same arrivals; runs do not depend on one another and
go side by side. Invariant: means stand with their deviation, and beside what was published for the peers.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from time import perf_counter
from typing import Final

from msgspec import Struct, json

from mica.bench._bounds import bounds, nearest
from mica.bench._errors import BenchError
from mica.bench._machine import Machine, describe_machine
from mica.bench._replay import Replayed, replay
from mica.bench._side_by_side import side_by_side
from mica.bench._trace import read_trace, workloads
from mica.simulation import Policy

PLANNER: Final = "mica.planner.replaying"
"""The planner's own process, started by name."""
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
    """What to run; no workload: all of the folder. ``by_planner``: mica's places are those of the planner service's own code."""

    folder: str
    workloads: tuple[str, ...] = ()
    seeds: tuple[int, ...] = SEEDS
    policies: tuple[Policy, ...] = (Policy.BEST_FIT, Policy.FGD, Policy.MICA, Policy.MICA_MOVING, Policy.MICA_MOVING_5)
    processes: int = 0
    by_planner: bool = False


class Figure(Struct, frozen=True, kw_only=True, rename={"at_100": "100", "at_130": "130", "deviation_100": "100_sd",
                                                       "deviation_130": "130_sd", "published_100": "100_published",
                                                       "published_130": "130_published"}):  # fmt: skip
    """Allocated, in % of the capacity, when 100 and when 130 % of it have arrived: the mean over seeds, and its deviation.

    ``bound``: what no policy can get past (``_bound_programme.py``), the mean over the same seeds; ``gap``: up to there.
    ``moved_pct``: pods moved in the end, in % of those placed; the most of all seeds.
    """

    at_100: float
    at_130: float
    deviation_100: float
    deviation_130: float
    bound_100: float
    bound_130: float
    gap_100: float
    gap_130: float
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
    by_planner: bool = False


class _Bounded(Struct, frozen=True):
    folder: str
    workload: str
    seeds: tuple[int, ...]


Curve = dict[int, float]
"""By per cent of the capacity that has arrived, the per cent that is allocated."""
Curves = dict[str, dict[str, Curve]]
"""By workload and policy, the means over seeds."""


def run(plan: Plan, told: Callable[[str], None] = lambda _: None) -> Report:
    """Replay all; ``told`` hears of each workload that is ready. Raises BenchError: a trace can not be read or replayed."""
    return run_with_curves(plan, told)[0]


def run_with_curves(plan: Plan, told: Callable[[str], None] = lambda _: None) -> tuple[Report, Curves]:
    """The same, with what there is to be drawn."""
    folder = Path(plan.folder)
    known = workloads(folder)
    names = plan.workloads or tuple(known)
    if odd := sorted(set(names) - set(known)):
        raise BenchError(f"workload {odd[0]!r}: allowed in {folder}: {', '.join(known)}")
    begun = perf_counter()
    runs = [
        _Run(plan.folder, name, policy, seed, plan.by_planner and policy is Policy.MICA)
        for name in names
        for policy in plan.policies
        for seed in plan.seeds
    ]
    figures: dict[str, dict[str, Figure]] = {name: {} for name in names}
    curves: Curves = {name: {} for name in names}
    found: list[Replayed] = []
    bounded = [_Bounded(plan.folder, name, plan.seeds) for name in names]
    bound = dict(zip(names, side_by_side(_bounded, bounded, plan.processes), strict=True))
    for each, result in zip(runs, side_by_side(_replayed, runs, plan.processes), strict=True):
        found.append(result)
        if len(found) == len(plan.seeds):
            figures[each.workload][each.policy] = figure = _figure(each, found, bound[each.workload])
            curves[each.workload][each.policy] = _mean([seen.allocated for seen in found])
            told(f"{each.workload}, {each.policy}: {figure.at_100:.2f} / {figure.at_130:.2f}")
            found = []
    report = Report(workloads=figures, seeds=plan.seeds, seconds=round(perf_counter() - begun, 1), machine=describe_machine())
    return report, curves


def _mean(curves: list[Curve]) -> Curve:
    """At the per cents that all have."""
    shared = sorted(set.intersection(*(set(curve) for curve in curves)))
    return {percent: fmean(curve[percent] for curve in curves) for percent in shared}


def _replayed(each: _Run) -> Replayed:
    if each.by_planner:
        return _replayed_by_planner(each)
    return replay(read_trace(Path(each.folder), each.workload), each.policy, each.seed)


def _replayed_by_planner(each: _Run) -> Replayed:
    what = ["--trace", each.folder, "--workload", each.workload, "--seed", str(each.seed)]
    done = subprocess.run([sys.executable, "-m", PLANNER, *what], capture_output=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"{PLANNER}: {done.stderr.decode().strip().splitlines()[-1:]}")
    return json.decode(done.stdout, type=Replayed)


def _bounded(each: _Bounded) -> tuple[float, float]:
    found = bounds(read_trace(Path(each.folder), each.workload), each.seeds, (FULL, OVERFULL))
    return fmean(full for full, _ in found), fmean(over for _, over in found)


def _figure(each: _Run, found: list[Replayed], bound: tuple[float, float]) -> Figure:
    curves = [replayed.allocated for replayed in found]
    full, over = ([curve[nearest(list(curve), most)] for curve in curves] for most in (FULL, OVERFULL))
    moved = [replayed.moved_pct for replayed in found if replayed.moved_pct is not None]
    published = PUBLISHED.get(each.workload, {}).get(each.policy, (None, None))
    return Figure(
        at_100=round(fmean(full), 3),
        at_130=round(fmean(over), 3),
        deviation_100=round(stdev(full), 3) if len(full) > 1 else 0.0,
        deviation_130=round(stdev(over), 3) if len(over) > 1 else 0.0,
        bound_100=round(bound[0], 3),
        bound_130=round(bound[1], 3),
        gap_100=round(bound[0] - fmean(full), 3),
        gap_130=round(bound[1] - fmean(over), 3),
        published_100=published[0],
        published_130=published[1],
        moved_pct=round(max(moved), 3) if moved else None,
    )


HEAD: Final = ("WORKLOAD", "POLICY", "AT 100 %", "AT 130 %", "MOVED", "BOUND", "GAP", "PUBLISHED")


def rows(report: Report) -> list[tuple[str, ...]]:
    """The report as a table."""
    return [
        (
            workload, policy, f"{figure.at_100:.2f} ± {figure.deviation_100:.2f}",
            f"{figure.at_130:.2f} ± {figure.deviation_130:.2f}",
            "" if figure.moved_pct is None else f"{figure.moved_pct:.2f} %",
            f"{figure.bound_100:.2f} / {figure.bound_130:.2f}", f"{figure.gap_100:.2f} / {figure.gap_130:.2f}",
            _published(figure),
        )
        for workload, policies in report.workloads.items()
        for policy, figure in policies.items()
    ]  # fmt: skip


def _published(figure: Figure) -> str:
    if figure.published_130 is None:
        return ""
    return f"{'-' if figure.published_100 is None else f'{figure.published_100:.2f}'} / {figure.published_130:.2f}"
