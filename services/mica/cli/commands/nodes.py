"""``mica nodes`` and ``mica devices``: what there is and what is free.

Invariant: free capacity is what the planner would count: the larger of desired and observed is taken.
"""

from typing import Any

import click

from mica.cli import _documents as documents
from mica.cli._quantities import PPM, show_bytes, show_share
from mica.cli._session import connected, json_option, run, server_option
from mica.cli._table import show_json, show_table
from mica.events import Device, Inventory, Ledger, LedgerEntry, Observed, ObservedSlice, Site
from mica.site import InstanceTypes

DEVICE_HEAD = ("NODE", "DEVICE", "MODEL", "HEALTH", "MODES IN USE", "SLICES", "VRAM", "FREE", "COMPUTE FREE", "MADE OF")
NODE_HEAD = ("NODE", "POOL", "DEVICES", "SLICES", "VRAM", "FREE", "LEDGER", "OBSERVED", "SITE")


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
    show_table(DEVICE_HEAD, lines, empty="no devices")


@click.command()
@server_option
@json_option
def nodes(server: str | None, *, as_json: bool) -> None:
    """List nodes."""
    rows = run(_rows(server))[0]
    if as_json:
        show_json(rows)
        return
    lines = [
        (
            row["node"], row["pool"], str(row["devices"]), str(row["slices"]), show_bytes(row["vram_bytes"]),
            show_bytes(row["vram_free_bytes"]), str(row["ledger_generation"]), str(row["observed_generation"]),
            show_site(row["site"]),
        )
        for row in rows
    ]  # fmt: skip
    show_table(NODE_HEAD, lines, empty="no nodes")
    for row in rows:
        for warning in row["warnings"]:
            click.echo(f"node {row['node']}: warning: {warning}")


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
    return {
        "node": inventory.node,
        "pool": inventory.pool,
        "devices": len(rows),
        "slices": len({name for entries in ledger.devices.values() for name in entries}),
        "vram_bytes": sum(row["vram_bytes"] for row in rows),
        "vram_free_bytes": sum(row["vram_free_bytes"] for row in rows),
        "ledger_generation": ledger.generation,
        "observed_generation": observed.generation,
        "simulated": any(row["simulated"] for row in rows),
        "site": inventory.site,
        "instance": InstanceTypes.load().find(inventory.site.cloud, inventory.site.instance_type),
        "warnings": inventory.warnings,
    }
