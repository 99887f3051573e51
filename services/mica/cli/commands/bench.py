"""``mica bench``: measures this machine, on systems of its own. Invariant: a figure that misses its target is printed too."""

from typing import TYPE_CHECKING

import click
import msgspec

from mica.cli._reports import carry_out, print_report
from mica.cli.commands import bench_planner, bench_slices
from mica.cli.commands.bench_gate import gate
from mica.cli.commands.bench_slo import slo

if TYPE_CHECKING:
    from mica.bench._isolation_report import Report


@click.group(help="Measure this machine; every report names it.")
def bench() -> None:
    """The benchmarks."""


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

    report = carry_out(lambda: run(msgspec.convert(plan, Plan)))
    print_report(report, as_json=as_json, title="mica bench pipeline (simulated driver, embedded NATS server)")
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

    report = carry_out(lambda: run(seconds, allocations))
    print_report(report, as_json=as_json, title="mica bench footprint (simulated driver)")
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

    report = carry_out(lambda: run(msgspec.convert(plan, Plan)))
    if as_json:
        print_report(report, as_json=True, title="")
        return 0
    click.echo("mica bench shim")
    show_table(HEAD, rows(report), empty="")
    for line in remarks(report):
        click.echo(line)
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
        print_report(report, as_json=True, title="")
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

    report = carry_out(lambda: isolation.run(isolation.quick() if quick else isolation.full(runs)))
    return report, remarks(report)


def _on_opencl(runs: int, *, quick: bool) -> tuple["Report", list[str]]:
    from mica.bench import opencl
    from mica.bench._opencl_report import remarks

    report = carry_out(lambda: opencl.run(opencl.quick() if quick else opencl.full(runs)))
    return report, remarks(report)


OTHERS = (
    slo,
    gate,
    bench_slices.resize,
    bench_slices.turns,
    bench_slices.suspend,
    bench_planner.slo_packing,
    bench_planner.sizing,
    bench_planner.placement,
    bench_planner.topology,
    bench_planner.scale,
)
for _each in OTHERS:
    bench.add_command(_each)
