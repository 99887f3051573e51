"""``mica bench slo``. Invariant: exit status 1 where a target is missed or the run proves nothing."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from mica.cli._reports import carry_out

if TYPE_CHECKING:
    from mica.bench.slo import Report

DEVICES = ("sim", "opencl")


@click.command(help="Whether an inference server keeps its SLO beside a program that floods the device, and what the guard does.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--trace",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Requests of the Azure LLM inference trace; without it a Poisson stream.",
)
@click.option("--device", "devices", multiple=True, type=click.Choice(DEVICES), help="On this one only; may be repeated.")
@click.option("--runs", default=3, show_default=True, type=click.IntRange(1, 100), help="Of each way of sharing.")
@click.option("--seconds", default=40.0, show_default=True, type=click.FloatRange(2, 3600), help="Of requests in a run.")
@click.option("--kills", default=200, show_default=True, type=click.IntRange(0, 100_000), help="Deaths at random; 0: none.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0, 1 << 31), help="Who dies when.")
@click.option("--plots", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Draw the incident as SVG.")
def slo(*, as_json: bool, plots: Path | None, devices: tuple[str, ...], **given: object) -> int:
    """Run the benchmark of kept promises."""
    from mica.bench.slo import Plan, run

    plan = msgspec.convert({**given, "devices": devices or DEVICES, "incident_s": given["seconds"]}, Plan)
    report = carry_out(lambda: run(plan, lambda line: click.echo(line, err=True)))
    if plots is not None:
        _draw(report, plots)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        _show(report)
    return 0 if report.held else 1


def _show(report: "Report") -> None:
    from mica.bench._slo_report import HEAD, rows
    from mica.cli._table import show_table

    for device in report.devices.values():
        kernels, load = device.kernels, device.load
        click.echo(f"mica bench slo: {device.device}")
        click.echo(
            f"  kernels: prompt {kernels.prefill_us} us, step {kernels.step_us} us, flood {kernels.flood_us} us; "
            f"load: {load['source']}, {load['rate_hz']} requests/s, {load['device_pct']} % of the device alone"
        )
        show_table(HEAD, rows(device), empty="")
        for line in device.incident.told:
            click.echo(f"  {line}")
        for target in device.targets:
            shown = "-" if target.value is None else f"{target.value:g}"
            click.echo(f"  {'held  ' if target.held else 'MISSED'} {target.name}: {shown}, wanted {target.wanted}")
    health, chaos = report.healthy, report.chaos
    click.echo(
        f"{health.seconds:g} s of health: {health.reports} reports, {health.late} of {health.requests} requests late, "
        f"{health.breaches} breaches, {health.actions} actions"
    )
    if chaos is not None:
        killed = ", ".join(f"{name} {times}" for name, times in chaos.kills.items())
        click.echo(
            f"{'held  ' if chaos.clean else 'MISSED'} {sum(chaos.kills.values())} kills (seed {chaos.seed}: {killed}) in "
            f"{chaos.seconds:g} s: {chaos.disagreements} disagreements in {chaos.looks} audits; {chaos.unanswered} of "
            f"{chaos.requests} requests unanswered, {chaos.answered_twice} answered twice; {chaos.lost} slices lost; "
            f"{chaos.acted_twice} of {chaos.actions} actions twice"
        )


def _draw(report: "Report", folder: Path) -> None:
    from mica.bench._slo_plots import timeline_plot
    from mica.plots import PlotError, draw

    try:
        for kind, device in report.devices.items():
            draw(timeline_plot(device), folder / f"slo-timeline-{kind}.svg")
    except PlotError as error:
        raise click.ClickException(f"bench: {error}") from error
