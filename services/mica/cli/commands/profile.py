"""``mica profile``: measures a program over slice sizes and batches, and stores what came out.

Invariant: what is stored under ``profile.<name>`` has passed the same check as any policy, and was shown.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from msgspec import Struct

from mica.bus import Bus, Version
from mica.cli import _policy_lines as lines
from mica.cli._errors import CliError
from mica.cli._policies import Held, held, write
from mica.cli._profiling import PLACEHOLDER, Measured
from mica.cli._quantities import BYTES, SECONDS, SHARE, show_bytes, show_share
from mica.cli._runtime import runtime_dir as usual_runtime_dir
from mica.cli._session import connected, json_option, run, server_option
from mica.cli._table import show_json, show_table
from mica.cli._trials import Plan, carry_out
from mica.cli.commands.listing import age
from mica.cli.commands.run import without_dashes
from mica.events import ID_PATTERN, EventError, MeasuredPoint, Profile, RequestSlice, StoredProfile, WorkloadKind
from mica.policy import check

HEAD: Final = ("SHARE", "BATCH", "RATE", "P99", "TTFT", "TPOT", "VRAM PEAK")
LIST_HEAD: Final = ("NAME", "VERSION", "AGE", "BY", "MODEL", "DEVICE", "POINTS", "SOURCE")
SHARES: Final = (250_000, 500_000, 1_000_000)
BATCHES: Final = (1, 4, 16)
REQUESTED: Final = ("tenant", "vram_bytes", "mode", "pool", "vendor", "runtime", "queue_s")


class How(Struct, frozen=True, kw_only=True):
    """Where the profile goes, and what is known of the workload beside its points."""

    name: str | None
    model: str
    kind: str | None
    server: str | None
    as_json: bool


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--name", metavar="NAME", help="Store it under profile.NAME, for requests to name.")
@click.option("--list", "list_", is_flag=True, help="List the stored profiles instead.")
@click.option("--show", metavar="NAME", help="Show a stored profile instead.")
@click.option("--vram", "vram_bytes", type=BYTES, help="Device memory of each slice.")
@click.option("--share", "shares", type=SHARE, multiple=True, help="Compute of a slice to measure; several [25%, 50%, 100%].")
@click.option(
    "--batch", "batches", type=click.IntRange(1, 1_000_000), multiple=True, help="For {batch} in CMD; several [1, 4, 16]."
)
@click.option("--runs", type=click.IntRange(1, 100), default=3, show_default=True, help="Of each size; the worst counts.")
@click.option("--timeout", "limit_s", type=SECONDS, default="10m", show_default=True, help="Of one run.")
@click.option("--model", default="", help="What the workload is: a model that mica knows, or free text.")
@click.option("--kind", type=click.Choice([str(each) for each in WorkloadKind]), help="What it computes.")
@click.option("--tenant", default="profiler", show_default=True, help="Who asks for the slices.")
@click.option("--mode", help="hardware, fcsp or timeslice; the planner chooses when left out.")
@click.option("--pool", help="Only nodes of this pool.")
@click.option("--vendor", help="Only devices of this vendor.")
@click.option("--runtime", help="cuda, opencl, hip, level_zero, cann or qaic.")
@click.option("--queue", "queue_s", type=SECONDS, default="10s", show_default=True, help="Wait so long for each slice.")
@click.option("--runtime-dir", type=click.Path(path_type=Path), help="Of the node [MICA_RUNTIME_DIR, /run/mica].")
@server_option
@json_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- CMD…")
def profile(command: Sequence[str], *, list_: bool, show: str | None, **given: Any) -> None:
    """Run CMD in a slice of each size, on this node, and measure it.

    CMD may have {batch} in it, and say how it does in a line of JSON: {"rate_hz": 120, "p99_ms": 18.5}, with ttft_ms and
    tpot_ms where it generates. Of a CMD that says nothing the wall time is taken. Memory and device time are mica's own count.
    """
    how = How(**{name: given.pop(name) for name in How.__struct_fields__})
    if list_ or show is not None:
        if command:
            raise click.UsageError("--list and --show run no command")
        run(_show(show, how) if show is not None else _list(how))
        return
    if not command:
        raise click.UsageError("no program is named after --")
    _check_name(how.name)
    run(_measure(plan_of(without_dashes(command), given), how))


def plan_of(command: list[str], given: dict[str, Any]) -> Plan:
    """What was typed, checked.

    Raises:
        UsageError: batches without a place for them, or slices without memory.
        CliError: naming a field of the request.
    """
    places = any(PLACEHOLDER in word for word in command)
    if given["batches"] and not places:
        raise click.UsageError(f"--batch without {PLACEHOLDER} in CMD: it would change nothing")
    if given["vram_bytes"] is None:
        raise click.UsageError("--vram: got nothing, allowed: the memory of each slice, such as 8GiB")
    fields = {name: given[name] for name in REQUESTED if given[name] is not None}
    try:
        request = msgspec.convert(fields, RequestSlice)
    except msgspec.ValidationError as error:
        raise CliError(f"profile: {error}") from None
    return Plan(
        command=tuple(command), request=request, shares_ppm=tuple(sorted(set(given["shares"] or SHARES))),
        batches=tuple(sorted(set(given["batches"] or (BATCHES if places else (1,))))), runs=given["runs"],
        limit_s=given["limit_s"],
        runtime_dir=(given["runtime_dir"] or usual_runtime_dir()).absolute(),
    )  # fmt: skip


async def _measure(plan: Plan, how: How) -> None:
    async with connected(how.server) as bus:
        points = await carry_out(bus, plan, lambda line: click.echo(line, err=True))
        found = profile_of(points, plan, how)
        version = await _store(bus, how.name, found, plan) if how.name is not None else None
    if how.as_json:
        show_json({"name": how.name, "version": version, "profile": found, "used": [each.used for each in points]})
        return
    show_table(HEAD, [_row(each) for each in found.points], empty="no points")
    gpu_s = sum(each.used.gpu_ns for each in points) / 1e9
    click.echo(f"on {found.device}; {found.source}; {gpu_s:.3g} s of device time in all")
    click.echo(f"stored as profile.{how.name}, version {version}" if version is not None else "not stored: give --name")


def profile_of(points: Sequence[Measured], plan: Plan, how: How) -> StoredProfile:
    """The points with where they are from.

    Raises:
        CliError: they contradict each other.
    """
    source = f"mica profile, worst of {plan.runs} runs" + (", wall time" if any(each.by_wall_time for each in points) else "")
    found = StoredProfile(
        model=how.model, kind=WorkloadKind(how.kind) if how.kind else None, points=tuple(each.point for each in points),
        device=points[0].model, source=source,
    )  # fmt: skip
    try:
        checked = check("profile.checked", msgspec.json.encode(found))
    except EventError as error:
        raise CliError(f"profile: {error}; measure again, with more --runs or on an idle device") from None
    assert isinstance(checked, StoredProfile)
    return checked


async def _store(bus: Bus, name: str, found: StoredProfile, plan: Plan) -> int:
    seen = await held(bus.policy, f"profile.{name}")
    return await write(bus.policy, seen, found, f"measured: {' '.join(plan.command)}"[:256])


async def _list(how: How) -> None:
    async with connected(how.server) as bus:
        versions = await bus.policy.versions("profile.*")
    by_key: dict[str, list[Version]] = {}
    for version in versions:
        by_key.setdefault(version.key, []).append(version)
    kept = [Held(key, StoredProfile, tuple(by_key[key])) for key in sorted(by_key)]
    rows = [(each, lines.version_row(each, each.version(each.number))) for each in kept if each.number]
    if how.as_json:
        show_json([row for _, row in rows])
        return
    show_table(LIST_HEAD, [_listed(each, row) for each, row in rows], empty="no profiles")


def _listed(kept: Held, row: dict[str, Any]) -> tuple[str, ...]:
    found = row["policy"]
    own = (found.model or "-", found.device or "-", str(len(found.points)), found.source or "-") if found is not None else ()
    return (
        kept.key.removeprefix("profile."), str(row["version"]), age(row["at"]), row["by"] or "-",
        *(own or ("-", "-", "-", kept.complaint)),
    )  # fmt: skip


async def _show(name: str, how: How) -> None:
    _check_name(name)
    async with connected(how.server) as bus:
        kept = await held(bus.policy, f"profile.{name}")
    in_force = kept.in_force
    if in_force is None:
        raise CliError(f"profile {name}: not stored; `mica profile --list` lists those that are")
    found = in_force.value
    assert isinstance(found, StoredProfile)
    if how.as_json:
        show_json(lines.version_row(kept, kept.version(in_force.revision)))
        return
    show_table(HEAD, [_row(each) for each in found.points], empty="no points")
    usual, left_out = StoredProfile(), ("points",)
    for field in Profile.__struct_fields__:
        value = getattr(found, field)
        if field not in left_out and value != getattr(usual, field):
            click.echo(f"{field:<14} {lines.show_value(field, value)}")


def _row(point: MeasuredPoint) -> tuple[str, ...]:
    def ms(value: float | None) -> str:
        return f"{value:.4g} ms" if value is not None else "-"

    return (
        show_share(point.share_ppm), str(point.batch), f"{point.rate_hz:.4g} Hz", ms(point.p99_ms), ms(point.ttft_ms),
        ms(point.tpot_ms), show_bytes(point.vram_bytes) if point.vram_bytes is not None else "-",
    )  # fmt: skip


def _check_name(name: str | None) -> None:
    import re

    if name is not None and re.fullmatch(ID_PATTERN, name) is None:
        raise CliError(f"name: got {name[:80]!r}, allowed: 1 to 64 of A-Z a-z 0-9 _ -")
