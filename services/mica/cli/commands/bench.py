"""``mica bench``: measures this machine, on systems of its own. Invariant: a figure that misses its target is printed too."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
import msgspec

from mica.bench import BenchError
from mica.cli._quantities import BYTES

if TYPE_CHECKING:
    from mica.bench._isolation_report import Report
    from mica.plots import Plot

R = TypeVar("R")


@click.group(help="Measure this machine; every report names it.")
def bench() -> None:
    """The benchmarks."""


_profiles_option = click.option(
    "--profiles",
    required=True,
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="prof_data_MODEL.csv and scenarios.csv, as ParvaGPU publishes them.",
)


def _carry_out(work: Callable[[], R]) -> R:
    try:
        return work()
    except BenchError as error:
        raise click.ClickException(f"bench: {error}") from error


def _print(report: msgspec.Struct, *, as_json: bool, title: str) -> None:
    plain = msgspec.to_builtins(report)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(plain), indent=2).decode())
        return
    click.echo(title)
    for name, value in _flatten(plain):
        click.echo(f"  {name:<34} {value}")


def _flatten(value: dict[str, object], prefix: str = "") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for name, item in value.items():
        rows += _flatten(item, f"{prefix}{name}.") if isinstance(item, dict) else [(prefix + name, item)]
    return rows


@bench.command(help="From slice.request to slice.ready: latency at 50 requests/s, and how many a second.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--rate",
    "rate_hz",
    default=50.0,
    show_default=True,
    type=click.FloatRange(1, 10_000),
    help="Requests/s of the latency phase.",
)
@click.option(
    "--requests",
    "latency_requests",
    default=500,
    show_default=True,
    type=click.IntRange(50, 100_000),
    help="Requests of the latency phase.",
)
@click.option(
    "--seconds",
    "sustained_s",
    default=10.0,
    show_default=True,
    type=click.FloatRange(1, 600),
    help="Length of the sustained phase.",
)
@click.option(
    "--under-way",
    "under_way",
    default=64,
    show_default=True,
    type=click.IntRange(1, 384),
    help="Requests under way in the sustained phase.",
)
@click.option(
    "--throttle",
    "commands_per_s",
    default=1000,
    show_default=True,
    type=click.IntRange(1),
    help="Commands/s that each tenant may send.",
)
def pipeline(*, as_json: bool, **plan: float) -> int:
    """Run the pipeline benchmark."""
    from mica.bench.pipeline import Plan, run

    report = _carry_out(lambda: run(msgspec.convert(plan, Plan)))
    _print(report, as_json=as_json, title="mica bench pipeline (simulated driver, embedded NATS server)")
    return 0 if report.audit_clean and not report.missing and not report.doubled else 1


@bench.command(help="What mica costs at idle: time to ready, memory and CPU of each service, and the shim in a tenant.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--seconds", default=20.0, show_default=True, type=click.FloatRange(1, 600), help="Length of the idle window.")
@click.option(
    "--allocations",
    default=100_000,
    show_default=True,
    type=click.IntRange(1000, 1_000_000),
    help="Live allocations of the tenant.",
)
def footprint(*, as_json: bool, seconds: float, allocations: int) -> int:
    """Run the footprint benchmark."""
    from mica.bench.footprint import run

    report = _carry_out(lambda: run(seconds, allocations))
    _print(report, as_json=as_json, title="mica bench footprint (simulated driver)")
    return 0


@bench.command(help="What the shim adds to each call of the driver, beside the driver alone; and beside another shim.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--preload", metavar="LIB", help="Another shim, measured in a column of its own; it gets this environment.")
@click.option(
    "--driver",
    default="thin",
    show_default=True,
    help="The driver below: thin (calls of a few ns), sim (the simulated one), or the path of a libcuda.so.1.",
)
@click.option("--batches", default=400, show_default=True, type=click.IntRange(10, 10_000), help="Batches of 1,000 calls.")
@click.option("--repetitions", default=5, show_default=True, type=click.IntRange(1, 100), help="Each with fresh processes.")
@click.option(
    "--init-processes",
    default=50,
    show_default=True,
    type=click.IntRange(2, 10_000),
    help="Fresh processes that each repetition attaches.",
)
@click.option("--pair-ms", default=200, show_default=True, type=click.IntRange(10, 10_000), help="Length of a contended run.")
def shim(*, as_json: bool, **plan: int | str | None) -> int:
    """Run the shim benchmark."""
    from mica.bench.shim import HEAD, Plan, remarks, rows, run
    from mica.cli._table import show_table

    report = _carry_out(lambda: run(msgspec.convert(plan, Plan)))
    if as_json:
        _print(report, as_json=True, title="")
        return 0
    click.echo("mica bench shim")
    show_table(HEAD, rows(report), empty="")
    for line in remarks(report):
        click.echo(line)
    return 0


@bench.command("slo-packing", help="How few partitioned devices serve the measured scenarios in DIR, proven or with a bound.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@_profiles_option
def slo_packing(*, as_json: bool, profiles: Path) -> int:
    """Run the SLO packing benchmark."""
    from mica.bench.slo_packing import run

    report = _carry_out(lambda: run(profiles))
    _print(report, as_json=as_json, title="mica bench slo-packing (measured profiles, no device)")
    return 0 if not any(each.violations for each in report.scenarios.values()) else 1


@bench.command(help="How far the formulas of sizing are off, on the measured profiles in DIR.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@_profiles_option
def sizing(*, as_json: bool, profiles: Path) -> int:
    """Run the sizing benchmark."""
    from mica.bench.sizing import run

    report = _carry_out(lambda: run(profiles))
    _print(report, as_json=as_json, title="mica bench sizing (measured profiles, no device)")
    return 0


@bench.command(help="How exactly slices get their share, what a flooding neighbour costs, and how soon a new share is in force.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--backend",
    type=click.Choice(["sim", "opencl"]),
    default="sim",
    show_default=True,
    help="What the tenants run on: the simulated driver, or this machine's own OpenCL device.",
)
@click.option("--quick", is_flag=True, help="A few seconds: whether everything works, not how well.")
@click.option("--runs", default=3, show_default=True, type=click.IntRange(1, 100), help="Of each comparison with a victim alone.")
def isolation(*, as_json: bool, backend: str, quick: bool, runs: int) -> int:
    """Run the isolation benchmark."""
    from mica.bench._isolation_report import SHARE_HEAD, TARGET_HEAD, share_rows, target_rows
    from mica.cli._table import show_table

    report, remarks = _on_opencl(runs, quick=quick) if backend == "opencl" else _on_simulation(runs, quick=quick)
    if as_json:
        _print(report, as_json=True, title="")
        return 0
    click.echo(f"mica bench isolation (backend {backend})")
    show_table(TARGET_HEAD, target_rows(report), empty="")
    show_table(SHARE_HEAD, share_rows(report), empty="")
    for line in remarks:
        click.echo(line)
    return 0


def _on_simulation(runs: int, *, quick: bool) -> tuple["Report", list[str]]:
    from mica.bench import isolation
    from mica.bench._isolation_report import remarks

    report = _carry_out(lambda: isolation.run(isolation.quick() if quick else isolation.full(runs)))
    return report, remarks(report)


def _on_opencl(runs: int, *, quick: bool) -> tuple["Report", list[str]]:
    from mica.bench import opencl
    from mica.bench._opencl_report import remarks

    report = _carry_out(lambda: opencl.run(opencl.quick() if quick else opencl.full(runs)))
    return report, remarks(report)


@bench.command(
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
    report, curves = _carry_out(lambda: run_with_curves(plan, lambda line: click.echo(line, err=True)))
    if plots is not None:
        _draw(over_arrivals_plot(curves), plots / "placement-over-arrivals.svg")
    if as_json:
        _print(report, as_json=True, title="")
        return 0
    click.echo(f"mica bench placement: allocated in % of the capacity, {len(report.seeds)} seeds, {report.seconds:.0f} s")
    show_table(HEAD, rows(report), empty="")
    return 0


def _placement_over_time(wanted: dict[str, object], plots: Path | None, *, as_json: bool) -> int:
    from mica.bench._plots import over_time_plot
    from mica.bench.over_time import HEAD, Plan, rows, run
    from mica.cli._table import show_table

    plan = msgspec.convert(wanted, Plan)
    report, series = _carry_out(lambda: run(plan, lambda line: click.echo(line, err=True)))
    if plots is not None:
        for workload, loads in series.items():
            for load, samples in loads.items():
                title = f"{workload}, load {load}, {100 * plan.part:g} % of the nodes"
                _draw(over_time_plot(title, samples), plots / f"placement-over-time-{workload}-{load}.svg")
    if as_json:
        _print(report, as_json=True, title="")
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


@bench.command(help="Whether gangs of 2 and 4 land on a best-connected set, on given topologies and whatever is free on them.")
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

    report = _carry_out(lambda: run(folder, states))
    _print(report, as_json=as_json, title="mica bench topology (the running planner, against trying all sets)")
    return 0 if report.best_percent == 100 else 1


@bench.command(help="What a placement costs the planner in a fleet of thousands of nodes, how that grows, and what replicas add.")
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

    report = _carry_out(lambda: run(msgspec.convert(given, Plan), lambda line: click.echo(line, err=True)))
    if plots is not None and report.growth:
        _draw(growth_plot(report.growth), plots / "scale.svg")
    if as_json:
        _print(report, as_json=True, title="")
        return 0
    click.echo("mica bench scale: the planner's decisions, without the bus")
    show_table(HEAD, rows(report), empty="")
    if report.replicas:
        click.echo(f"{len(report.replicas)} replicas at once: {report.replicas_per_s:g} placements/s")
    return 0


@bench.command(help="What it takes to have a slice yield its device, and to bring it back, beside plain copies of as many bytes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--size", "size_bytes", default="1GiB", show_default=True, type=BYTES, help="What the slice's program holds.")
@click.option(
    "--rounds", default=5, show_default=True, type=click.IntRange(1, 100), help="Times that it is suspended and resumed."
)
def suspend(*, as_json: bool, size_bytes: int, rounds: int) -> int:
    """Run the suspend benchmark."""
    from mica.bench import suspending

    report = _carry_out(lambda: suspending.run(suspending.Plan(size_bytes=size_bytes, rounds=rounds)))
    _print(report, as_json=as_json, title="suspend and resume, simulated driver")
    return 0
