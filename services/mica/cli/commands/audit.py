"""``mica audit``: check every invariant from outside. Invariant: exit status 0 means that nothing disagrees."""

import os
from pathlib import Path

import click

from mica.audit import Report, Sources
from mica.audit import audit as audit_system
from mica.bus import Settings
from mica.cli._errors import CliError
from mica.cli._runtime import runtime_dir as usual_runtime_dir
from mica.cli._session import connected, json_option, run, server_option
from mica.cli._table import show_json
from mica.hardware import NODE_DESC, BooksError


@click.command()
@click.option("--runtime-dir", type=click.Path(path_type=Path), help="Of this node [MICA_RUNTIME_DIR, /run/mica].")
@click.option("--sim-dir", type=click.Path(path_type=Path), help="Of the simulation [MICA_SIM_DIR, the one of mica up].")
@server_option
@json_option
def audit(runtime_dir: Path | None, sim_dir: Path | None, server: str | None, *, as_json: bool) -> int:
    """Compare streams, documents, regions and the drivers' own books, and check the invariants I1 to I8.

    Prints one line for each disagreement; exits with status 1 when there is one.
    """
    runtime = (runtime_dir or usual_runtime_dir()).absolute()
    try:
        report = run(_audit(server, runtime, simulation(sim_dir, runtime)))
    except BooksError as error:
        raise CliError(str(error)) from None
    if as_json:
        show_json({"checks": report.checks, "readings": report.readings, "disagreements": report.findings})
    else:
        for finding in report.findings:
            click.echo(str(finding))
        click.echo(f"audit: {report.checks} checks, {len(report.findings)} disagreements")
    return 0 if report.clean else 1


async def _audit(server: str | None, runtime: Path, sim_dir: Path | None) -> Report:
    async with connected(server) as bus:
        node = Settings.from_environment().node
        return await audit_system(Sources(bus=bus, runtime_dir=runtime, sim_dir=sim_dir, node=node))


def simulation(given: Path | None, runtime: Path) -> Path | None:
    """The simulated node's directory; None on a real node."""
    named = given or (Path(os.environ["MICA_SIM_DIR"]) if os.environ.get("MICA_SIM_DIR") else runtime / "sim")
    return named if (named / NODE_DESC).is_file() else None
