"""``mica resize``, ``release``, ``control``, ``evict``, ``move``, ``suspend``, ``resume``, and what becomes of them.

Invariant: exit status 0 means that the fact which confirms the command was heard, unless --no-wait was given.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource
from msgspec import Struct
from msgspec.structs import replace

from mica.bus import Heard
from mica.cli._answers import Conversation, refusal, say
from mica.cli._decision import show_placements
from mica.cli._errors import CliError
from mica.cli._limits import limit_options, take_limits
from mica.cli._quantities import BYTES, SECONDS, SHARE, show_bytes, show_seconds
from mica.cli._session import connected, json_option, run, server_option
from mica.cli._table import show_json
from mica.cli.commands.listing import find
from mica.events import (
    TERMINAL_PHASES,
    AskedLimits,
    Command,
    Control,
    ControlSlice,
    EvictSlice,
    Fact,
    Mode,
    MoveSlice,
    ReleaseSlice,
    ResizeSlice,
    ResumeSlice,
    SliceAsked,
    SliceEvicted,
    SliceFact,
    SliceFailed,
    SliceLost,
    SlicePlaced,
    SliceQueued,
    SliceReady,
    SliceRefused,
    SliceRejected,
    SliceReleased,
    SliceResized,
    SliceResumed,
    SliceSuspended,
    SuspendSlice,
    decode,
    encode,
    subject_of,
)

WAIT_S: Final = 30.0
REFUSED_S: Final = 2.0
"""For so long a refusal may follow a size in force that is not the one that was asked for."""
ENDED: Final = (SliceReleased, SliceEvicted, SliceLost, SliceFailed, SliceRejected)
WITHDRAWN: Final = (SliceRejected, SliceFailed)
"""How a slice ends that was still queued: its request gets its final answer, and there is nothing to release."""
CHANGED: Final = (SliceResized, SliceReady, SliceResumed)
F = TypeVar("F", bound=Callable[..., Any])


class How(Struct, frozen=True, kw_only=True):
    """The options that all of these commands share."""

    server: str | None
    timeout: float
    no_wait: bool
    as_json: bool


def _waiting(command: F) -> F:
    """The options that all of these commands share."""
    for option in (
        json_option,
        server_option,
        click.option("--no-wait", is_flag=True, help="Return once the command is stored."),
        click.option("--timeout", type=SECONDS, default=str(WAIT_S), show_default="30s", help="Give up waiting after this."),
        click.argument("id"),
    ):
        command = option(command)
    return command


@click.command()
@click.option("--vram", "vram_bytes", type=BYTES, help="New device memory: 24GiB, 24G or bytes.")
@click.option("--share", "share_ppm", type=SHARE, help="New compute: 70%, 0.7 or 700000ppm.")
@limit_options
@click.option(
    "--grace",
    "grace_s",
    type=SECONDS,
    default="30s",
    show_default=True,
    help="How long programs may hold more than the new size; then those of a spot slice end, else the old size stands again.",
)
@click.option("--move", "may_move", is_flag=True, help="Where its place can not have the size, to another place on its node.")
@click.option("--reason", default="", help="Free text.")
@_waiting
def resize(id: str, reason: str, **how: Any) -> None:  # noqa: A002 - as typed
    """Change a slice in place; what runs in it sees the new size without a restart."""
    limits = AskedLimits(**take_limits(how))
    size = {name: how.pop(name) for name in ("vram_bytes", "share_ppm", "grace_s", "may_move")}
    if size["vram_bytes"] is None and size["share_ppm"] is None and not limits.given:
        raise click.UsageError("nothing to change: give --vram, --share or a limit")
    command = ResizeSlice(id=id, limits=limits, reason=reason, **size)
    run(_send(command, CHANGED, _patient(How(**how), command.grace_s)))


@click.command()
@click.option("--grace", "grace_s", type=SECONDS, default="5s", show_default=True, help="Before its processes are terminated.")
@click.option("--drain", "drain_s", type=SECONDS, help="Let nobody in, and wait so long for its programs to end by themselves.")
@_waiting
def release(id: str, grace_s: float, drain_s: float | None, **how: Any) -> None:  # noqa: A002 - as typed
    """Give a slice back; returns when every byte of it is free again."""
    wait_s = grace_s if drain_s is None else drain_s
    command = ReleaseSlice(id=id, grace_s=wait_s)
    run(_send(command, (SliceReleased, SliceEvicted, *WITHDRAWN), _patient(How(**how), wait_s)))


@click.command()
@click.option(
    "--to",
    "control_word",
    required=True,
    type=click.Choice([str(word) for word in Control if word is not Control.SUSPEND]),
    help="The control word.",
)
@click.option("--reason", default="", help="Free text.")
@_waiting
def control(id: str, control_word: str, reason: str, **how: Any) -> None:  # noqa: A002 - as typed
    """Set a slice's control word: run, throttle, pause, drain or kill."""
    run(_send(ControlSlice(id=id, control=Control(control_word), reason=reason), CHANGED, How(**how)))


@click.command()
@click.option("--grace", "grace_s", type=SECONDS, default="5s", show_default=True, help="Before its processes are terminated.")
@click.option("--again", is_flag=True, help="Then place it elsewhere; its programs do not come along.")
@click.option("--reason", default="", help="Told to the tenant.")
@_waiting
def evict(id: str, grace_s: float, reason: str, *, again: bool, **how: Any) -> None:  # noqa: A002 - as typed
    """Take a slice away from its tenant, for good or from where it is."""
    command = EvictSlice(id=id, grace_s=grace_s, reason=reason, again=again)
    elsewhere = (SlicePlaced, SliceQueued, SliceLost) if again else ()
    run(_send(command, (SliceEvicted, SliceReleased, *elsewhere, *WITHDRAWN), _patient(How(**how), grace_s)))


@click.command()
@click.option("--node", help="To this node.")
@click.option("--device", "device_id", help="To this device.")
@click.option("--grace", "grace_s", type=SECONDS, help="Move it though programs use it: they are terminated after this.")
@click.option("--reason", default="", help="Free text.")
@_waiting
def move(id: str, node: str | None, device_id: str | None, grace_s: float | None, reason: str, **how: Any) -> None:  # noqa: A002 - typed
    """Place a slice on another device; one whose programs hold memory, or that is in hardware, only with --grace."""
    command = MoveSlice(id=id, node=node, device_id=device_id, grace_s=grace_s, reason=reason)
    run(_send(command, CHANGED, How(**how)))


def _patient(how: How, grace_s: float) -> How:
    """Wait for what the grace allows, unless somebody said how long to wait."""
    source = click.get_current_context().get_parameter_source("timeout")
    if source is not ParameterSource.DEFAULT:
        return how
    return replace(how, timeout=max(how.timeout, grace_s + WAIT_S))


@click.command()
@click.option("--lock", "lock_s", type=SECONDS, default="5s", show_default=True, help="For the work under way to finish.")
@click.option("--resumes", is_flag=True, help="Bring it back by itself as soon as there is room.")
@click.option("--reason", default="", help="Told to the tenant.")
@_waiting
def suspend(id: str, lock_s: float, reason: str, *, resumes: bool, **how: Any) -> None:  # noqa: A002 - as typed
    """Have a slice's programs stand still with their device memory on the host; returns when the device is free for others."""
    command = SuspendSlice(id=id, lock_s=lock_s, resumes=resumes, reason=reason)
    run(_send(command, (SliceSuspended,), How(**how)))


@click.command()
@click.option("--reason", default="", help="Free text.")
@_waiting
def resume(id: str, reason: str, **how: Any) -> None:  # noqa: A002 - as typed
    """Bring a suspended slice back, now or as soon as there is room on its devices."""
    run(_send(ResumeSlice(id=id, reason=reason), (*CHANGED, SliceQueued), How(**how)))


AnyChange = SuspendSlice | ResumeSlice | ResizeSlice | ReleaseSlice | ControlSlice | EvictSlice | MoveSlice


async def _send(command: AnyChange, confirms: tuple[type[Fact], ...], how: How) -> None:
    command = checked(command)
    async with connected(how.server) as bus:
        record = await find(bus, command.id)
        if record.phase in TERMINAL_PHASES:
            raise CliError(f"slice {command.id}: already {record.phase}")
        if how.no_wait:
            sequence = await bus.publish(command)
            click.echo(f"slice {command.id}: command {sequence} is stored")
            return
        async with say(bus, command, (f"slice.*.{command.id}",)) as conversation:
            fact = await _outcome(conversation, command, confirms, how.timeout, record.generation)
    if fact is None:
        raise CliError(f"slice {command.id}: no outcome in {how.timeout:g} s; `mica show {command.id}` tells how far it got")
    report(command, fact, confirms, as_json=how.as_json)


async def _outcome(
    conversation: Conversation, command: AnyChange, confirms: tuple[type[Fact], ...], timeout_s: float, generation: int
) -> Fact | None:
    """The fact that decides the command; what it waits for meanwhile is told on stderr."""

    def pick(heard: Heard) -> Fact | None:
        if isinstance(heard.event, SliceAsked):
            click.echo(asked_text(heard.event), err=True)
        return outcome(heard, confirms, generation)

    fact = await conversation.first(pick, timeout_s)
    if fact is None or is_of(command, fact):
        return fact
    return await conversation.first(refusal, REFUSED_S) or fact


def is_of(command: AnyChange, fact: Fact) -> bool:
    """Whether a size that is in force is the one that was asked for: a resize that is given up leaves the old one in force."""
    if not isinstance(command, ResizeSlice) or not isinstance(fact, SliceResized) or command.vram_bytes is None:
        return True
    return all(each.mode is Mode.HARDWARE or each.vram_bytes == command.vram_bytes for each in fact.placements)


def asked_text(fact: SliceAsked) -> str:
    """What a slice is waited for: ``slice a: programs hold 8GiB of GPU-0, 4GiB are left to them; given up in 23s``."""
    then = "its programs are terminated" if fact.then == "terminated" else "the shrink is given up"
    when = f"; {then} in {show_seconds(max(0.0, (fact.until - fact.at) / 1e9))}" if fact.until else ""
    held, left = show_bytes(fact.used_bytes), show_bytes(fact.vram_bytes)
    return f"slice {fact.id}: programs hold {held} of {fact.device_id}, {left} are left to them{when}"


def checked(command: AnyChange) -> AnyChange:
    """The command if it can be sent.

    Raises:
        EventError: naming the field, what was given and what is allowed.
    """
    known = decode(subject_of(command), encode(command))
    assert isinstance(known, type(command))
    return known


def outcome(heard: Heard, confirms: tuple[type[Fact], ...], generation: int) -> Fact | None:
    """The fact that decides the command: a refusal, the end of the slice, or a newer generation in force."""
    refused = refusal(heard)
    if refused is not None:
        return refused
    event = heard.event
    if not isinstance(event, SliceFact):
        return None
    if isinstance(event, ENDED) or (isinstance(event, SliceQueued) and SliceQueued in confirms):
        return event
    if isinstance(event, SliceResumed) and SliceSuspended in confirms and event.generation > generation:
        return event
    return event if isinstance(event, confirms) and event.generation > generation else None


def report(command: Command, fact: Fact, confirms: tuple[type[Fact], ...], *, as_json: bool) -> None:
    """Show the outcome.

    Raises:
        CliError: it is not the one that was wanted.
    """
    if as_json:
        show_json(fact)
    if isinstance(fact, SliceRefused):
        raise CliError(f"{fact.command} of slice {fact.id}: refused: {fact.message}")
    name = str(type(fact).__struct_config__.tag).removeprefix("slice.")
    if isinstance(command, ResizeSlice) and not is_of(command, fact):
        raise CliError(f"slice {command.id}: another change took the place of this one; `mica show {command.id}` tells its size")
    if not isinstance(fact, confirms):
        why = getattr(fact, "message", "") or "`mica show` says why"
        raise CliError(f"slice {getattr(command, 'id', '')}: {name} instead: {why}")
    if not as_json:
        withdrawn = ", it was still queued" if isinstance(fact, WITHDRAWN) else ""
        click.echo(
            f"slice {getattr(fact, 'id', '')} {_done(command, name)} (generation {getattr(fact, 'generation', 0)}{withdrawn})"
        )
        show_placements(getattr(fact, "placements", ()))


def _done(command: Command, name: str) -> str:
    """What the command did; every change that is in force is told as ``slice.resized``."""
    if isinstance(command, ControlSlice):
        return f"is told to {command.control}"
    if isinstance(command, ResumeSlice) and name == "queued":
        return "waits for room to come back"
    return "is moved" if isinstance(command, MoveSlice) else f"is {name}"
