"""``mica service NAME``: one service in this process. Invariant: services are known here by name only."""

from importlib import import_module

import click

SERVICES = ("discovery", "planner", "enforcer", "telemetry", "slo_guard")


@click.command()
@click.argument("name", type=click.Choice(SERVICES))
def service(name: str) -> None:
    """Run one service in this process, configured by the environment (MICA_NATS_URL, MICA_NODE, …)."""
    import_module(f"mica.{name}.__main__").main()
