"""Joins the parts for one launch. Invariant: the exit status is the work's own where it ended by itself."""

import sys

import click
from msgspec import Struct

from mica.cli._errors import CliError
from mica.cli.launch.asking import ask_bus
from mica.cli.launch.attach import read_attach
from mica.cli.launch.containers import Container, Order
from mica.cli.launch.deciding import Rules, State
from mica.cli.launch.engine import Engine
from mica.cli.launch.options import ContainerOptions
from mica.cli.launch.programs import Entrance, Program
from mica.cli.launch.sighting import RuntimeSight
from mica.cli.launch.signals import Ears, listening
from mica.cli.launch.supervising import Supervisor, World
from mica.cli.launch.work import Work


class Launch(Struct, frozen=True, kw_only=True):
    """What ``mica run`` was asked for."""

    slice_id: str
    command: tuple[str, ...]
    entrance: Entrance
    rules: Rules = Rules()
    container: ContainerOptions | None = None
    server: str | None = None


def launch(wanted: Launch) -> int:
    """Carry it out; the exit status.

    Raises:
        CliError: there is no engine, or a detached container could not be started.
    """
    engine = engine_for(wanted)
    if wanted.container is not None and wanted.container.detach and engine is not None:
        return detach(wanted, wanted.container, engine)
    with listening() as ears:
        work = work_of(wanted, engine, ears)
        state = supervise(wanted, work, ears)
    if state.message:
        say(wanted.slice_id, state.message)
    return state.status


def engine_for(wanted: Launch) -> Engine | None:
    """The machine's container engine, where one is needed. Raises CliError where none answers."""
    if wanted.container is None:
        return None
    from mica.cli.launch.docker_engine import DockerEngine

    return DockerEngine()


def work_of(wanted: Launch, engine: Engine | None, ears: Ears) -> Work:
    """What is supervised."""
    if wanted.container is None or engine is None:
        return Program(wanted.command, wanted.entrance, ears.before)
    return Container(engine, order_of(wanted, wanted.container))


def order_of(wanted: Launch, options: ContainerOptions) -> Order:
    """The container that is wanted."""
    return Order(slice_id=wanted.slice_id, options=options, command=wanted.command, entrance=wanted.entrance)


def detach(wanted: Launch, options: ContainerOptions, engine: Engine) -> int:
    """Start it and go: it runs until it ends, or until the enforcer ends it because its place is gone."""
    container = Container(engine, order_of(wanted, options)).make(read_attach(wanted.entrance.root, wanted.slice_id))
    try:
        engine.start(container)
    except CliError:
        engine.remove(container)
        raise
    click.echo(container)
    return 0


def supervise(wanted: Launch, work: Work, ears: Ears) -> State:
    """Look after it to its end."""
    world = World(
        work=work,
        sights=RuntimeSight(wanted.entrance.root, wanted.slice_id),
        wait=ears.wait,
        why=lambda node: ask_bus(wanted.server, wanted.slice_id, node),
        at_terminal=sys.stdin is not None and sys.stdin.isatty(),
        say=lambda text: say(wanted.slice_id, text),
    )
    return Supervisor(world, wanted.rules).run()


def say(slice_id: str, text: str) -> None:
    """To the user; standard output is the program's."""
    click.echo(f"mica run: slice {slice_id}: {text}", err=True)
