"""``mica nodes`` and ``mica devices``: what there is and what is free, and which nodes can be simulated.

Invariant: free capacity is what the planner would count: the larger of desired and observed is taken.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import click
import msgspec

from mica.audit.invariants import host_given
from mica.cli import _documents as documents
from mica.cli._errors import CliError
from mica.cli._quantities import PPM, show_bytes, show_cpus, show_share
from mica.cli._session import connected, json_option, run, server_option
from mica.cli._table import show_json, show_table, table
from mica.events import Device, Inventory, Ledger, LedgerEntry, Observed, ObservedSlice, Site
from mica.hardware import NodeFile, NodeFileError, ready_made_nodes
from mica.site import InstanceTypes

DEVICE_HEAD = ("NODE", "DEVICE", "MODEL", "HEALTH", "MODES IN USE", "SLICES", "VRAM", "FREE", "COMPUTE FREE", "MADE OF")
FILE_HEAD = ("NODE FILE", "DEVICES", "MODELS", "VENDORS")
NODE_HEAD = ("NODE", "POOL", "DEVICES", "SLICES", "VRAM", "FREE", "CPUS FREE", "MEMORY FREE", "LEDGER", "OBSERVED", "SITE")


@click.command()
@server_option
@json_option
def devices(server: str | None, *, as_json: bool) -> None:
    """List devices with what is free on them."""
    rows = run(_rows(server))[1]
    if as_json:
        show_json(rows)
        return
    lines = [
        (
            row["node"], row["id"], row["model"], row["health"], ",".join(row["modes"]) or "-", str(row["slices"]),
            show_bytes(row["vram_bytes"]), show_bytes(row["vram_free_bytes"]), show_share(row["share_free_ppm"]),
            "simulation" if row["simulated"] else row["vendor"],
        )
        for row in rows
    ]  # fmt: skip
    _show_noted(DEVICE_HEAD, lines, [_notes(row) for row in rows], empty="no devices")


@click.command()
@click.option("--ready-made", "only_files", is_flag=True, help="Only the node files that come with mica.")
@server_option
@json_option
def nodes(server: str | None, *, only_files: bool, as_json: bool) -> None:
    """List the nodes on the bus, then the node files that come with mica, for --node of `mica up` and `mica discover`."""
    rows, unheard = ([], "") if only_files else run(_node_rows(server))
    files = ready_made_rows()
    if as_json:
        show_json([*rows, *files])
        return
    if unheard:
        click.echo(unheard, err=True)
    elif not only_files:
        _show_nodes(rows)
        click.echo("")
    show_table(FILE_HEAD, [_file_line(row) for row in files], empty="no node files")


async def _node_rows(server: str | None) -> tuple[list[dict[str, Any]], str]:
    """The nodes on the bus; or why nobody could be asked."""
    from mica.bus import BusUnavailableError

    try:
        return (await _rows(server))[0], ""
    except BusUnavailableError as error:
        return [], str(error)


def ready_made_rows() -> list[dict[str, Any]]:
    """One for each node file that comes with mica."""
    rows = []
    for name, path in ready_made_nodes().items():
        try:
            node = NodeFile.load(path)
        except NodeFileError as error:
            raise CliError(f"node file: {error}") from None
        models: Counter[str] = Counter(device.model.key for device in node.devices())
        vendors = list(dict.fromkeys(str(device.model.vendor) for device in node.devices()))
        rows.append(
            {"node": name, "ready_made": True, "devices": models.total(), "models": models, "vendors": vendors, "file": str(path)}
        )
    return rows


def _file_line(row: dict[str, Any]) -> Sequence[str]:
    models = ", ".join(model if count == 1 else f"{count} x {model}" for model, count in row["models"].items())
    return row["node"], str(row["devices"]), models, ",".join(row["vendors"])


def _show_nodes(rows: list[dict[str, Any]]) -> None:
    lines = [
        (
            row["node"], row["pool"], str(row["devices"]), str(row["slices"]), show_bytes(row["vram_bytes"]),
            show_bytes(row["vram_free_bytes"]), show_cpus(row["cpu_free_milli"]) if row["cpu_milli"] else "-",
            show_bytes(row["host_memory_free_bytes"]) if row["host_memory_bytes"] else "-",
            str(row["ledger_generation"]), str(row["observed_generation"]), show_site(row["site"]),
        )
        for row in rows
    ]  # fmt: skip
    _show_noted(NODE_HEAD, lines, [row["warnings"] for row in rows], empty="no nodes")


def _notes(row: dict[str, Any]) -> list[str]:
    """What is to be said about a device beside its figures."""
    return [*([row["message"]] if row["message"] else []), *row["warnings"]]


def _show_noted(head: Sequence[str], rows: Sequence[Sequence[str]], notes: Iterable[Sequence[str]], *, empty: str) -> None:
    """A table with what there is to say about a row below it."""
    if not rows:
        click.echo(empty)
        return
    first, *lines = table(head, rows).split("\n")
    click.echo(first)
    for line, about in zip(lines, notes, strict=True):
        click.echo(line)
        for note in about:
            click.echo(f"  {note}")


async def _rows(server: str | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    async with connected(server) as bus:
        found = await documents.inventories(bus)
        ledgers = await documents.ledgers(bus)
        observed = await documents.observations(bus)
    node_rows, device_rows = [], []
    for inventory in found:
        ledger = ledgers.get(inventory.node) or Ledger(node=inventory.node)
        seen = observed.get(inventory.node) or Observed(node=inventory.node, boot_id="")
        rows = [device_row(inventory, device, ledger, seen) for device in inventory.devices]
        device_rows.extend(rows)
        node_rows.append(_node_row(inventory, rows, ledger, seen))
    return node_rows, device_rows


def device_row(inventory: Inventory, device: Device, ledger: Ledger, observed: Observed) -> dict[str, Any]:
    """One device, with what is left of it."""
    desired, seen = ledger.devices.get(device.id, {}), observed.devices.get(device.id, {})
    charged = [charge(desired.get(name), seen.get(name)) for name in desired.keys() | seen.keys()]
    usable = device.vram_bytes - device.reserve_bytes
    return {
        "node": inventory.node,
        "pool": inventory.pool,
        "id": device.id,
        "index": device.index,
        "vendor": str(device.vendor),
        "model": device.model,
        "health": str(device.health),
        "message": device.message,
        "troubles": [msgspec.structs.asdict(trouble) for trouble in device.troubles],
        "warnings": list(device.warnings),
        "partitioned": device.partitioned,
        "simulated": device.simulated,
        "modes": sorted({str(entry.mode) for entry in desired.values()} | {str(item.mode) for item in seen.values()}),
        "slices": len(charged),
        "vram_bytes": usable,
        "vram_free_bytes": usable - sum(vram for vram, _ in charged),
        "share_free_ppm": PPM - sum(share for _, share in charged),
        "runtimes": [str(runtime) for runtime in device.runtimes],
    }


def show_site(site: Site) -> str:
    """``aws p5.48xlarge us-east-1a``, or what the machine is called where there is no cloud."""
    where = [site.cloud, site.instance_type, site.zone or site.region] if site.cloud else [site.product]
    return " ".join(filter(None, [*where, "air-gapped" if site.air_gapped else ""])) or "-"


def charge(desired: LedgerEntry | None, seen: ObservedSlice | None) -> tuple[int, int]:
    """VRAM in bytes and compute in ppm that one slice takes from one device."""
    both = [item for item in (desired, seen) if item is not None]
    return max((item.vram_bytes for item in both), default=0), max((item.share_ppm for item in both), default=0)


def _node_row(inventory: Inventory, rows: list[dict[str, Any]], ledger: Ledger, observed: Observed) -> dict[str, Any]:
    cpu_milli, memory_bytes = host_given(ledger)
    return {
        "node": inventory.node,
        "ready_made": False,
        "pool": inventory.pool,
        "devices": len(rows),
        "slices": len({name for entries in ledger.devices.values() for name in entries}),
        "vram_bytes": sum(row["vram_bytes"] for row in rows),
        "vram_free_bytes": sum(row["vram_free_bytes"] for row in rows),
        "cpu_milli": inventory.cpu_milli,
        "cpu_free_milli": inventory.cpu_milli - cpu_milli if inventory.cpu_milli else None,
        "host_memory_bytes": inventory.host_memory_bytes,
        "host_memory_free_bytes": inventory.host_memory_bytes - memory_bytes if inventory.host_memory_bytes else None,
        "ledger_generation": ledger.generation,
        "observed_generation": observed.generation,
        "simulated": any(row["simulated"] for row in rows),
        "site": inventory.site,
        "instance": InstanceTypes.load().find(inventory.site.cloud, inventory.site.instance_type),
        "warnings": inventory.warnings,
    }
