"""The benchmarks of the planner: packing, sizing, placing, topology, scale. Invariant: a missed target is printed, too."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from mica.cli._reports import carry_out, print_report

if TYPE_CHECKING:
    from mica.plots import Plot

profiles_option = click.option(
    "--profiles",
    required=True,
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="prof_data_MODEL.csv and scenarios.csv, as ParvaGPU publishes them.",
)


@click.command("slo-packing", help="How few partitioned devices serve the measured scenarios in DIR, proven or with a bound.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@profiles_option
def slo_packing(*, as_json: bool, profiles: Path) -> int:
    """Run the SLO packing benchmark."""
    from mica.bench.slo_packing import run

    report = carry_out(lambda: run(profiles))
    print_report(report, as_json=as_json, title="mica bench slo-packing (measured profiles, no device)")
    return 0 if not any(each.violations for each in report.scenarios.values()) else 1


@click.command(help="How far the formulas of sizing are off, on the measured profiles in DIR.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@profiles_option
def sizing(*, as_json: bool, profiles: Path) -> int:
    """Run the sizing benchmark."""
    from mica.bench.sizing import run

    report = carry_out(lambda: run(profiles))
    print_report(report, as_json=as_json, title="mica bench sizing (measured profiles, no device)")
    return 0


@click.command(
    help="How much of a fleet is allocated when more is asked for than it has: mica, beside best fit and FGD, on a trace."
)
@click.option(
    "--trace",
    "folder",
    required=True,
    type=click.Path(exists=True, file_okay=False),
    help="A folder with openb_node_list_*.csv and openb_pod_list_NAME.csv (Alibaba's cluster-trace-gpu-v2023).",
)
@click.option("--workload", "workloads", multiple=True, metavar="NAME", help="One of the folder; may be repeated. All, without.")
@click.option(
    "--seeds", metavar="A-B", callback=lambda _c, _p, text: _seeds(text), help="A range, or one [42-51; over time 42-44]."
)
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="NAME",
    help="bestfit, fgd, value, mica, mica_moving, mica_moving_5.",
)
@click.option("--by-planner", is_flag=True, help="mica: as the planner service decides, with quotas, ledgers and explanations.")
@click.option("--over-time", is_flag=True, help="Pods come and go at the trace's own times, instead of coming in random order.")
@click.option("--load", "loads", type=float, multiple=True, help="Over time: so much of the capacity is asked for [1.0].")
@click.option("--part", type=float, help="Over time: so large a part of the nodes [0.1].")
@click.option("--warm-up", type=float, help="Over time: measure after so large a part of the arrivals [0.1].")
@click.option("--wait", is_flag=True, help="Over time: what fits nowhere waits, first come first served, instead of being gone.")
@click.option("--plots", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Draw the figures as SVG.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def placement(*, as_json: bool, over_time: bool, plots: Path | None, **given: object) -> int:
    """Run the placement benchmark."""
    wanted = {name: value for name, value in given.items() if value}
    if over_time and "by_planner" in wanted:
        raise click.ClickException("bench: --by-planner: allowed without --over-time")
    try:
        return (_placement_over_time if over_time else _placement)(wanted, plots, as_json=as_json)
    except msgspec.ValidationError as error:
        raise click.ClickException(f"bench: {error}") from error


def _placement(wanted: dict[str, object], plots: Path | None, *, as_json: bool) -> int:
    from mica.bench._plots import over_arrivals_plot
    from mica.bench.placement import HEAD, Plan, rows, run_with_curves
    from mica.cli._table import show_table

    timed = sorted({"loads", "part", "warm_up", "wait"} & wanted.keys())
    if timed:
        raise click.ClickException(f"bench: --{timed[0].rstrip('s').replace('_', '-')}: allowed with --over-time")
    plan = msgspec.convert(wanted, Plan)
    report, curves = carry_out(lambda: run_with_curves(plan, lambda line: click.echo(line, err=True)))
    if plots is not None:
        _draw(over_arrivals_plot(curves), plots / "placement-over-arrivals.svg")
    if as_json:
        print_report(report, as_json=True, title="")
        return 0
    click.echo(f"mica bench placement: allocated in % of the capacity, {len(report.seeds)} seeds, {report.seconds:.0f} s")
    show_table(HEAD, rows(report), empty="")
    return 0


def _placement_over_time(wanted: dict[str, object], plots: Path | None, *, as_json: bool) -> int:
    from mica.bench._plots import over_time_plot
    from mica.bench.over_time import HEAD, Plan, rows, run
    from mica.cli._table import show_table

    plan = msgspec.convert(wanted, Plan)
    report, series = carry_out(lambda: run(plan, lambda line: click.echo(line, err=True)))
    if plots is not None:
        for workload, loads in series.items():
            for load, samples in loads.items():
                title = f"{workload}, load {load}, {100 * plan.part:g} % of the nodes"
                _draw(over_time_plot(title, samples), plots / f"placement-over-time-{workload}-{load}.svg")
    if as_json:
        print_report(report, as_json=True, title="")
        return 0
    click.echo(f"mica bench placement --over-time: in % of the capacity, {len(report.seeds)} seeds, {report.seconds:.0f} s")
    show_table(("WORKLOAD", "LOAD", *HEAD), rows(report), empty="")
    for each in report.assumed:
        click.echo(f"assumed: {each}")
    return 0


def _draw(plot: "Plot", path: Path) -> None:
    from mica.plots import PlotError, draw

    try:
        draw(plot, path)
    except PlotError as error:
        raise click.ClickException(f"bench: {error}") from error


def _seeds(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    first, _, last = text.partition("-")
    if not (first.isdecimal() and (last or first).isdecimal() and int(first) <= int(last or first) < 1 << 32):
        raise click.BadParameter(f"got {text!r}, allowed: a number, or two of them as in 42-51")
    return tuple(range(int(first), int(last or first) + 1))


@click.command(help="Whether gangs of 2 and 4 land on a best-connected set, on given topologies and whatever is free on them.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--topo",
    "folder",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of NCCL or hwloc XML and node files.",
)
@click.option("--states", default=256, show_default=True, type=click.IntRange(1, 65_536), help="Occupancy states of each node.")
def topology(*, as_json: bool, folder: Path, states: int) -> int:
    """Run the topology benchmark."""
    from mica.bench.topology import run

    report = carry_out(lambda: run(folder, states))
    print_report(report, as_json=as_json, title="mica bench topology (the running planner, against trying all sets)")
    return 0 if report.best_percent == 100 else 1


@click.command(help="What a placement costs the planner in a fleet of thousands of nodes, how that grows, and what replicas add.")
@click.option("--nodes", default=10_000, show_default=True, type=click.IntRange(10, 100_000), help="Nodes of eight devices each.")
@click.option(
    "--placements", default=20_000, show_default=True, type=click.IntRange(1_000, 10_000_000), help="Requests that are measured."
)
@click.option("--growth/--no-growth", default=True, show_default=True, help="Smaller fleets, too.")
@click.option("--replicas", default=2, show_default=True, type=click.IntRange(1, 16), help="So many planners at once, by pools.")
@click.option("--plots", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Draw how it grows as SVG.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def scale(*, as_json: bool, plots: Path | None, **given: object) -> int:
    """Run the benchmark of large fleets."""
    from mica.bench._plots import growth_plot
    from mica.bench.scale import HEAD, Plan, rows, run
    from mica.cli._table import show_table

    report = carry_out(lambda: run(msgspec.convert(given, Plan), lambda line: click.echo(line, err=True)))
    if plots is not None and report.growth:
        _draw(growth_plot(report.growth), plots / "scale.svg")
    if as_json:
        print_report(report, as_json=True, title="")
        return 0
    click.echo("mica bench scale: the planner's decisions, without the bus")
    show_table(HEAD, rows(report), empty="")
    if report.replicas:
        click.echo(f"{len(report.replicas)} replicas at once: {report.replicas_per_s:g} placements/s")
    return 0
