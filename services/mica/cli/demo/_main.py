"""The demo's frame: the system, the story and the table. Invariant: the last line tells how many checks failed."""

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mica.bus import BusError, JetStreamBus
from mica.cli._errors import CliError
from mica.cli.demo._stack import running
from mica.cli.demo._story import Story, table_rows

INTRODUCTION = """[bold]mica demo[/bold] — [bold green]real compute[/bold green] on this machine's processor, and GPUs of a \
[bold yellow]simulated driver[/bold yellow].
Real: the programs, their client libraries, NATS, the services, the shims and what they enforce; OpenCL kernels and results.
Simulated: the NVIDIA devices. Their kernels take time and compute nothing. No GPU is needed, and none was measured."""
HEAD = ("slice", "tenant", "device, mode", "granted", "client saw", "kernels", "why")
PLAIN_WIDTH = 120


def main(examples: Path) -> int:
    """Play the demo; 0 when every check holds."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    console.print(INTRODUCTION)
    try:
        return asyncio.run(_play(examples, console))
    except (CliError, BusError) as error:
        console.print(f"[bold red]demo: {error}[/bold red]")
        console.print("demo: 0 checks passed, 1 failed")
        return 1


async def _play(examples: Path, console: Console) -> int:
    begun = time.monotonic()
    async with AsyncExitStack() as resources:
        with console.status("starting NATS, five services and a node…"):
            stack = await resources.enter_async_context(running())
        took_s = time.monotonic() - begun
        console.print(f"mica up: ready in {took_s:.1f} s — {stack.url}, node {stack.node}, {stack.devices} devices")
        bus = await JetStreamBus.connect(stack.url, name="mica-demo")
        resources.push_async_callback(bus.close)
        story = Story(stack, bus, examples, console)
        try:
            await story.play()
        except (CliError, BusError) as error:
            story.checks.expect(False, f"the demo goes on to its end: {error}")  # noqa: FBT003 - it does not
        rows = table_rows(story.lines(), story.models())
    console.print()
    console.print(final_table(rows))
    console.print(f"\n{story.checks.closing_line()}")
    return 1 if story.checks.failed else 0


def final_table(rows: list[tuple[str, ...]]) -> Table:
    """Where each slice went, in which mode, and why."""
    table = Table(title="Where each slice went, and why", show_lines=True)
    for name in HEAD:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
