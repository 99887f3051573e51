"""What ``attach.json`` says about entering a slice, and what follows from it for whoever enters.

Owns the reader's side of that file. Invariant: it is read anew for every start, and nothing else says how to start.
"""

import os
import socket
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

import click
import msgspec
from msgspec import Struct

from mica.cli._errors import CliError

PREPENDED: Final = {"LD_PRELOAD": " ", "LD_LIBRARY_PATH": ":"}
"""Variables that add to what the caller has, with what separates their parts there."""

VARIABLES: Final = {"weight": "MICA_WEIGHT", "deadline_ms": "MICA_DEADLINE_MS"}
"""By which a process tells its shim what its rank is."""

HARDWARE: Final = "hardware"


class Mount(Struct, frozen=True):
    """A path of the host that the slice's processes need."""

    source: str
    target: str = ""
    read_only: bool = True


class Attach(Struct, frozen=True):
    """What ``attach.json`` says, as far as it matters here.

    ``devices`` are the vendors' UUIDs, of the partitions in hardware mode. ``cpu_milli`` and ``host_memory_bytes`` are what
    the slice has of the node's own processors and memory on this node; 0: nobody asked for any.
    """

    id: str
    mode: str
    env: dict[str, str]
    mounts: tuple[Mount, ...] = ()
    device_nodes: tuple[str, ...] = ()
    cdi: tuple[str, ...] = ()
    cpus: str = ""
    node: str = ""
    devices: tuple[str, ...] = ()
    cpu_milli: int = 0
    host_memory_bytes: int = 0

    @property
    def place(self) -> str:
        """Names where the slice is: what started at another place has to start again."""
        return " ".join((self.mode, *self.devices))


def read_attach(root: Path, slice_id: str) -> Attach:
    """What a process needs to start inside the slice.

    Raises:
        CliError: this node has no such slice.
    """
    path = attach_path(root, slice_id)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Attach)
    except FileNotFoundError:
        raise CliError(
            f"slice {slice_id}: not on this node (runtime dir {root}); `mica show {slice_id}` tells where it is"
        ) from None
    except (OSError, msgspec.DecodeError) as error:
        raise CliError(f"slice {slice_id}: its attach.json in {root} can't be read: {error}") from None


def attach_path(root: Path, slice_id: str) -> Path:
    """Where the slice's ``attach.json`` is, while it is on this node.

    Raises:
        CliError: that can't be a slice's id; it becomes part of a path.
    """
    import re

    from mica.events import ID_PATTERN

    if re.fullmatch(ID_PATTERN, slice_id) is None:
        raise CliError(f"slice {slice_id[:80]}: no slice id, allowed: 1 to 64 of A-Z a-z 0-9 _ -")
    return root / "slices" / slice_id / "attach.json"


class Rank(Struct, frozen=True, kw_only=True):
    """What a program is among those of its slice: how much it weighs, and how soon its work should be done."""

    weight: int | None = None
    deadline_ms: int | None = None


NO_RANK: Final = Rank()


def environment_of(attach: Attach, inherited: Mapping[str, str], rank: Rank = NO_RANK) -> dict[str, str]:
    """The environment inside the slice; what the caller preloads stays loaded, after the shims.

    The shims' directory leads the library path, too: musl finds a preloaded library by its file's name only.

    Raises:
        CliError: a rank where no shim weighs programs.
    """
    environment = dict(inherited) | attach.env
    shim_dirs = dict.fromkeys(str(path.parent) for path in shims(attach))
    for name, separator in PREPENDED.items():
        first = shim_dirs if name == "LD_LIBRARY_PATH" else ()
        parts = [part for part in (*first, attach.env.get(name), inherited.get(name)) if part]
        if parts:
            environment[name] = separator.join(parts)
    for field, variable in VARIABLES.items():
        value = getattr(rank, field)
        if value is None:
            continue
        if attach.mode == HARDWARE:
            option = f"--{field.replace('_', '-')} {value}"
            raise CliError(f"slice {attach.id}: {option} in hardware mode, where no shim weighs programs; allowed: none")
        environment[variable] = str(value)
    return environment


def shims(attach: Attach) -> list[Path]:
    """The libraries that a slice in a software mode preloads."""
    return [Path(part) for part in attach.env.get("LD_PRELOAD", "").split(":") if part]


def require_shims(attach: Attach) -> None:
    """Raise CliError where a shim's file is missing."""
    missing = [path for path in shims(attach) if not path.is_file()]
    if missing:
        raise CliError(f"slice {attach.id}: its shim {missing[0]} is not here; without it the program would see no device")


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
