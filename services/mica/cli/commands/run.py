"""``mica run``: work in a slice, as a program or a container, once or again and again.

Invariant: a program that is started once is entered by exec, so that nothing of mica stays beside it. Only ``attach.json`` says
how to enter; the bus is asked by ``--restart`` and ``--image`` alone, and only why the slice is no longer here.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from msgspec.structs import replace

from mica.cli._errors import CliError
from mica.cli._quantities import BYTES, SECONDS
from mica.cli._runtime import runtime_dir as usual_runtime_dir
from mica.cli._session import F, server_option
from mica.cli.launch.attach import Rank, read_attach
from mica.cli.launch.deciding import Restart, Rules
from mica.cli.launch.options import ContainerOptions
from mica.cli.launch.programs import Entrance, become

WEIGHT_MAX: Final = 10_000
DEADLINE_MAX_MS: Final = 60_000
RESTARTS: Final = [str(each) for each in Restart if each is not Restart.NEVER]

SUPERVISION: Final = (
    click.option("--restart", type=click.Choice(RESTARTS), help="Stay, and start it again: after a move, a failure."),
    click.option("--restarts-max", type=click.IntRange(0), help="Give up after so many of its own ends in a row [5]."),
    click.option("--stop-timeout", "stop_timeout_s", type=SECONDS, help="From SIGTERM, when its place goes, to SIGKILL [10s]."),
    click.option("--wait", "wait_s", type=SECONDS, help="For a slice that is not here, of which nobody says why [60s]."),
)

CONTAINER: Final = (
    click.option("--image", help="Start a container of that image, with CMD or its own."),
    click.option("-e", "--env", "env", multiple=True, metavar="NAME[=VALUE]", help="A variable; without a value the caller's."),
    click.option("-v", "--volume", "volumes", multiple=True, metavar="SOURCE:TARGET[:ro]", help="A directory or volume."),
    click.option("--name", help="Of the container."),
    click.option("-u", "--user", metavar="UID[:GID]", help="The slice's user, who is taken unless said."),
    click.option("--group-add", "groups", multiple=True, metavar="GROUP", help="One more group."),
    click.option("--network", help="Of the container, as for docker run."),
    click.option("-p", "--publish", "ports", multiple=True, metavar="[IP:]PORT:PORT", help="A port of the container, here."),
    click.option("-w", "--workdir", help="Directory in which CMD starts."),
    click.option("--entrypoint", help="Instead of the image's."),
    click.option("--init", "init", is_flag=True, default=None, help="An init in front of CMD: as pid 1 many ignore SIGTERM."),
    click.option("--read-only", is_flag=True, default=None, help="The container's root can't be written."),
    click.option("--shm-size", "shm_bytes", type=BYTES, help="Of /dev/shm in the container."),
    click.option("--pull", type=click.Choice(["missing", "never", "always"]), help="When to fetch the image [missing]."),
    click.option("--rm", "remove", is_flag=True, default=None, help="Remove the container at the end."),
    click.option("-d", "--detach", is_flag=True, default=None, help="Start it, print its id and go; nobody looks after it."),
)  # fmt: skip


def run_options(command: F) -> F:
    """What is said of supervision and of containers."""
    for option in reversed(SUPERVISION + CONTAINER):
        command = option(command)
    return command


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
@run_options
@server_option
@click.argument("slice_id", metavar="SLICE")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- CMD…")
def run(slice_id: str, command: Sequence[str], runtime_dir: Path | None, server: str | None, **given: Any) -> int:
    """Start CMD inside SLICE: it sees the slice as its device, unmodified.

    Without --restart and --image it becomes CMD: same pid, same terminal.
    """
    root = (runtime_dir or usual_runtime_dir()).absolute()
    rank = Rank(weight=given.pop("weight"), deadline_ms=given.pop("deadline_ms"))
    entrance = Entrance(root=root, rank=rank, bind_cpus=given.pop("bind_cpus"))
    said = {name: value for name, value in given.items() if value not in (None, ())}
    rules = rules_of(said, supervised="restart" in said or ("image" in said and "detach" not in said))
    container = container_of(said)
    if container is None and rules is None:
        become(without_dashes(command), read_attach(root, slice_id), entrance)
    from mica.cli.launch.starting import Launch, launch

    words = tuple(after_dashes(command) if container is not None else without_dashes(command))
    wanted = Launch(slice_id=slice_id, command=words, entrance=entrance, container=container, server=server)
    return launch(wanted if rules is None else replace(wanted, rules=rules))


def rules_of(said: dict[str, Any], *, supervised: bool) -> Rules | None:
    """How it is looked after; None for what nobody looks after.

    Raises:
        CliError: there is nothing to restart.
    """
    names = [name for name in ("restarts_max", "stop_timeout_s", "wait_s") if name in said]
    if names and not supervised:
        raise CliError(f"run: --{option_of(names[0])}, and nobody stays; allowed: with --restart, or --image without --detach")
    return msgspec.convert({name: said[name] for name in (*names, "restart") if name in said}, Rules) if supervised else None


def container_of(said: dict[str, Any]) -> ContainerOptions | None:
    """The container that is wanted, if one is.

    Raises:
        CliError: an option of containers, and no image; or a detached container that is to be restarted.
    """
    names = [name for name in ContainerOptions.__struct_fields__ if name in said]
    if "image" not in said:
        if names:
            raise CliError(f"run: --{option_of(names[0])} without --image; allowed: with --image")
        return None
    if "detach" in said and "restart" in said:
        raise CliError(
            "run: --detach with --restart: somebody has to stay and look after it; allowed: one of them "
            "(without --detach, as a service of the machine's init system)"
        )
    return msgspec.convert({name: said[name] for name in names}, ContainerOptions)


def option_of(field: str) -> str:
    """What the option of a field is called."""
    names = {option.name: option.opts[-1] for option in run.params if isinstance(option, click.Option)}
    return names[field].removeprefix("--")


def after_dashes(command: Sequence[str]) -> list[str]:
    """What follows the ``--``, where there is one; perhaps nothing."""
    return list(command[1:] if command and command[0] == "--" else command)


def without_dashes(command: Sequence[str]) -> list[str]:
    """The program and its arguments, without the ``--`` before them.

    Raises:
        UsageError: nothing follows.
    """
    program = after_dashes(command)
    if not program:
        raise click.UsageError("no program is named after --")
    return program
