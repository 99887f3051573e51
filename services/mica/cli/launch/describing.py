"""A slice as a container: the one place where ``attach.json`` and the user's options become a description for an engine.

Pure. Invariants: what the slice says stands, whatever image and user say; what they preload is loaded after the shims; and where
the shim could not work, there is an error instead of a container without a device.
"""

import os
import re
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

from mica.cli._errors import CliError
from mica.cli.launch.attach import HARDWARE, NO_RANK, Attach, Rank, environment_of, parse_cpus
from mica.cli.launch.engine import Bind, ContainerSpec, EngineFacts, Image
from mica.cli.launch.options import ContainerOptions

SLICE_LABEL: Final = "mica.slice"
NODE_LABEL: Final = "mica.node"
LAUNCHER_LABEL: Final = "mica.launcher"
NANO_CPUS_PER_MILLI: Final = 1_000_000
MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
"""Engines name architectures as Go does."""

LOADERS: Final = {
    "amd64": ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1"),
    "arm64": ("/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-aarch64.so.1"),
}
"""Where a program's loader is, by architecture: of glibc, of musl. An image with neither has only static programs."""

PORT: Final = re.compile(r"([0-9.]+:|\[[0-9a-fA-F:]+\]:)?\d{1,5}:\d{1,5}(/(tcp|udp|sctp))?")

OLDEST_GLIBC: Final = (2, 17)
OLD_LOADER: Final = re.compile(r"/ld-(\d+)\.(\d+)\.so$")
"""Until 2.34 glibc's loader is a link to a file that carries the version."""


class Request(Struct, frozen=True, kw_only=True):
    """Who wants which container. ``owner``: the user of the slice's usage regions, None where it has none; ``group``: theirs."""

    options: ContainerOptions
    command: tuple[str, ...]
    caller: Mapping[str, str]
    launcher: str
    owner: int | None = None
    group: int | None = None
    rank: Rank = NO_RANK
    bind_cpus: bool = False


def describe(attach: Attach, image: Image, engine: EngineFacts, request: Request) -> ContainerSpec:
    """The container.

    Raises:
        CliError: the image, the engine or the user does not go with the slice.
    """
    check_platform(attach, image, engine)
    options = request.options
    own = dict(image.env) | variables(options.env, request.caller)
    by_cdi = engine.cdi and bool(attach.cdi)
    return ContainerSpec(
        image=image.id,
        command=request.command,
        env=environment_of(attach, own, request.rank),
        binds=tuple(Bind(mount.source, mount.target or mount.source, mount.read_only) for mount in attach.mounts),
        labels={SLICE_LABEL: attach.id, NODE_LABEL: attach.node, LAUNCHER_LABEL: request.launcher},
        user=user_of(attach, request),
        devices=() if by_cdi else attach.device_nodes,
        cdi=attach.cdi if by_cdi else (),
        volumes=tuple(map(volume, options.volumes)),
        name=options.name,
        groups=options.groups,
        network=options.network,
        ports=tuple(map(port, options.ports)),
        workdir=options.workdir,
        entrypoint=options.entrypoint,
        init=options.init,
        read_only=options.read_only,
        shm_bytes=options.shm_bytes,
        nano_cpus=attach.cpu_milli * NANO_CPUS_PER_MILLI,
        memory_bytes=attach.host_memory_bytes,
        cpuset=cpuset(attach, engine) if request.bind_cpus else "",
        host_users=engine.remapped,
        remove=options.remove and options.detach,
    )


def check_platform(attach: Attach, image: Image, engine: EngineFacts) -> None:
    """Raise CliError where the slice's libraries can't work in the image, or its regions not with the engine."""
    if image.architecture != engine.architecture:
        raise CliError(f"image {image.id}: it is for {image.architecture}, allowed on this node: {engine.architecture}")
    if engine.rootless and attach.mode != HARDWARE:
        raise CliError(
            "container engine: it is rootless, where nobody has the uid that the slice's usage region belongs to; "
            "allowed: an engine that runs as root"
        )


def check_loader(image: Image, find: Callable[[str], str | None]) -> None:
    """Raise CliError where no program of the image could load a shim. ``find``: the file that a path of it leads to."""
    paths = LOADERS.get(image.architecture, ())
    found = [file for file in map(find, paths) if file is not None]
    if paths and not found:
        raise CliError(
            f"image {image.id}: no loader at {' or '.join(paths)}; static programs load no shim and would see no device, "
            "allowed: glibc 2.17 or newer, or musl"
        )
    for file in found:
        version = OLD_LOADER.search(file)
        if version is not None and (int(version[1]), int(version[2])) < OLDEST_GLIBC:
            raise CliError(f"image {image.id}: glibc {version[1]}.{version[2]} ({file}), allowed: 2.17 or newer, or musl")


def user_of(attach: Attach, request: Request) -> str:
    """Whom the container runs as: whoever the slice's usage region belongs to, since nobody else gets in.

    Raises:
        CliError: somebody else is asked for.
    """
    asked, owner = request.options.user, request.owner
    if owner is None:
        return asked or ""
    if asked is None:
        return f"{owner}:{owner if request.group is None else request.group}"
    if asked.partition(":")[0] != str(owner):
        raise CliError(
            f"slice {attach.id}: --user {asked}, allowed: {owner}, to whom its usage region belongs; "
            "the --uid of `mica request` says who that is"
        )
    return asked


def variables(given: tuple[str, ...], caller: Mapping[str, str]) -> dict[str, str]:
    """Variables as they were written: with their value, or with the caller's where they have one.

    Raises:
        CliError: one without a name.
    """
    found = {}
    for text in given:
        name, has_value, value = text.partition("=")
        if not name:
            raise CliError(f"run: --env {text}, allowed: NAME=VALUE, or NAME for the caller's value")
        if has_value or name in caller:
            found[name] = value if has_value else caller[name]
    return found


def volume(text: str) -> str:
    """A volume as engines take it: with a full path, or with a name.

    Raises:
        CliError: it has no target, or its path is not here.
    """
    source, colon, rest = text.partition(":")
    if not source or not rest.startswith("/"):
        raise CliError(f"run: --volume {text}, allowed: SOURCE:TARGET or SOURCE:TARGET:ro, with a full path as TARGET")
    if "/" not in source and source not in (".", ".."):
        return text
    path = os.path.abspath(os.path.expanduser(source))  # noqa: PTH100, PTH111 - not resolved: links are the engine's to follow
    if not os.path.exists(path):  # noqa: PTH110 - as above
        raise CliError(f"run: --volume {text}: {path} is not here; an engine would make an empty directory of it")
    return f"{path}{colon}{rest}"


def port(text: str) -> str:
    """A port as engines take it.

    Raises:
        CliError: it is no port.
    """
    if PORT.fullmatch(text) is None:
        raise CliError(f"run: --publish {text}, allowed: PORT:PORT or IP:PORT:PORT, of this machine and of the container")
    return text


def cpuset(attach: Attach, engine: EngineFacts) -> str:
    """The processors near the slice's devices, as far as the engine has them.

    Raises:
        CliError: they are not known, or there are none.
    """
    near = parse_cpus(attach.cpus)
    if not near:
        raise CliError(f"slice {attach.id}: --bind-cpus, but which processors are near its devices is not known on this node")
    if engine.cpus and min(near) >= engine.cpus:
        raise CliError(f"slice {attach.id}: --bind-cpus to {attach.cpus}, allowed by the engine: 0-{engine.cpus - 1}")
    return attach.cpus
