"""What the benchmarks and the simulator draw. Invariant: a plot shows figures of the report that it stands beside."""

from collections.abc import Mapping, Sequence

from mica.bench.scale import FleetFigures
from mica.plots import Line, Panel, Plot
from mica.simulation import Sample

HOUR_S = 3600.0
DAYS_FROM_H = 72.0


def over_time_plot(title: str, samples: Mapping[str, Sequence[Sample]]) -> Plot:
    """Allocation, fragmentation and stranded capacity over time, by policy."""
    first = next(iter(samples.values()))
    hours = (first[-1].at_s - first[0].at_s) / HOUR_S
    unit, unit_s = ("days", 24 * HOUR_S) if hours > DAYS_FROM_H else ("hours", HOUR_S) if hours > 1 else ("minutes", 60.0)
    at = [(sample.at_s - first[0].at_s) / unit_s for sample in first]
    wanted = Line("asked for", at, [sample.wanted for sample in first], faint=True)

    def lines(field: str) -> list[Line]:
        return [Line(policy, at, [getattr(sample, field) for sample in each]) for policy, each in samples.items()]

    panels = (
        ("Allocated", [*lines("allocated"), wanted]),
        ("Fragmentation: free, but of no use to what comes, on average", lines("fragmentation")),
        ("Stranded: free, but of no use to anything that usually comes", lines("stranded")),
    )
    drawn = [Panel(name, "% of the capacity", each, (None if wanted in each else 0, None)) for name, each in panels]
    return Plot(title, f"{unit} since the measuring began", drawn)


def over_arrivals_plot(curves: Mapping[str, Mapping[str, Mapping[int, float]]], begin: int = 80) -> Plot:
    """What is allocated against what has arrived, by workload and policy, from where they begin to differ."""
    panels = []
    for workload, policies in curves.items():
        lines = [
            Line(policy, xs := [percent for percent in sorted(curve) if percent >= begin], [curve[x] for x in xs])
            for policy, curve in policies.items()
        ]
        most = Line("all of it", [begin, 100], [begin, 100], faint=True)
        panels.append(Panel(workload, "allocated, %", [*lines, most], (begin, 100)))
    return Plot("Allocated against arrived, % of the capacity", "arrived, % of the capacity", panels)


def growth_plot(fleets: Sequence[FleetFigures]) -> Plot:
    """What a placement, and the planner, cost in fleets of more and more nodes."""
    nodes = [each.nodes for each in fleets]
    panels = [
        Panel("Time of one request", "ms", [
            Line("p50", nodes, [each.p50_ms for each in fleets]), Line("p99", nodes, [each.p99_ms for each in fleets]),
        ], (0, None)),
        Panel("Placements of one process", "a second", [
            Line("placements", nodes, [each.placements_per_s for each in fleets]),
        ], (0, None)),
        Panel("Memory of the process", "MiB", [Line("resident", nodes, [each.rss_mib for each in fleets])], (0, None)),
    ]  # fmt: skip
    return Plot("The planner in larger and larger fleets of eight devices a node", "nodes", panels, log_x=True)
