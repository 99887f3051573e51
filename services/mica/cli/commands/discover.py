"""``mica discover``: what the vendors' libraries say, without any service running. Invariant: it changes nothing."""

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from mica.cli._quantities import show_bytes
from mica.cli._session import json_option
from mica.cli._simulation import describe_node
from mica.cli._table import show_json, show_table
from mica.events import Device, Link
from mica.vendors import VendorDriver, VendorError, device_modes, one_each, open_drivers

HEAD: Final = ("DEVICE", "VENDOR", "MODEL", "VRAM", "UNITS", "MODES", "MADE OF")
LINK_HEAD: Final = ("FROM", "TO", "KIND", "LANES", "EACH WAY")


@click.command()
@click.option(
    "--node", "node_file", type=click.Path(path_type=Path), metavar="FILE|NAME",
    help="Of this node file, or ready-made node, simulated for the purpose [this machine].",
)  # fmt: skip
@json_option
def discover(node_file: Path | None, *, as_json: bool) -> None:
    """Show the devices of this machine, or those that a node file gives, and the modes that each offers now."""
    with ExitStack() as stack:
        name, described = _simulate(node_file, stack) if node_file is not None else (_own_name(), 0)
        found = read(name)
    if len(found["devices"]) < described:
        found["warnings"].append(f"{name}: {described} devices are described, {len(found['devices'])} were read")
    if as_json:
        show_json(found)
    else:
        _show(found)


def read(name: str) -> dict[str, Any]:
    """The inventory as the libraries give it: ``node``, ``devices`` with their ``modes``, ``links``, ``warnings``."""
    drivers = open_drivers()
    warnings: list[str] = []
    try:
        listings = [_devices(driver, warnings) for driver in drivers]
        links = [link for driver in drivers for link in _links(driver, warnings)]
    finally:
        for driver in drivers:
            driver.close()
    devices = [_row(device) for device in one_each(listings)]
    return {"node": name, "devices": devices, "links": [msgspec.structs.asdict(link) for link in links], "warnings": warnings}


def _row(device: Device) -> dict[str, Any]:
    """Everything that is known of the device: defaults, too."""
    facts = msgspec.structs.asdict(device)
    return {"vendor": facts.pop("vendor"), "model": facts.pop("model"), "modes": device_modes(device), **facts}


def _devices(driver: VendorDriver, warnings: list[str]) -> tuple[Device, ...]:
    """What can be read; what can't is a warning."""
    found = []
    try:
        for key in driver.keys():  # noqa: SIM118 - a port, not a mapping
            try:
                found.append(driver.describe(key))
            except VendorError as error:
                warnings.append(str(error))
    except VendorError as error:
        warnings.append(f"{driver.name}: {error}")
    return tuple(found)


def _links(driver: VendorDriver, warnings: list[str]) -> tuple[Link, ...]:
    try:
        return driver.links()
    except VendorError as error:
        warnings.append(f"{driver.name}: links: {error}")
        return ()


def _simulate(node_file: Path, stack: ExitStack) -> tuple[str, int]:
    """Have this process see the node of the file, and no device of the machine's own; its name, and how many devices it has."""
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mica-discover-")))
    node = describe_node(node_file, directory)
    for variable, value in (("MICA_SIM_DIR", str(directory)), ("MICA_OPENCL", "off")):
        stack.callback(_restore, variable, os.environ.get(variable))
        os.environ[variable] = value
    return node.name, len(node.devices())


def _restore(variable: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(variable, None)
    else:
        os.environ[variable] = value


def _own_name() -> str:
    from mica.bus import Settings

    return Settings.from_environment().node


def _show(found: dict[str, Any]) -> None:
    devices, links = found["devices"], found["links"]
    rows = [
        (
            row["id"], str(row["vendor"]), row["model"], show_bytes(row["vram_bytes"]), str(row["multiprocessors"]),
            ",".join(row["modes"]) or "-", "simulation" if row["simulated"] else "real",
        )
        for row in devices
    ]  # fmt: skip
    show_table(HEAD, rows, empty="no devices")
    if links:
        click.echo("")
        lines = [(link["a"], link["b"], str(link["kind"]), str(link["lanes"]), _speed(link["bytes_per_s"])) for link in links]
        show_table(LINK_HEAD, lines, empty="")
    notes = [f"{row['id']}: {text}" for row in devices for text in (*row["warnings"], row["hardware_refusal"]) if text]
    for note in (*notes, *found["warnings"]):
        click.echo(note, err=True)


def _speed(bytes_per_s: int) -> str:
    return f"{bytes_per_s / 1e9:g} GB/s" if bytes_per_s else "-"
