"""``mica bench gate``. Invariant: the gate that is measured is a process of its own, as it is when it serves."""

import click
import msgspec

from mica.cli._reports import carry_out, print_report


@click.command(help="What a gate adds to a request and to each token, beside the direct way and a hop that only copies.")
@click.option("--requests", default=3000, show_default=True, type=click.IntRange(100, 1_000_000), help="By each way, in turn.")
@click.option("--streams", default=4, show_default=True, type=click.IntRange(1, 256), help="At once.")
@click.option("--tokens", default=100, show_default=True, type=click.IntRange(10, 100_000), help="Of each stream.")
@click.option("--gap-ms", default=5.0, show_default=True, type=click.FloatRange(0.1, 1000), help="Between two tokens.")
@click.option("--connections", default=16, show_default=True, type=click.IntRange(1, 1024), help="Under load.")
@click.option("--seconds", default=3.0, show_default=True, type=click.FloatRange(0.5, 600), help="Of load, by each way.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def gate(*, as_json: bool, **given: object) -> int:
    """Run the benchmark of the gate."""
    from mica.bench.gate import Plan, run

    report = carry_out(lambda: run(msgspec.convert(given, Plan)))
    print_report(report, as_json=as_json, title="mica bench gate (all guardrails on, before an upstream that costs nothing)")
    return 0 if report.kept else 1
