"""``mica run``: start any program inside a slice.

Invariant: the program is entered by exec, so that it keeps our pid, our terminal and our signals, and nothing of mica stays
beside it. Only ``attach.json`` says how: the bus is not asked.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

import click
import msgspec
from msgspec import Struct

from mica.cli._errors import CliError
from mica.cli._runtime import runtime_dir as usual_runtime_dir

PREPENDED: Final = {"LD_PRELOAD": " ", "LD_LIBRARY_PATH": ":"}
"""Variables that add to what the caller has, with what separates their parts there."""

VARIABLES: Final = {"weight": "MICA_WEIGHT", "deadline_ms": "MICA_DEADLINE_MS"}
"""By which a process tells its shim how much it weighs, and how soon its work should be done."""
WEIGHT_MAX: Final = 10_000
DEADLINE_MAX_MS: Final = 60_000


class Mount(Struct, frozen=True):
    """A path of the host that the slice's processes need."""

    source: str
    target: str = ""
    read_only: bool = True


class Attach(Struct, frozen=True):
    """What ``attach.json`` says, as far as it matters here."""

    id: str
    mode: str
    env: dict[str, str]
    mounts: tuple[Mount, ...] = ()
    device_nodes: tuple[str, ...] = ()
    cdi: tuple[str, ...] = ()
    cpus: str = ""


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--runtime-dir", type=click.Path(path_type=Path), help="Of the node [MICA_RUNTIME_DIR, /run/mica].")
@click.option(
    "--weight",
    type=click.IntRange(1, WEIGHT_MAX),
    help="What this program gets of the slice's compute, beside 100 for each program that says nothing.",
)
@click.option(
    "--deadline-ms",
    type=click.IntRange(1, DEADLINE_MAX_MS),
    help="How soon this program's work should be done: of the slice's programs that wait the earliest deadline goes first.",
)
@click.option("--bind-cpus", is_flag=True, help="Run it on the processors that are near the slice's devices only.")
@click.argument("slice_id", metavar="SLICE")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD…")
def run(slice_id: str, command: Sequence[str], runtime_dir: Path | None, *, bind_cpus: bool, **asked: int | None) -> None:
    """Start CMD inside SLICE: it sees the slice as its device, unmodified."""
    program = without_dashes(command)
    root = (runtime_dir or usual_runtime_dir()).absolute()
    attach = read_attach(root, slice_id)
    if attach.mode == "hardware":
        tell_enforcer(root, attach)
    environment = environment_of(attach, os.environ)
    missing = [path for path in shims(attach) if not path.is_file()]
    if missing:
        raise CliError(f"slice {slice_id}: its shim {missing[0]} is not here; without it the program would see no device")
    for name, value in asked.items():
        if value is None:
            continue
        option = f"--{name.replace('_', '-')} {value}"
        if attach.mode == "hardware":
            raise CliError(f"slice {slice_id}: {option} in hardware mode, where no shim weighs programs; allowed: none")
        environment[VARIABLES[name]] = str(value)
    if bind_cpus:
        os.sched_setaffinity(0, near_cpus(attach, os.sched_getaffinity(0)))
    try:
        os.execvpe(program[0], program, environment)  # noqa: S606 - starting the user's program is the purpose
    except OSError as error:
        raise CliError(f"run: {program[0]}: {error.strerror}") from None


def near_cpus(attach: Attach, allowed: AbstractSet[int]) -> set[int]:
    """The processors near the slice's devices, of those that we may run on.

    Raises:
        CliError: they are not known, or we may run on none of them.
    """
    near = parse_cpus(attach.cpus)
    if not near:
        raise CliError(f"slice {attach.id}: --bind-cpus, but which processors are near its devices is not known on this node")
    if not near & allowed:
        raise CliError(f"slice {attach.id}: --bind-cpus to {attach.cpus}, allowed here: {', '.join(map(str, sorted(allowed)))}")
    return near & allowed


def parse_cpus(listed: str) -> set[int]:
    """A list as the kernel writes it: ``0-3,8``."""
    found: set[int] = set()
    for part in filter(None, listed.split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def without_dashes(command: Sequence[str]) -> list[str]:
    """The program and its arguments, without the ``--`` before them.

    Raises:
        UsageError: nothing follows.
    """
    program = list(command[1:] if command[0] == "--" else command)
    if not program:
        raise click.UsageError("no program is named after --")
    return program


def read_attach(root: Path, slice_id: str) -> Attach:
    """What a process needs to start inside the slice.

    Raises:
        CliError: this node has no such slice.
    """
    from mica.events import ID_PATTERN

    try:
        return msgspec.json.decode((root / "slices" / checked(slice_id, ID_PATTERN) / "attach.json").read_bytes(), type=Attach)
    except FileNotFoundError:
        raise CliError(
            f"slice {slice_id}: not on this node (runtime dir {root}); `mica show {slice_id}` tells where it is"
        ) from None
    except (OSError, msgspec.DecodeError) as error:
        raise CliError(f"slice {slice_id}: its attach.json in {root} can't be read: {error}") from None


def checked(slice_id: str, pattern: str) -> str:
    """``slice_id`` if it can be one; it becomes part of a path.

    Raises:
        CliError: it can't.
    """
    import re

    if re.fullmatch(pattern, slice_id) is None:
        raise CliError(f"slice {slice_id[:80]}: no slice id, allowed: 1 to 64 of A-Z a-z 0-9 _ -")
    return slice_id


def environment_of(attach: Attach, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment inside the slice; what the caller preloads stays loaded, after the shims.

    The shims' directory leads the library path, too: musl finds a preloaded library by its file's name only.
    """
    environment = dict(inherited) | attach.env
    shim_dirs = dict.fromkeys(str(path.parent) for path in shims(attach))
    for name, separator in PREPENDED.items():
        first = shim_dirs if name == "LD_LIBRARY_PATH" else ()
        parts = [part for part in (*first, attach.env.get(name), inherited.get(name)) if part]
        if parts:
            environment[name] = separator.join(parts)
    return environment


def shims(attach: Attach) -> list[Path]:
    """The libraries that a slice in a software mode preloads."""
    return [Path(part) for part in attach.env.get("LD_PRELOAD", "").split(":") if part]


def tell_enforcer(root: Path, attach: Attach) -> None:
    """In hardware mode no shim speaks up for the process, so that this does, with the pid it will keep.

    An enforcer that is not there finds the process by the driver's own list.
    """
    from mica.region import AttachMessage, RuntimeDir, encode_attach, owner_of

    runtime = RuntimeDir(root)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        for device_id in device_ids(root, attach):
            message = AttachMessage(slice_id=attach.id, device_id=device_id, owner=owner_of(os.getpid()), slot=None)
            try:
                sender.sendto(encode_attach(message), socket.MSG_DONTWAIT, str(runtime.attach_socket))
            except OSError as error:
                click.echo(f"mica run: the enforcer was not told ({error.strerror})", err=True)


def device_ids(root: Path, attach: Attach) -> list[str]:
    """The devices under the slice, whose quota regions stand among its mounts."""
    quotas = [Path(mount.source) for mount in attach.mounts]
    return [path.parent.name for path in quotas if path.name == "quota" and path.parent.parent == root / "devices"]
