"""``mica rightsize``: which sizes would fit what slices use. Invariant: without --apply nothing is changed."""

from typing import Final

import click
from msgspec import to_builtins

from mica.bus import Heard
from mica.cli._answers import say
from mica.cli._errors import CliError
from mica.cli._quantities import SECONDS, show_bytes, show_share
from mica.cli._session import connected, json_option, run, server_option
from mica.cli._table import show_json, show_table
from mica.events import RightsizeSlices, SizeAdvice, SliceRefused, SlicesRightsized

WAIT_S: Final = 60.0
HEAD: Final = ("SLICE", "TENANT", "TIER", "HAS", "USED", "HELD BACK", "REFUSED", "SEEN", "ADVICE", "WOULD HAVE", "SAVES", "WHY")


@click.command()
@click.argument("id", required=False)
@click.option("--tenant", help="Only this tenant's slices.")
@click.option("--window", "window_s", type=SECONDS, help="How far to look back, up to 15m; else as the tenant's policy has it.")
@click.option("--apply", is_flag=True, help="Resize what is to shrink or to grow.")
@server_option
@json_option
def rightsize(  # noqa: PLR0913 - one parameter for each option, as click has it
    id: str | None,  # noqa: A002 - as typed
    tenant: str | None,
    window_s: float | None,
    server: str | None,
    *,
    apply: bool,
    as_json: bool,
) -> None:
    """Show what slices use of what they have, and which size would fit them: less where it is idle, more where it is short."""
    answer = run(_ask(server, RightsizeSlices(id=id, tenant=tenant, window_s=window_s, apply=apply)))
    if as_json:
        show_json(to_builtins(answer))
    else:
        show_advices(answer)


async def _ask(server: str | None, command: RightsizeSlices) -> SlicesRightsized:
    async with connected(server) as bus, say(bus, command, ()) as conversation:
        answer = await conversation.first(_answer, WAIT_S)
    if answer is None:
        raise CliError(f"no answer in {WAIT_S:g} s; is a planner running?")
    if isinstance(answer, SliceRefused):
        raise CliError(f"refused: {answer.message}")
    assert isinstance(answer, SlicesRightsized)
    return answer


def _answer(heard: Heard) -> SlicesRightsized | SliceRefused | None:
    return heard.event if isinstance(heard.event, SlicesRightsized | SliceRefused) else None


def show_advices(answer: SlicesRightsized) -> None:
    """The sum, then a line for each slice, then what was sent."""
    click.echo(answer.summary)
    if answer.advices:
        click.echo("")
        show_table(HEAD, [_line(each) for each in answer.advices], empty="")
    if answer.applied:
        click.echo(f"\nresizing: {', '.join(answer.applied)}")


def _line(each: SizeAdvice) -> tuple[str, ...]:
    saved = [show_bytes(each.vram_bytes - each.to_vram_bytes)] if each.to_vram_bytes < each.vram_bytes else []
    saved += [show_share(each.share_ppm - each.to_share_ppm)] if each.to_share_ppm < each.share_ppm else []
    changes = (each.to_vram_bytes, each.to_share_ppm) != (each.vram_bytes, each.share_ppm)
    return (
        each.id, each.tenant, each.tier, _size(each.vram_bytes, each.share_ppm), _size(each.used_bytes, each.used_ppm),
        f"{each.throttled:.0%}", str(each.refusals), f"{each.seconds:.0f}s", each.action,
        _size(each.to_vram_bytes, each.to_share_ppm) if changes else "-", ", ".join(saved) or "-", each.why,
    )  # fmt: skip


def _size(vram_bytes: int, share_ppm: int) -> str:
    return f"{show_bytes(vram_bytes)}, {show_share(share_ppm)}"
