"""``mica explain``: what would become of a request, device by device. Invariant: nothing is changed by asking."""

from typing import Any, Final

import click
from msgspec import to_builtins

from mica.bus import Heard
from mica.cli._answers import say
from mica.cli._errors import CliError
from mica.cli._quantities import show_bytes, show_share
from mica.cli._session import connected, json_option, run, server_option
from mica.cli._table import show_json, show_table
from mica.cli.commands.request import read_request, request_options, wanted_request
from mica.events import Candidate, ExplainSlice, RequestSlice, SliceExplained, SliceRefused

WAIT_S: Final = 10.0
HEAD: Final = ("", "NODE", "DEVICE", "MODEL", "MODE", "GIVES", "WASTE", "VERDICT")


@click.command()
@click.argument("body", metavar="[REQUEST]", required=False)
@request_options
@server_option
@json_option
def explain(body: str | None, source: Any, server: str | None, *, as_json: bool, **fields: Any) -> int:
    """Show what the planner would do with REQUEST now, and why: every device, the mode it would get, and what speaks against it.

    REQUEST is a request in JSON, as for `nats pub slice.request`; options or --file say the same. Nothing is changed.
    """
    wanted = read_request(body.encode()) if body else wanted_request(source, fields)
    answer = run(_explain(wanted, server))
    if as_json:
        show_json(to_builtins(answer))
    else:
        show_explanation(answer)
    return 0 if answer.outcome == "placed" else 1


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


def show_explanation(answer: SliceExplained) -> None:
    """The outcome, then the candidates: taken, fitting by rank, and not fitting with the reason."""
    click.echo(f"{answer.outcome}: {answer.summary}")
    click.echo("")
    show_table(HEAD, [_line(each) for each in answer.candidates], empty="no device was looked at")
    if answer.left_out:
        click.echo(f"and {answer.left_out} more, which fit less well or not at all")
    if any(each.fits for each in answer.candidates):
        click.echo("\nThe first column is the order of preference: the strongest mode, a device as it is, the least waste.")


def _line(each: Candidate) -> tuple[str, ...]:
    mark = "*" if each.chosen else str(each.rank) if each.fits else "-"
    gives = [show_bytes(each.vram_bytes), show_share(each.share_ppm)] if each.fits else []
    if each.partition is not None:
        gives.append(f"{each.partition.profile} at {each.partition.start}")
    if each.window is not None:
        gives.append(f"{each.window.length_ns / 1e6:g} of {each.window.period_ns / 1e6:g} ms")
    verdict = each.reason + ("; the device is switched for it" if each.switches else "")
    waste = f"{each.waste:.2f}" if each.fits else ""
    return mark, each.node, each.device_id, each.model, str(each.mode or ""), ", ".join(gives), waste, verdict
