"""The benchmarks of slices that live: resized, taking turns, suspended. Invariant: a missed target is printed, too."""

import click
import msgspec

from mica.cli._quantities import BYTES
from mica.cli._reports import carry_out, print_report


@click.command(help="From slice.resize to the limits in force in the region: compute and memory, up and down.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--count", default=100, show_default=True, type=click.IntRange(2, 10_000), help="Resizes of each of the four kinds."
)
@click.option(
    "--neighbours", default=6, show_default=True, type=click.IntRange(0, 12), help="Slices beside the one that is resized."
)
def resize(*, as_json: bool, **plan: float) -> int:
    """Run the resize benchmark; the exit status is 1 when the target is missed or the audit finds something."""
    from mica.bench.resizing import Plan, run

    report = carry_out(lambda: run(msgspec.convert(plan, Plan)))
    print_report(report, as_json=as_json, title="mica bench resize (simulated driver, embedded NATS server)")
    return 0 if report.target_met and report.audit_clean else 1


@click.command(help="How a time-sliced device is shared, what a change of hands costs, and how long an endless kernel holds it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--quick", is_flag=True, help="A few seconds: whether everything works, not how well.")
def turns(*, as_json: bool, quick: bool) -> int:
    """Run the benchmark of time slicing."""
    from mica.bench import turns as measured
    from mica.cli._table import show_table

    report = carry_out(lambda: measured.run(measured.quick() if quick else measured.full()))
    if as_json:
        print_report(report, as_json=True, title="")
        return 0
    click.echo("mica bench turns (simulated device that nothing preempts)")
    show_table(measured.HEAD, measured.rows(report), empty="")
    for line in measured.remarks(report):
        click.echo(line)
    return 0


@click.command(help="What it takes to have a slice yield its device, and to bring it back, beside plain copies of as many bytes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--size", "size_bytes", default="1GiB", show_default=True, type=BYTES, help="What the slice's program holds.")
@click.option(
    "--rounds", default=5, show_default=True, type=click.IntRange(1, 100), help="Times that it is suspended and resumed."
)
def suspend(*, as_json: bool, size_bytes: int, rounds: int) -> int:
    """Run the suspend benchmark."""
    from mica.bench import suspending

    report = carry_out(lambda: suspending.run(suspending.Plan(size_bytes=size_bytes, rounds=rounds)))
    print_report(report, as_json=as_json, title="suspend and resume, simulated driver")
    return 0
