"""``mica explain``: why a slice is where it is, or what would become of a request. Invariant: nothing is changed by asking."""

import re
import time
from collections.abc import Iterable
from typing import Any, Final

import click
from msgspec import to_builtins

from mica.bus import Bus, Heard
from mica.cli import _documents as documents
from mica.cli._answers import say
from mica.cli._dry_run import explained
from mica.cli._errors import CliError
from mica.cli._explaining import Account, refused, told
from mica.cli._session import connected, json_option, run, server_option
from mica.cli._table import show_json
from mica.cli.commands.listing import seen_of, state_of
from mica.cli.commands.request import read_request, request_options, wanted_request
from mica.events import (
    SLICES,
    ExplainSlice,
    Inventory,
    RequestSlice,
    SliceExplained,
    SliceFact,
    SliceRecord,
    SliceRefused,
    SliceRejected,
)

WAIT_S: Final = 10.0
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@click.command()
@click.argument("about", metavar="[ID|REQUEST]", required=False)
@request_options
@server_option
@json_option
def explain(about: str | None, source: Any, server: str | None, *, as_json: bool, **fields: Any) -> int:
    """Tell why a slice is where it is, or why a request waits or was refused; or what would become of a request now.

    ID is a slice's or a request's. REQUEST is a request in JSON, as for `nats pub slice.request`; options or --file say the
    same: the answer is what the planner would do with it, device by device. Nothing is changed.
    """
    if about is not None:
        _stands_alone(about, {**fields, "source": source})
    if about is not None and not about.lstrip().startswith("{"):
        return run(_explain_id(about, server, as_json=as_json))
    wanted = read_request(about.encode()) if about is not None else wanted_request(source, fields)
    answer = run(_explain(wanted, server))
    if as_json:
        show_json(to_builtins(answer))
    else:
        _print(explained(answer, wanted))
    return 0 if answer.outcome == "placed" else 1


def _stands_alone(about: str, fields: dict[str, Any]) -> None:
    """Refuse options beside an ID or a request.

    Raises:
        click.UsageError: naming them.
    """
    given = {name for name, value in fields.items() if value not in (None, ())}
    flags = [each.opts[0] for each in click.get_current_context().command.params if each.name in given]
    if flags:
        raise click.UsageError(
            f"got {about!r} and {', '.join(flags)}; allowed: an ID or a REQUEST alone, or options that describe one"
        )


def _print(lines: Iterable[str]) -> None:
    click.echo("\n".join(lines))


async def _explain(wanted: RequestSlice, server: str | None) -> SliceExplained:
    async with connected(server) as bus, say(bus, ExplainSlice(request=wanted), ()) as conversation:
        answer = await conversation.first(_answer, WAIT_S)
    if answer is None:
        raise CliError(f"no answer in {WAIT_S:g} s; is a planner running?")
    if isinstance(answer, SliceRefused):
        raise CliError(f"request: {answer.message}")
    assert isinstance(answer, SliceExplained)
    return answer


def _answer(heard: Heard) -> SliceExplained | SliceRefused | None:
    return heard.event if isinstance(heard.event, SliceExplained | SliceRefused) else None


async def _explain_id(id_: str, server: str | None, *, as_json: bool) -> int:
    """What was decided about a slice or a request.

    Raises:
        CliError: it is no id, or nothing is known of it.
    """
    if not _ID.fullmatch(id_):
        raise CliError(
            f"got {id_!r}, allowed: the ID of a slice or of a request (1 to 64 of A-Z a-z 0-9 _ -), or a request in JSON"
        )
    async with connected(server) as bus:
        facts = [each.event for each in await bus.history(SLICES.name, (f"slice.*.{id_}",)) if isinstance(each.event, SliceFact)]
        entry = await bus.state.get(f"slice.{id_}", SliceRecord)
        account = await _account(bus, entry.value, facts) if entry is not None else None
    if account is not None:
        _show_account(account, as_json=as_json)
        return 0
    rejection = next((each for each in facts if isinstance(each, SliceRejected)), None)
    if rejection is None:
        raise CliError(f"{id_}: no slice or request of that id is known; `mica ls --all` lists them")
    if as_json:
        show_json(rejection)
    else:
        _print(refused(rejection, time.time_ns()))
    return 0


async def _account(bus: Bus, record: SliceRecord, facts: list[SliceFact]) -> Account:
    """A record, with how things stand and what the devices in it are."""
    decision = record.decision
    nodes = sorted({each.node for each in decision.rejected} if decision is not None else ())
    inventories = [await bus.state.get(f"inventory.{node}", Inventory) for node in nodes]
    models = {device.id: device.model for entry in inventories if entry is not None for device in entry.value.devices}
    seen = seen_of(record, await documents.observations(bus)) if record.placements else {}
    return Account(record=record, state=state_of(record, list(seen.values())), facts=facts, models=models, now_ns=time.time_ns())


def _show_account(account: Account, *, as_json: bool) -> None:
    if not as_json:
        _print(told(account))
        return
    happened = [
        {"event": str(each.__struct_config__.tag), "at": each.at, "generation": each.generation} for each in account.facts
    ]
    show_json({**to_builtins(account.record), "state": account.state, "models": account.models, "happened": happened})
