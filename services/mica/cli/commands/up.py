"""``mica up``: start everything here and keep it running. Invariant: it ends with no child left, whatever happened."""

import asyncio
import json
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import click
from msgspec import Struct

from mica.cli._errors import CliError
from mica.cli._runtime import runtime_dir as usual_runtime_dir
from mica.cli.up._nats import choose_port, server_binary
from mica.cli.up._node import Node, check_libraries, check_opencl, real_node, simulated_node
from mica.cli.up._places import check_runtime_dir, claimed, default_data_dir, tmpfs_warning
from mica.cli.up._stack import Plan, serve
from mica.cli.up._supervisor import StartError

PATH: Final = click.Path(path_type=Path)


class Options(Struct, frozen=True, kw_only=True):
    """What is asked for on the command line."""

    node_file: Path | None
    real: bool
    opencl: bool
    runtime_dir: Path | None
    data_dir: Path | None
    port: int
    pool: str
    as_json: bool


@click.command()
@click.option(
    "--node",
    "node_file",
    type=PATH,
    metavar="FILE|NAME",
    help="Simulate this node: a file, or one of `mica nodes --ready-made` [demo].",
)
@click.option("--real", is_flag=True, help="Use this machine's own devices.")
@click.option("--opencl", is_flag=True, help="With this machine's OpenCL devices, its processor among them.")
@click.option("--runtime-dir", type=PATH, help="Regions and socket, on a tmpfs [MICA_RUNTIME_DIR, /run/mica].")
@click.option("--data-dir", type=PATH, help="Streams and state [/var/lib/mica, ~/.local/share/mica].")
@click.option("--port", default=4222, show_default=True, type=click.IntRange(0, 65535), help="Of NATS; 0: any free one.")
@click.option("--pool", default="default", show_default=True, help="The node's pool.")
@click.option("--json", "as_json", is_flag=True, help="The ready line in JSON.")
def up(**given: Any) -> None:
    """Start an embedded NATS server, all services and a node, and keep them running until Ctrl-C.

    Prints one line once requests can be placed. The node is simulated unless --real is given.
    """
    begun = time.monotonic()
    options = Options(**given)
    if options.real and options.node_file:
        raise click.UsageError("--node describes a simulated node; it can't be combined with --real")
    runtime = (options.runtime_dir or usual_runtime_dir()).absolute()
    data = (options.data_dir or default_data_dir()).absolute()
    check_runtime_dir(runtime)
    check_libraries(simulated=not options.real)
    if options.opencl or options.real:
        check_opencl(processors=options.opencl)
    server_binary()
    with ExitStack() as claims:
        held = claims.enter_context(claimed(runtime, "runtime dir")), claims.enter_context(claimed(data, "data dir"))
        node = real_node() if options.real else simulated_node(options.node_file, runtime / "sim")
        plan = Plan(
            node=node.name,
            pool=options.pool,
            port=choose_port(options.port),
            runtime_dir=runtime,
            data_dir=data,
            sim_dir=node.sim_dir,
            opencl=options.opencl,
            claims=held,
        )
        if warning := tmpfs_warning(runtime):
            say(warning)
        try:
            asyncio.run(_until_signalled(plan, node, begun, as_json=options.as_json))
        except StartError as error:
            raise CliError(str(error)) from None


async def _until_signalled(plan: Plan, node: Node, begun: float, *, as_json: bool) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stopped.set)

    def on_ready(devices: int) -> None:
        click.echo(ready_json(plan, devices) if as_json else ready_line(plan, node, devices, time.monotonic() - begun))

    await serve(plan, stopped, on_ready, say)
    if stopped.is_set() and not as_json:
        click.echo("mica up: stopped")


def ready_line(plan: Plan, node: Node, devices: int, took_s: float) -> str:
    """``mica up: ready in 2.1 s — nats://127.0.0.1:4222, node demo (simulated), 3 devices, runtime dir /run/mica``."""
    kind = "simulated" if node.sim_dir else "real"
    count = f"{devices} device{'s' if devices != 1 else ''}"
    return f"mica up: ready in {took_s:.1f} s — {plan.url}, node {plan.node} ({kind}), {count}, runtime dir {plan.runtime_dir}"


def ready_json(plan: Plan, devices: int) -> str:
    """The same for programs, in one line."""
    facts = {"event": "ready", "url": plan.url, "node": plan.node, "devices": devices, "runtime_dir": str(plan.runtime_dir)}
    return json.dumps(facts | {"data_dir": str(plan.data_dir), "sim_dir": str(plan.sim_dir or "")})


def say(line: str) -> None:
    """A line of a service's log, or about a service, on stderr."""
    click.echo(line if line.startswith(("mica", "20")) else f"mica up: {line}", err=True)
