"""``mica watch``: events as they happen. Invariant: one event, one line."""

import time
from typing import Any

import click
import msgspec

from mica.bus import Heard
from mica.cli._quantities import show_bytes, show_share
from mica.cli._session import connected, run, server_option
from mica.events import Placement

SUBJECTS = ("slice.>", "node.>", "slo.>")
HIDDEN = frozenset({"type", "at", "id", "tenant", "placements", "decision", "generation"})


@click.command()
@click.argument("id", required=False)
@click.option("--tenant", help="Only this tenant's slices.")
@click.option("--telemetry", is_flag=True, help="Also samples of devices and slices.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: subject, traceparent and event.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many events.")
@server_option
def watch(**given: Any) -> None:
    """Show events as they happen: all of them, or those of slice ID."""
    run(_watch(Options(**given)))


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for on the command line."""

    id: str | None = None
    tenant: str | None = None
    telemetry: bool = False
    as_json: bool = False
    count: int | None = None
    server: str | None = None

    def passes(self, heard: Heard) -> bool:
        """Whether the event is about the slice and the tenant that were asked for."""
        event = heard.event
        if self.id is not None and getattr(event, "id", None) != self.id and not heard.subject.endswith(f".{self.id}"):
            return False
        return self.tenant is None or getattr(event, "tenant", None) == self.tenant


async def _watch(options: Options) -> None:
    shown = 0
    subjects = (*SUBJECTS, *(("telemetry.>",) if options.telemetry else ()))
    async with connected(options.server) as bus, bus.following(*subjects) as events:
        async for heard in events:
            if not options.passes(heard):
                continue
            click.echo(line_json(heard) if options.as_json else line(heard))
            shown += 1
            if shown == options.count:
                return


def line_json(heard: Heard) -> str:
    """The event for programs."""
    return msgspec.json.encode({"subject": heard.subject, "traceparent": heard.traceparent, "event": heard.event}).decode()


def line(heard: Heard) -> str:
    """The event for people: time, subject, and what it says."""
    event: dict[str, Any] = msgspec.to_builtins(heard.event)
    at = event.get("at") or time.time_ns()
    clock = time.strftime("%H:%M:%S", time.localtime(at // 10**9)) + f".{at // 10**6 % 1000:03d}"
    parts = [clock, heard.subject.ljust(28)]
    parts += [f"{name}={event[name]}" for name in ("tenant", "generation") if event.get(name)]
    if not heard.subject.endswith(f".{event.get('id')}") and event.get("id"):
        parts.append(f"id={event['id']}")
    parts += [_place(placement) for placement in getattr(heard.event, "placements", ())]
    if event.get("decision"):
        parts.append(f"why={event['decision']['summary']!r}")
    parts += [f"{name}={_value(name, value)}" for name, value in event.items() if name not in HIDDEN]
    return " ".join(parts)


def _place(placement: Placement) -> str:
    what = f"{placement.mode},{show_bytes(placement.vram_bytes)},{show_share(placement.share_ppm)}"
    return f"{placement.node}/{placement.device_id}[{what}]"


def _value(name: str, value: Any) -> str:
    if name.endswith("vram_bytes"):
        return show_bytes(value)
    if name.endswith("share_ppm"):
        return show_share(value)
    return repr(value) if isinstance(value, str) and " " in value else str(value)
