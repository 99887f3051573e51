"""``mica ls`` and ``mica show``: slices as they stand. Invariant: both sides are shown, what is desired and what is."""

import time
from typing import Any

import click
import msgspec

from mica.bus import Bus
from mica.cli import _documents as documents
from mica.cli._breach import breach_lines, breach_row
from mica.cli._decision import show_decision, show_placements
from mica.cli._errors import CliError
from mica.cli._quantities import show_bytes, show_seconds, show_share
from mica.cli._session import connected, json_option, run, server_option
from mica.cli._table import show_json, show_table
from mica.events import TERMINAL_PHASES, GuardState, Observed, ObservedSlice, ObservedState, Phase, SliceRecord

HEAD = ("ID", "TENANT", "STATE", "MODE", "DEVICE", "VRAM", "USED", "SHARE", "TIER", "AGE")


@click.command()
@click.option("--tenant", help="Only this tenant's.")
@click.option("--all", "everything", is_flag=True, help="Also what has ended.")
@server_option
@json_option
def ls(tenant: str | None, server: str | None, *, everything: bool, as_json: bool) -> None:
    """List slices."""
    rows = run(_rows(server, tenant, everything=everything))
    if as_json:
        show_json(rows)
        return
    show_table(HEAD, [_line(row) for row in rows], empty="no slices")


async def _rows(server: str | None, tenant: str | None, *, everything: bool) -> list[dict[str, Any]]:
    async with connected(server) as bus:
        observed = await documents.observations(bus)
        return [
            row_of(record, observed)
            for record in await documents.records(bus)
            if (everything or record.phase not in TERMINAL_PHASES) and tenant in (None, record.request.tenant)
        ]


def row_of(record: SliceRecord, observed: dict[str, Observed]) -> dict[str, Any]:
    """A slice in one flat row; ``vram_bytes`` and the rest are per device."""
    seen = list(seen_of(record, observed).values())
    first = record.placements[0] if record.placements else None
    return {
        "id": record.id,
        "tenant": record.request.tenant,
        "state": state_of(record, seen),
        "phase": str(record.phase),
        "mode": str(first.mode) if first else "",
        "devices": [{"node": p.node, "device_id": p.device_id, "model": p.model} for p in record.placements],
        "vram_bytes": first.vram_bytes if first else record.request.vram_bytes or 0,
        "vram_used_bytes": sum(item.vram_used_bytes for item in seen),
        "away_bytes": sum(item.away_bytes for item in seen),
        "share_ppm": first.share_ppm if first else record.request.share_ppm or 0,
        "tier": str(record.request.tier),
        "control": str(record.control),
        "generation": record.generation,
        "updated_at": record.updated_at,
        "message": record.message,
    }


def seen_of(record: SliceRecord, observed: dict[str, Observed]) -> dict[str, ObservedSlice]:
    """What the nodes' enforcers see of a slice, by device."""
    found: dict[str, ObservedSlice] = {}
    for placement in record.placements:
        node = observed.get(placement.node)
        item = node.devices.get(placement.device_id, {}).get(record.id) if node else None
        if item is not None:
            found[placement.device_id] = item
    return found


def state_of(record: SliceRecord, seen: list[ObservedSlice]) -> str:
    """``ready`` once it is live on all its devices, and on several nodes the planner has seen that, too; else the phase."""
    live = len(seen) == len(record.placements) and all(item.state is ObservedState.LIVE for item in seen)
    if record.phase is Phase.PLACED and (record.suspended or any(item.state is ObservedState.SUSPENDED for item in seen)):
        away = bool(seen) and all(item.state is ObservedState.SUSPENDED for item in seen)
        return ("suspended" if away else "suspending") if record.suspended else "resuming"
    if len({placement.node for placement in record.placements}) > 1:
        live = live and record.ready_generation == record.generation
    if record.phase is Phase.PLACED and live:
        return "ready" if record.control == "run" else str(record.control)
    return str(record.phase)


def _line(row: dict[str, Any]) -> tuple[str, ...]:
    where = ",".join(f"{device['node']}/{short(device['device_id'])} {device['model']}" for device in row["devices"])
    return (
        row["id"], row["tenant"], row["state"], row["mode"] or "-", where or "-", show_bytes(row["vram_bytes"]),
        show_bytes(row["vram_used_bytes"]), show_share(row["share_ppm"]), row["tier"], age(row["updated_at"]),
    )  # fmt: skip


def short(device_id: str) -> str:
    """A vendor's UUID up to its first group: enough to tell a node's devices apart."""
    return "-".join(device_id.split("-")[:2])


def age(at: int) -> str:
    """``12s``, ``5m``, ``3h``, ``2d`` since ``at`` in Unix nanoseconds."""
    return show_seconds((time.time_ns() - at) / 1e9) if at else "-"


@click.command()
@click.argument("id")
@server_option
@json_option
def show(id: str, server: str | None, *, as_json: bool) -> None:  # noqa: A002 - the name on the command line
    """Show one slice: where it is, why there, what was rejected, what it holds, and the story of its SLO's last breach."""
    run(_show(id, server, as_json=as_json))


async def _show(slice_id: str, server: str | None, *, as_json: bool) -> None:
    async with connected(server) as bus:
        record = await find(bus, slice_id)
        seen = seen_of(record, await documents.observations(bus))
        guarded = await bus.state.get(f"guard.{slice_id}", GuardState)
    guard = guarded.value if guarded is not None else None
    if as_json:
        told = {"state": state_of(record, list(seen.values())), "observed": seen, "last_breach": breach_row(guard)}
        show_json({**msgspec.to_builtins(record), **told})
        return
    asked = record.request
    click.echo(f"slice {record.id} of {asked.tenant}: {state_of(record, list(seen.values()))}, generation {record.generation}")
    if record.message:
        click.echo(f"  {record.message}")
    wanted = [show_bytes(asked.vram_bytes) if asked.vram_bytes else "", show_share(asked.share_ppm) if asked.share_ppm else ""]
    click.echo(f"  asked: {', '.join(filter(None, [*wanted, str(asked.tier), str(asked.runtime)]))}")
    if record.phase is Phase.QUEUED and record.waits_for.position:
        waits = record.waits_for
        click.echo(f"  waits: {waits.position} of {waits.length}; evicted for it: {', '.join(waits.victims) or 'nobody'}")
    if record.suspended and record.resumes:
        waits = record.waits_for
        lack = f" for {waits.field}: asked {waits.asked}, {waits.free_now}" if waits.field else ""
        click.echo(f"  comes back as soon as there is room{lack}")
    show_placements(record.placements)
    for device_id, item in seen.items():
        click.echo(f"  on {device_id}: {item.state}, generation {item.generation}, holds {show_bytes(item.vram_used_bytes)}")
        if item.away_bytes:
            click.echo(f"    on the host: {show_bytes(item.away_bytes)}")
        if item.message:
            click.echo(f"    {item.message}")
    show_decision(record.decision)
    for line in breach_lines(guard, time.time_ns()) if guard is not None else ():
        click.echo(line)


async def find(bus: Bus, slice_id: str) -> SliceRecord:
    """The record of a slice.

    Raises:
        CliError: there is none.
    """
    entry = await bus.state.get(f"slice.{slice_id}", SliceRecord)
    if entry is None:
        raise CliError(f"slice {slice_id}: no such slice; `mica ls --all` lists them")
    return entry.value
