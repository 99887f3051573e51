"""``mica simulate``: what policies would make of some work on some fleet. Invariant: it needs no service and changes nothing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from mica.bench import BenchError
from mica.cli._errors import CliError
from mica.cli._quantities import QuantityError, parse_bytes
from mica.cli._session import json_option
from mica.cli._table import show_json, show_table

if TYPE_CHECKING:
    from mica.bench.simulate import Replay
    from mica.simulation import Fleet, Job

TRACE = "trace"
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--trace", type=FOLDER, help="A folder of openb_node_list_*.csv and openb_pod_list_NAME.csv (Alibaba's, 2023).")
@click.option("--workload", metavar="NAME", help="Of the trace [default].")
@click.option("--arrivals", type=FILE, help="Instead of a trace, a CSV of your own: arrival_s, duration_s, devices, …")
@click.option("--nodes", metavar="MIX", help="Ready-made nodes or node files, as in dgx-a100=10,mi300x-8=5 [trace: its own].")
@click.option(
    "--cpus-per-device", type=click.IntRange(1, 10_000), default=32, show_default=True, help="Where a node does not say."
)
@click.option("--memory-per-device", metavar="SIZE", default="128GiB", show_default=True, help="Where a node does not say.")
@click.option("--policy", "policies", multiple=True, metavar="NAME", help="bestfit, fgd, value, mica; repeatable [not value].")
@click.option("--load", type=float, help="Lay copies of the work over one another until so much of the capacity is asked for.")
@click.option("--part", type=float, default=1.0, show_default=True, help="So large a part of the nodes only.")
@click.option("--warm-up", type=float, default=0.1, show_default=True, help="Measure after so large a part of the arrivals.")
@click.option("--wait", is_flag=True, help="What fits nowhere waits, first come first served, instead of being gone.")
@click.option("--samples", type=click.IntRange(2, 100_000), default=500, show_default=True, help="Looks at the fleet.")
@click.option("--seed", type=click.IntRange(0), default=42, show_default=True, help="Decides nodes, their order, and the copies.")
@click.option("--plots", type=FOLDER, help="Draw allocation, fragmentation and stranded capacity into DIR/simulation.svg.")
@json_option
def simulate(*, as_json: bool, plots: Path | None, policies: Sequence[str], **given: Any) -> None:
    """Replay work that comes and goes against policies, on any mix of nodes."""
    try:
        replay = _carry_out(policies, given, plots)
    except (BenchError, QuantityError, msgspec.ValidationError) as error:
        raise CliError(f"simulate: {error}") from error
    if as_json:
        show_json(replay)
    else:
        _show(replay, plots)


def _carry_out(policies: Sequence[str], given: Mapping[str, Any], plots: Path | None) -> "Replay":
    from mica.bench.simulate import Plan, run

    wanted = {name: given[name] for name in ("load", "part", "warm_up", "wait", "samples", "seed")}
    plan = msgspec.convert(wanted | ({"policies": policies} if policies else {}), Plan)
    fleet, jobs, work, assumed = _scene(given)
    replay, samples = run(fleet, jobs, plan, work, assumed)
    if plots is not None:
        from mica.bench._plots import over_time_plot
        from mica.plots import PlotError, draw

        try:
            draw(over_time_plot(f"{work} on {replay.nodes} nodes", samples), plots / "simulation.svg")
        except PlotError as error:
            raise BenchError(str(error)) from error
    return replay


def _scene(given: Mapping[str, Any]) -> "tuple[Fleet, list[Job], str, tuple[str, ...]]":
    """The fleet, the work, what the work is called, and what is assumed of both."""
    from mica.bench._own_trace import Host, read_mix, read_work
    from mica.bench._trace import read_fleet, read_jobs
    from mica.bench.simulate import ALIKE, MEMORY

    trace, arrivals, mix = given["trace"], given["arrivals"], given["nodes"] or TRACE
    if (trace is None) == (arrivals is None):
        raise BenchError("got --trace and --arrivals both or neither, allowed: one of them")
    if mix == TRACE and trace is None:
        raise BenchError("--nodes: got trace without --trace, allowed with --arrivals: a mix such as dgx-a100=10,mi300x-8=5")
    assumed = [ALIKE]
    if mix == TRACE:
        fleet = read_fleet(trace)
    else:
        cpus, memory = given["cpus_per_device"], given["memory_per_device"]
        fleet, silent = read_mix(mix, Host(cpus=cpus, memory_mib=parse_bytes(memory) >> 20))
        assumed += [f"{name} does not say its CPU or host memory: {cpus} and {memory} for each device" for name in silent]
    if arrivals is not None:
        if given["workload"]:
            raise BenchError(f"--workload: got {given['workload']!r} with --arrivals, allowed: with --trace")
        return fleet, read_work(arrivals, fleet.models), arrivals.stem, tuple(assumed)
    workload = given["workload"] or "default"
    return fleet, read_jobs(trace, workload, fleet.models), workload, (*assumed, MEMORY)


def _show(replay: "Replay", plots: Path | None) -> None:
    from mica.bench.over_time import HEAD, row

    devices = ", ".join(f"{count} {model}" for model, count in replay.devices.items())
    click.echo(
        f"{replay.work}: {replay.pieces} pieces of work on {replay.nodes} nodes: {devices}; {replay.hours:g} h are measured"
    )
    show_table(HEAD, [row(policy, figure) for policy, figure in replay.policies.items()], empty="")
    for each in replay.assumed:
        click.echo(f"assumed: {each}")
    if plots is not None:
        click.echo(f"drawn: {plots / 'simulation.svg'}")
