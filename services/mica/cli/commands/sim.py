"""``mica sim``: the simulated hardware by itself. Invariant: nothing here knows of slices."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from mica.cli._errors import CliError
from mica.cli._quantities import show_bytes
from mica.cli._session import json_option
from mica.cli._simulation import describe_node, sim_dir
from mica.cli._table import show_json, show_table
from mica.cli.commands.run import without_dashes
from mica.hardware import Books, BooksError, read_books
from mica.native import NativeBuildError
from mica.native import sim_dir as library_dir

PATH: Final = click.Path(path_type=Path)
DEVICE_HEAD: Final = ("DEVICE", "MODEL", "VRAM", "REQUESTED", "SPENT", "LAUNCHES", "BUSY", "MIG INSTANCES")
PROCESS_HEAD: Final = ("PID", "COMMAND", "ON", "REQUESTED", "PEAK", "LAUNCHES", "KERNEL TIME")


@click.group()
def sim() -> None:
    """Simulated nodes: describe one, read the driver's own books, run a program on it without any slice."""


@sim.command()
@click.argument("node_file", metavar="NODE.toml", type=PATH)
@click.option("--dir", "directory", required=True, type=PATH, help="Where the simulation keeps its state (MICA_SIM_DIR).")
def init(node_file: Path, directory: Path) -> None:
    """Describe a simulated node for the simulated drivers."""
    node = describe_node(node_file, directory)
    click.echo(f"node {node.name}: {len(node.devices())} devices, simulated in {directory}")


@sim.command()
@click.option("--dir", "directory", type=PATH, help="Of the simulation [MICA_SIM_DIR, the one of mica up].")
@json_option
def books(directory: Path | None, *, as_json: bool) -> None:
    """Show what the simulated driver itself has counted."""
    try:
        found = read_books(sim_dir(directory))
    except BooksError as error:
        raise CliError(str(error)) from None
    if as_json:
        show_json(found)
        return
    show_books(found)


def show_books(found: Books) -> None:
    """Devices, then the processes on them."""
    devices = [
        (
            device.uuid,
            device.name,
            show_bytes(device.vram_bytes),
            show_bytes(device.requested_bytes),
            show_bytes(device.spent_bytes),
            str(device.launches),
            f"{device.busy_ns / 1e9:.3f}s",
            ",".join(f"{instance.profile}@{instance.start}" for instance in device.instances) or "-",
        )
        for device in found.devices
    ]
    show_table(DEVICE_HEAD, devices, empty="no devices")
    processes = [
        (
            str(process.pid),
            process.command,
            account.uuid,
            show_bytes(account.requested_bytes),
            show_bytes(account.requested_peak_bytes),
            str(account.launches),
            f"{account.kernel_ns / 1e9:.3f}s",
        )
        for process in found.processes
        if process.live
        for account in process.accounts
    ]
    click.echo("")
    show_table(PROCESS_HEAD, processes, empty="no processes")


@sim.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--dir", "directory", type=PATH, help="Of the simulation [MICA_SIM_DIR, the one of mica up].")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD…")
def run(directory: Path | None, command: Sequence[str]) -> None:
    """Start CMD on the simulated node, past every slice."""
    program = without_dashes(command)
    try:
        libraries = str(library_dir())
    except NativeBuildError as error:
        raise CliError(str(error)) from None
    path = ":".join(part for part in (libraries, os.environ.get("LD_LIBRARY_PATH")) if part)
    environment = os.environ | {"MICA_SIM_DIR": str(sim_dir(directory)), "LD_LIBRARY_PATH": path}
    try:
        os.execvpe(program[0], program, environment)  # noqa: S606 - starting the user's program is the purpose
    except OSError as error:
        raise CliError(f"sim run: {program[0]}: {error.strerror}") from None
