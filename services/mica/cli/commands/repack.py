"""``mica repack``: which moves would free devices, and having them made. Invariant: without --apply nothing is changed."""

import asyncio
import time
from typing import Any, Final

import click
from msgspec import to_builtins

from mica.bus import Bus, Heard
from mica.cli import _documents as documents
from mica.cli._answers import say
from mica.cli._errors import CliError
from mica.cli._quantities import SECONDS, show_bytes, show_share
from mica.cli._session import connected, json_option, run, server_option
from mica.cli._table import show_json, show_table
from mica.events import (
    PlannedMove,
    PoolRepacked,
    PoolShape,
    RepackPool,
    RepackState,
    RepackStep,
    SliceRefused,
    StepState,
    Tier,
)

WAIT_S: Final = 120.0
POLL_S: Final = 0.2
OPEN: Final = (StepState.WAITING, StepState.SENT)
HEAD: Final = ("", "SLICE", "TENANT", "TIER", "FROM", "TO", "SIZE", "PROGRAMS", "COST", "GAIN", "WHAT FOR")
TOTALS: Final = ("", "NOW", "THEN")


@click.command()
@click.option("--pool", help="Only this pool; else every one, one after the other.")
@click.option("--moves", "moves_max", type=click.IntRange(1, 1000), default=16, show_default=True, help="At most so many.")
@click.option(
    "--tier", "tiers", type=click.Choice([str(each) for each in Tier]), multiple=True, help="Slices of this tier may move."
)
@click.option("--restarts/--no-restarts", default=None, help="Also slices whose programs hold memory: they are ended.")
@click.option(
    "--min-gain", type=click.FloatRange(0, 1000), default=0.0, help="In devices, after costs; what brings less is no plan."
)
@click.option("--apply", is_flag=True, help="Make the moves, one after the other, and follow them.")
@click.option("--status", is_flag=True, help="Only show how far the last plan was carried out.")
@click.option("--timeout", "timeout_s", type=SECONDS, default="1h", show_default=True, help="Stop following after this.")
@server_option
@json_option
def repack(server: str | None, *, as_json: bool, status: bool, timeout_s: float, **wanted: Any) -> int:
    """Show which slices to move so that they need fewer devices and leave larger pieces free: each move with its cost and gain.

    Which tiers may move, and whether programs may be ended for it, is the pool's policy (`repacking`) unless options say
    otherwise; what the policy does not allow is shown, and not applied.
    """
    if status:
        return run(_status(server, wanted["pool"], as_json=as_json))
    plans = run(_plans(server, wanted))
    if as_json:
        show_json([to_builtins(each) for each in plans])
    else:
        for each in plans:
            show_plan(each)
    applied = [each for each in plans if each.outcome == "applied"]
    return run(_follow(server, applied, timeout_s)) if applied and not as_json else 0


async def _plans(server: str | None, wanted: dict[str, Any]) -> list[PoolRepacked]:
    async with connected(server) as bus:
        pools = [wanted["pool"]] if wanted["pool"] else sorted({each.pool for each in await documents.inventories(bus)})
        if not pools:
            raise CliError("there is no node, and so no pool")
        tiers = tuple(Tier(each) for each in wanted["tiers"]) or None
        fields = {name: wanted[name] for name in ("apply", "moves_max", "restarts", "min_gain")}
        return [await _plan(bus, RepackPool(**(fields | {"pool": pool, "tiers": tiers}))) for pool in pools]


async def _plan(bus: Bus, command: RepackPool) -> PoolRepacked:
    async with say(bus, command, ()) as conversation:
        answer = await conversation.first(_answer, WAIT_S)
    if answer is None:
        raise CliError(f"pool {command.pool}: no answer in {WAIT_S:g} s; is a planner running?")
    if isinstance(answer, SliceRefused):
        raise CliError(f"pool {command.pool}: refused: {answer.message}")
    assert isinstance(answer, PoolRepacked)
    return answer


def _answer(heard: Heard) -> PoolRepacked | SliceRefused | None:
    return heard.event if isinstance(heard.event, PoolRepacked | SliceRefused) else None


def show_plan(plan: PoolRepacked) -> None:
    """The plan in one line, its moves in their order, the totals, and why slices stay."""
    click.echo(f"pool {plan.pool}: {plan.summary}")
    if plan.moves:
        click.echo("")
        show_table(HEAD, [_line(number, each) for number, each in enumerate(plan.moves, start=1)], empty="")
        click.echo("")
        rows = [(name, now, then) for (name, now), (_, then) in zip(_totals(plan.before), _totals(plan.after), strict=True)]
        show_table(TOTALS, rows, empty="")
        click.echo("\nCosts and gains are in devices: a whole device made free counts 1 beside the room that it has.")
    for reason, count in sorted(plan.held_back.items()):
        click.echo(f"{count} stay: {reason}")


def _line(number: int, move: PlannedMove) -> tuple[str, ...]:
    programs = f"end within {move.grace_s:g} s, {show_bytes(move.moved_bytes)}" if move.restarts else "none"
    to = move.to_device_id if move.start is None else f"{move.to_device_id} at {move.start}"
    size = f"{show_bytes(move.vram_bytes)}, {show_share(move.share_ppm)}"
    return (
        str(number), move.id, move.tenant, move.tier, move.device_id, to, size, programs, f"{move.cost:.2f}", f"{move.gain:.2f}",
        move.why,
    )  # fmt: skip


def _totals(shape: PoolShape) -> tuple[tuple[str, str], ...]:
    return (
        ("devices free", f"{shape.free_devices} of {shape.devices}"),
        ("memory free", show_bytes(shape.free_bytes)),
        ("in largest slices", show_bytes(shape.largest_bytes)),
        ("fragmentation", f"{shape.fragmentation:.1%}"),
    )


async def _status(server: str | None, pool: str | None, *, as_json: bool) -> int:
    async with connected(server) as bus:
        found = await documents.snapshot(bus.state, f"repack.{pool or '*'}", RepackState)
    if as_json:
        show_json([found[key] for key in sorted(found)])
        return 0
    for state in found.values():
        click.echo(f"pool {state.pool}: plan {state.about or '-'}")
        for number, step in enumerate(state.steps, start=1):
            click.echo(_step_line(number, step))
    if not found:
        click.echo("no plan was carried out")
    return 0


async def _follow(server: str | None, plans: list[PoolRepacked], timeout_s: float) -> int:
    """Show every step as it ends; 0 where all of them are done."""
    until = time.monotonic() + timeout_s
    good = True
    async with connected(server) as bus:
        for plan in plans:
            click.echo("")
            good = await _follow_one(bus, plan, until) and good
    return 0 if good else 1


async def _follow_one(bus: Bus, plan: PoolRepacked, until: float) -> bool:
    told = 0
    while True:
        entry = await bus.state.get(f"repack.{plan.pool}", RepackState)
        if entry is None or entry.value.about != plan.about:
            raise CliError(f"pool {plan.pool}: another plan has taken the place of {plan.about}")
        steps = entry.value.steps
        while told < len(steps) and steps[told].state not in OPEN:
            told += 1
            click.echo(_step_line(told, steps[told - 1]))
        if told == len(steps):
            return all(step.state is StepState.DONE for step in steps)
        if time.monotonic() > until:
            raise CliError(
                f"pool {plan.pool}: {len(steps) - told} moves are still open; `mica repack --status` tells how far they got"
            )
        await asyncio.sleep(POLL_S)


def _step_line(number: int, step: RepackStep) -> str:
    move = step.move
    why = f": {step.message}" if step.message else ""
    return f"{number}. {move.id} from {move.device_id} to {move.to_device_id}: {step.state}{why}"
