"""A group whose subcommands are imported when they are called, so that ``mica --help`` stays quick.

Invariant: the table alone answers ``--help``; nothing is imported for it.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import click

Row = tuple[str, str]
"""Where the command stands, as ``module:attribute``, and its help in a few words."""

COMMANDS: Final[Mapping[str, Row]] = {
    "up": ("mica.cli.commands.up:up", "Start NATS, all services and a node here."),
    "service": ("mica.cli.commands.service:service", "Run one service in this process."),
    "request": ("mica.cli.commands.request:request", "Ask for a slice and wait for the answer."),
    "explain": ("mica.cli.commands.explain:explain", "Tell why a slice is where it is, or what would become of a request."),
    "ls": ("mica.cli.commands.listing:ls", "List slices."),
    "queue": ("mica.cli.commands.queue:queue", "List the requests that wait, and what for."),
    "show": ("mica.cli.commands.listing:show", "Show one slice: where it is, and why there."),
    "discover": ("mica.cli.commands.discover:discover", "Show the devices of this machine, or of a node file."),
    "nodes": ("mica.cli.commands.nodes:nodes", "List nodes, and the node files that come with mica."),
    "devices": ("mica.cli.commands.nodes:devices", "List devices with what is free on them."),
    "topology": ("mica.cli.commands.topology:topology", "Draw what is near what: NUMA nodes, PCIe, devices, links."),
    "resize": ("mica.cli.commands.change:resize", "Change a slice's memory or compute in place."),
    "control": ("mica.cli.commands.change:control", "Set a slice's control word."),
    "move": ("mica.cli.commands.change:move", "Place a slice on another device."),
    "suspend": ("mica.cli.commands.change:suspend", "Take a slice's memory off its device, to the host."),
    "resume": ("mica.cli.commands.change:resume", "Bring a suspended slice back."),
    "evict": ("mica.cli.commands.change:evict", "Take a slice away, with a reason."),
    "drain": ("mica.cli.commands.drain:drain", "Take all slices off a node or device; --undo opens it again."),
    "release": ("mica.cli.commands.change:release", "Give a slice back."),
    "repack": ("mica.cli.commands.repack:repack", "Show which moves would free devices; --apply makes them."),
    "rightsize": ("mica.cli.commands.rightsize:rightsize", "Show which sizes would fit what slices use; --apply resizes."),
    "watch": ("mica.cli.commands.watch:watch", "Show events as they happen."),
    "run": ("mica.cli.commands.run:run", "Start any program inside a slice."),
    "gate": ("mica.cli.commands.gate:gate", "Pass requests on to a slice's workload: measure, report, guard."),
    "profile": ("mica.cli.commands.profile:profile", "Measure a program over slice sizes; list and show what was measured."),
    "policy": ("mica.cli.commands.policy:policy", "Policies of pools, nodes and tenants: set, compare, roll back."),
    "cdi": ("mica.cli.commands.cdi:cdi", "Show a slice as a CDI document, for containers."),
    "health": ("mica.cli.commands.health:health", "Settle what has happened to a device."),
    "audit": ("mica.cli.commands.audit:audit", "Check every invariant from outside."),
    "sim": ("mica.cli.commands.sim:sim", "Simulated nodes: describe one, read its books, run a program on it."),
    "simulate": ("mica.cli.commands.simulate:simulate", "Replay arrivals and departures against policies, on any mix of nodes."),
    "bench": ("mica.cli.commands.bench:bench", "Measure this machine."),
}


class LazyGroup(click.Group):
    """A group over ``COMMANDS``."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, in the order of a slice's life."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: Any = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """The list in ``--help``, without importing any of it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in COMMANDS.items()])
