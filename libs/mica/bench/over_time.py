"""``mica bench placement --over-time``: pods come and go at the trace's own times, on a part of its fleet, at a given load.

The trace is a sample: its pods never took more than 66 of 6,212 GPUs at once. So copies of it are laid over one another
(``mica.simulation``) until the load is reached. Invariant: every policy gets the same pods on the same nodes.
"""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Final

from msgspec import Struct

from mica.bench._errors import BenchError
from mica.bench._machine import Machine, describe_machine
from mica.bench._side_by_side import side_by_side
from mica.bench._trace import has_times, read_fleet, read_jobs, workloads
from mica.simulation import Figure, Policy, Replayed, Sample, Scene, SimulationError, Spread, mean, replayed

ASSUMED: Final = (
    "a pod runs from when it was scheduled (one that never was: created) until it was deleted, however long it waits here",
    "a pod that was there at the trace's end has run as long as was seen",
    "the trace begins when its first hundredth has come, which takes ten of its twelve million seconds, and is a ring",
    "of a GPU's memory nothing is known: it is never short",
)


class Plan(Struct, frozen=True, kw_only=True):
    """What to run; no workload: all of the folder that have times."""

    folder: str
    workloads: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (42, 43, 44)
    policies: tuple[Policy, ...] = (Policy.BEST_FIT, Policy.FGD, Policy.MICA)
    loads: tuple[float, ...] = (1.0,)
    part: float = 0.1
    warm_up: float = 0.1
    wait: bool = False
    processes: int = 0


class Report(Struct, frozen=True, kw_only=True):
    """By workload, load and policy, means over seeds."""

    workloads: dict[str, dict[str, dict[str, Figure]]]
    seeds: tuple[int, ...]
    part: float
    warm_up: float
    wait: bool
    seconds: float
    machine: Machine
    assumed: tuple[str, ...] = ASSUMED
    device: str = "none: a replay of a trace"


class _Run(Struct, frozen=True):
    plan: Plan
    workload: str
    load: float
    policy: Policy
    seed: int


Series = dict[str, dict[str, dict[str, tuple[Sample, ...]]]]
"""By workload, load and policy, what was sampled with the first seed."""


def run(plan: Plan, told: Callable[[str], None] = lambda _: None) -> tuple[Report, Series]:
    """Replay all; ``told`` hears of each figure. Raises BenchError: a trace can not be read, or not be replayed so."""
    begun = perf_counter()
    names = _names(plan, told)
    runs = [
        _Run(plan, name, load, policy, seed)
        for name in names
        for load in plan.loads
        for policy in plan.policies
        for seed in plan.seeds
    ]
    figures: dict[str, dict[str, dict[str, Figure]]] = {name: {f"{load:g}": {} for load in plan.loads} for name in names}
    series: Series = {name: {f"{load:g}": {} for load in plan.loads} for name in names}
    found: list[Figure] = []
    for each, result in zip(runs, side_by_side(_replayed, runs, plan.processes), strict=True):
        series[each.workload][f"{each.load:g}"].setdefault(each.policy, result.samples)
        found.append(result.figure)
        if len(found) == len(plan.seeds):
            figures[each.workload][f"{each.load:g}"][each.policy] = figure = mean(found)
            told(f"{each.workload}, load {each.load:g}, {each.policy}: {figure.allocated.mean:.2f}")
            found = []
    report = Report(
        workloads=figures, seeds=plan.seeds, part=plan.part, warm_up=plan.warm_up, wait=plan.wait,
        seconds=round(perf_counter() - begun, 1), machine=describe_machine(),
    )  # fmt: skip
    return report, series


def _names(plan: Plan, told: Callable[[str], None]) -> tuple[str, ...]:
    folder = Path(plan.folder)
    known = workloads(folder)
    if odd := sorted(set(plan.workloads) - set(known)):
        raise BenchError(f"workload {odd[0]!r}: allowed in {folder}: {', '.join(known)}")
    if plan.workloads:
        return plan.workloads
    timed = tuple(name for name in known if has_times(folder, name))
    for name in sorted(set(known) - set(timed)):
        told(f"{name}: left out, its pods have no times")
    if not timed:
        raise BenchError(f"{folder}: got no workload whose pods have times, allowed: at least one")
    return timed


def _replayed(each: _Run) -> Replayed:
    plan, folder = each.plan, Path(each.plan.folder)
    fleet = read_fleet(folder)
    jobs = read_jobs(folder, each.workload, fleet.models)
    scene = Scene(fleet=fleet, jobs=jobs, part=plan.part, load=each.load, warm_up=plan.warm_up, wait=plan.wait)
    try:
        return replayed(scene, each.policy, each.seed)
    except SimulationError as error:
        raise BenchError(f"{each.workload}: {error}") from error


HEAD: Final = ("POLICY", "WANTED", "ALLOCATED (P5 / P50 / P95)", "REFUSED", "PIECES", "LOST", "FRAGMENTED", "STRANDED", "WAITED")


def rows(report: Report) -> list[tuple[str, ...]]:
    """The report as a table; its columns are ``WORKLOAD``, ``LOAD`` and those of ``HEAD``."""
    return [
        (workload, load, *row(policy, figure))
        for workload, loads in report.workloads.items()
        for load, policies in loads.items()
        for policy, figure in policies.items()
    ]


def row(policy: str, figure: Figure) -> tuple[str, ...]:
    """One policy's figures, in %."""
    return (
        policy, f"{figure.wanted:.2f}", _spread(figure.allocated), f"{figure.refused:.2f}", f"{figure.refused_pieces:.2f}",
        f"{figure.lost:.2f}", _spread(figure.fragmentation), _spread(figure.stranded),
        f"{figure.waited:.1f}, p95 {figure.wait_p95_s:.0f} s" if figure.waited else "-",
    )  # fmt: skip


def _spread(spread: Spread) -> str:
    return f"{spread.mean:.2f} ({spread.p5:.1f} / {spread.p50:.1f} / {spread.p95:.1f})"
