"""``mica queue``: the requests that wait, and what for. Invariant: it only reads; the positions are the planner's."""

import time
from typing import Any

import click

from mica.cli import _documents as documents
from mica.cli._session import connected, json_option, run, server_option
from mica.cli._table import show_json, show_table
from mica.cli.commands.listing import age
from mica.events import Phase, SliceRecord, WaitsFor

HEAD = ("POSITION", "ID", "TENANT", "TIER", "PRIORITY", "WANTS", "WAITING", "UNTIL", "WAITS FOR")


@click.command()
@server_option
@json_option
def queue(server: str | None, *, as_json: bool) -> None:
    """List the requests and the slices that wait for capacity, the one that is tried first in front."""
    rows = run(_rows(server))
    if as_json:
        show_json(rows)
        return
    show_table(HEAD, [_line(row) for row in rows], empty="nobody waits")


async def _rows(server: str | None) -> list[dict[str, Any]]:
    async with connected(server) as bus:
        waiting = [record for record in await documents.records(bus) if is_waiting(record)]
    return [
        row_of(record) for record in sorted(waiting, key=lambda each: (each.waits_for.position or 1 << 30, each.request_sequence))
    ]


def is_waiting(record: SliceRecord) -> bool:
    """A request without a place, a slice that has lost its own, or one that is suspended and is to come back."""
    return record.phase is Phase.QUEUED or (record.phase is Phase.PLACED and record.suspended and record.resumes)


def row_of(record: SliceRecord) -> dict[str, Any]:
    """Its line, as JSON has it; ``until`` is 0 where it waits without an end."""
    is_new = record.phase is Phase.QUEUED and record.lost is None
    return {
        "position": record.waits_for.position,
        "id": record.id,
        "tenant": record.request.tenant,
        "tier": str(record.request.tier),
        "priority": record.request.priority,
        "wants": "a place" if is_new else "to come back" if record.suspended else "another place",
        "since": record.until - int(record.request.queue_s * 1e9) if is_new else record.updated_at,
        "until": 0 if record.suspended else record.until,
        "field": record.waits_for.field,
        "asked": record.waits_for.asked,
        "free_now": record.waits_for.free_now,
        "victims": list(record.waits_for.victims),
        "waits_for": waits_text(record.waits_for),
    }


def waits_text(waits_for: WaitsFor) -> str:
    """``vram_bytes: asked 8, at most 4 now; evicted for it: a, b``."""
    parts = [f"{waits_for.field}: asked {waits_for.asked}, {waits_for.free_now}"] if waits_for.field else []
    if waits_for.victims:
        parts.append(f"evicted for it: {', '.join(waits_for.victims)}")
    return "; ".join(parts)


def _line(row: dict[str, Any]) -> tuple[str, ...]:
    left = f"in {max(0, row['until'] - time.time_ns()) // 1_000_000_000}s" if row["until"] else "-"
    return (
        str(row["position"] or "-"), row["id"], row["tenant"], row["tier"], str(row["priority"]), row["wants"], age(row["since"]),
        left, row["waits_for"],
    )  # fmt: skip
