"""``mica policy``: what operators have decided about pools, nodes and tenants, and every version of it that is kept.

Invariant: exit status 0 means that what was asked for is so, and what changed was shown.
"""

import sys
from pathlib import Path
from typing import Any, Final

import click
from msgspec import Struct

from mica.bus import Bus, Version
from mica.cli import _documents as documents
from mica.cli import _policy_lines as lines
from mica.cli._errors import CliError
from mica.cli._policies import NOT_SET, Held, held, proposed, write
from mica.cli._session import connected, json_option, run, server_option
from mica.cli._table import show_json, show_table
from mica.cli.commands.listing import age
from mica.events import EventError
from mica.policy import KINDS, Policy, check, kind_of

LIST_HEAD: Final = ("KEY", "VERSION", "AGE", "BY", "POLICY")
HISTORY_HEAD: Final = ("VERSION", "AGE", "BY", "MESSAGE", "CHANGE")
MESSAGE_MAX: Final = 256


def _known(_: click.Context, __: click.Parameter, key: str) -> str:
    try:
        kind_of(key)
    except EventError as error:
        raise CliError(str(error)) from None
    return key


KEY = click.argument("key", callback=_known)
MESSAGE = click.option("-m", "--message", default="", help="Why, for those who read the history.")
FILE = click.option("--file", "file", metavar="F", help="The whole policy as JSON; - reads stdin.")
IF_VERSION = click.option("--if-version", type=int, metavar="N", help="Only if the latest version is N (0: not set).")


class How(Struct, frozen=True, kw_only=True):
    """The options that the commands share."""

    server: str | None
    as_json: bool


@click.group()
def policy() -> None:
    """Policies of pools (pool.NAME), nodes (node.NAME), tenants (tenant.NAME, tenant._default), gates (gate.SLICE).

    Stored profiles (profile.NAME) have versions, too.
    """


@policy.command("ls")
@server_option
@json_option
def list_(server: str | None, *, as_json: bool) -> None:
    """List the policies that are set."""
    run(_list(How(server=server, as_json=as_json)))


async def _list(how: How) -> None:
    async with connected(how.server) as bus:
        versions = await bus.policy.versions(">")
    by_key: dict[str, list[Version]] = {}
    for version in versions:
        if version.key.partition(".")[0] in KINDS:
            by_key.setdefault(version.key, []).append(version)
    found = [Held(key, KINDS[key.partition(".")[0]], tuple(by_key[key])) for key in sorted(by_key)]
    rows = [(each, lines.version_row(each, each.version(each.number))) for each in found if each.number]
    if how.as_json:
        show_json([row for _, row in rows])
        return
    cells = [
        (row["key"], str(row["version"]), age(row["at"]), row["by"] or "-", each.complaint or lines.compact(row["policy"]))
        for each, row in rows
    ]
    show_table(LIST_HEAD, cells, empty="no policies")


@policy.command()
@KEY
@click.option("--version", "number", type=int, metavar="N", help="That version instead of the one in force.")
@server_option
@json_option
def get(key: str, number: int | None, server: str | None, *, as_json: bool) -> None:
    """Show a policy, field by field."""
    run(_get(key, number, How(server=server, as_json=as_json)))


async def _get(key: str, number: int | None, how: How) -> None:
    async with connected(how.server) as bus:
        found = await held(bus.policy, key)
    if number is None and found.complaint:
        click.echo(f"policy {key}: {found.complaint}", err=True)
    in_force = found.in_force
    if number is None and in_force is None:
        raise CliError(f"policy {key}: {NOT_SET}")
    version = found.version(number if number is not None else in_force.revision if in_force is not None else 0)
    value = found.value(version)
    if how.as_json:
        show_json(lines.version_row(found, version))
        return
    said = f": {version.note.message}" if version.note.message else ""
    click.echo(f"{key}: version {version.revision}, {age(version.at)} ago by {version.note.author or 'somebody'}{said}")
    if value is None:
        click.echo(f"  {NOT_SET}")
    else:
        show_table(("FIELD", "VALUE", ""), lines.policy_lines(value), empty="no fields")


@policy.command()
@KEY
@server_option
@json_option
def history(key: str, server: str | None, *, as_json: bool) -> None:
    """List a policy's versions, oldest first: when, by whom, why, and what changed."""
    rows = run(_history(key, server))
    if as_json:
        show_json(rows)
        return
    show_table(HISTORY_HEAD, lines.history_lines(rows), empty=f"policy {key}: never set")


async def _history(key: str, server: str | None) -> list[dict[str, Any]]:
    async with connected(server) as bus:
        return lines.history_rows(await held(bus.policy, key))


@policy.command("set")
@KEY
@click.argument("what", nargs=-1, metavar="[JSON|-] [FIELD=VALUE]...")
@FILE
@MESSAGE
@IF_VERSION
@server_option
@json_option
def set_(key: str, what: tuple[str, ...], file: str | None, message: str, **how: Any) -> None:
    """Set a policy: the whole of it as JSON, or single fields (quota.slices=8; FIELD= is its default again).

    Prints the version that was written and what changed.
    """
    body, assignments = typed(what, file)
    expected = how.pop("if_version")
    run(_set(key, (body, assignments), (_message(message), expected), How(**how)))


async def _set(key: str, given: tuple[bytes | None, list[str]], why: tuple[str, int | None], how: How) -> None:
    body, assignments = given
    proposed(key, body, assignments, None)
    async with connected(how.server) as bus:
        seen = await held(bus.policy, key)
        now = seen.in_force
        wanted = proposed(key, body, assignments, now.value if now is not None else None)
        await _change(bus, seen, wanted, why, how)
        missing = await _nobody(bus, key)
    if missing:
        click.echo(missing, err=True)


@policy.command()
@KEY
@MESSAGE
@IF_VERSION
@server_option
@json_option
def unset(key: str, message: str, if_version: int | None, server: str | None, *, as_json: bool) -> None:
    """Take a policy away; what holds without it holds again."""
    run(_unset(key, (_message(message), if_version), How(server=server, as_json=as_json)))


async def _unset(key: str, why: tuple[str, int | None], how: How) -> None:
    async with connected(how.server) as bus:
        seen = await held(bus.policy, key)
        if not seen.number:
            raise CliError(f"policy {key}: {NOT_SET}")
        await _change(bus, seen, None, why, how)


@policy.command()
@KEY
@click.option("--to", "number", type=int, metavar="N", help="That version [the last that says something else].")
@MESSAGE
@server_option
@json_option
def rollback(key: str, number: int | None, message: str, server: str | None, *, as_json: bool) -> None:
    """Write an earlier version again, as a new one."""
    run(_rollback(key, number, _message(message), How(server=server, as_json=as_json)))


async def _rollback(key: str, number: int | None, message: str, how: How) -> None:
    async with connected(how.server) as bus:
        seen = await held(bus.policy, key)
        target = seen.version(number) if number is not None else seen.before()
        wanted = check(key, target.data) if target.data is not None else None
        await _change(bus, seen, wanted, (message or f"rollback to version {target.revision}", None), how)


@policy.command()
@KEY
@click.argument("numbers", nargs=-1, type=int, metavar="[V1 [V2]]")
@FILE
@server_option
@json_option
def diff(key: str, numbers: tuple[int, ...], file: str | None, server: str | None, *, as_json: bool) -> None:
    """Show what two versions differ in: the latest two, V1 and what is in force, or V1 and V2.

    With --file: what setting that would change.
    """
    if len(numbers) > (0 if file else 2):
        raise click.UsageError("give at most two versions, and none with --file")
    row = run(_diff(key, numbers, typed((), file)[0] if file else None, server))
    if as_json:
        show_json(row)
        return
    click.echo("\n".join(lines.change_lines(row)))


async def _diff(key: str, numbers: tuple[int, ...], body: bytes | None, server: str | None) -> dict[str, Any]:
    after = check(key, body) if body is not None else None
    async with connected(server) as bus:
        found = await held(bus.policy, key)
    in_force = found.in_force
    now = (in_force.revision, in_force.value) if in_force is not None else (0, None)
    if body is not None:
        return lines.change_row(found, (now[0], 0), now[1], after)
    chosen = [found.version(number) for number in numbers] or list(found.versions[-2:])
    if not chosen:
        raise CliError(f"policy {key}: never set")
    sides = [(version.revision, found.value(version)) for version in chosen]
    if len(sides) == 1:
        sides = [*sides, now] if numbers else [(0, None), *sides]
    return lines.change_row(found, (sides[0][0], sides[1][0]), sides[0][1], sides[1][1])


async def _change(bus: Bus, seen: Held, wanted: Policy | None, why: tuple[str, int | None], how: How) -> None:
    """Write what differs from what is there, and show it."""
    message, expected = why
    if expected is not None and expected != seen.number:
        raise CliError(f"policy {seen.key}: the latest version is {seen.number}, expected {expected}; nothing is written")
    now = seen.in_force
    before = now.value if now is not None else None
    number = seen.number
    unchanged = wanted == before and not seen.complaint
    if not unchanged:
        number = await write(bus.policy, seen, wanted, message)
    row = lines.change_row(seen, (now.revision if now is not None else 0, number), before, wanted)
    if how.as_json:
        show_json(row)
    elif unchanged:
        click.echo(f"{seen.key}: unchanged, version {number}" if number else f"{seen.key}: {NOT_SET}, as before")
    else:
        click.echo("\n".join(lines.change_lines(row)))


async def _nobody(bus: Bus, key: str) -> str:
    """What to say when no node is concerned yet: the name may be a typo."""
    head, _, name = key.partition(".")
    if head in ("tenant", "profile"):
        return ""
    known = {getattr(inventory, head) for inventory in await documents.inventories(bus)}
    return "" if name in known else f"policy {key}: no {head} {name} yet; there is {', '.join(sorted(known)) or 'none'}"


def typed(what: tuple[str, ...], file: str | None) -> tuple[bytes | None, list[str]]:
    """The body and the assignments that were typed.

    Raises:
        CliError: the file can't be read.
        UsageError: there is neither, or more than one body.
    """
    assignments = [word for word in what if word != "-" and not word.lstrip().startswith("{")]
    bodies = [word for word in what if word not in assignments]
    for word in assignments:
        if "=" not in word:
            raise click.UsageError(f"got {word[:80]!r}, allowed: JSON in braces, - or FIELD=VALUE")
    if len(bodies) + (file is not None) > 1:
        raise click.UsageError("more than one policy: give JSON, - or --file")
    if file is None and not what:
        raise click.UsageError("nothing to set: give JSON, -, --file or FIELD=VALUE")
    if file is not None and file != "-":
        try:
            return Path(file).read_bytes(), assignments
        except OSError as error:
            raise CliError(f"file: got {file}, allowed: a file that can be read ({error.strerror})") from None
    if file == "-" or "-" in bodies:
        return sys.stdin.buffer.read(), assignments
    return (bodies[0].encode() if bodies else None), assignments


def _message(text: str) -> str:
    line = " ".join(text.split())
    if len(line) > MESSAGE_MAX:
        raise click.UsageError(f"message: got {len(line)} characters, allowed: at most {MESSAGE_MAX}")
    return line
