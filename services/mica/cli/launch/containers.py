"""A container as work in a slice.

Invariant: each life is a new container, made of what ``attach.json`` says then, and nothing is left of those before. The last one
stays, ended, unless it is to be removed.
"""

import os
import pwd
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

import click
from msgspec import Struct

from mica.cli._errors import CliError
from mica.cli.launch.attach import HARDWARE, Attach, require_shims
from mica.cli.launch.describing import LAUNCHER_LABEL, SLICE_LABEL, Request, check_loader, describe
from mica.cli.launch.engine import Engine, EngineAwayError, Image
from mica.cli.launch.options import ContainerOptions
from mica.cli.launch.programs import Entrance
from mica.cli.launch.sighting import usage_owner

OUTPUT_S: Final = 5.0
"""How long what a container said may be on its way after its end."""
RETRY_S: Final = 1.0
LOST_STATUS: Final = 125
"""As docker run has it: the engine itself is to blame."""


class Order(Struct, frozen=True, kw_only=True):
    """What is to be started, and how it enters."""

    slice_id: str
    options: ContainerOptions
    command: tuple[str, ...]
    entrance: Entrance


class Container:
    """A container, started again in the slice's new place."""

    shares_terminal = False

    def __init__(self, engine: Engine, order: Order, outputs: tuple[BinaryIO, BinaryIO] | None = None) -> None:
        self._engine = engine
        self._order = order
        self._outputs = outputs or (sys.stdout.buffer, sys.stderr.buffer)
        self._image: Image | None = None
        self._id = ""
        self._status: int | None = None
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()

    def make(self, attach: Attach) -> str:
        """Make it, without starting it; its id.

        Raises:
            CliError: the engine, the image or the user does not go with the slice.
        """
        engine, order = self._engine, self._order
        facts = engine.facts()
        if self._image is None:
            self._image = engine.image(order.options.image, order.options.pull)
            remove_leftovers(engine, order.slice_id)
        require_shims(attach)
        require_mounts(attach)
        made = engine.create(describe(attach, self._image, facts, request_of(order, attach)))
        for warning in made.warnings:
            click.echo(f"mica run: container engine: {warning}", err=True)
        if attach.mode != HARDWARE:
            try:
                check_loader(self._image, lambda path: engine.link(made.id, path))
            except CliError:
                engine.remove(made.id)
                raise
        return made.id

    def start(self, attach: Attach) -> None:
        """Start it, and pass on what it says; see the port."""
        if self._id:
            self._engine.remove(self._id)
        self._id, self._status = self.make(attach), None
        speaking = threading.Thread(target=self._speak, args=(self._engine.output(self._id),), daemon=True)
        speaking.start()
        try:
            self._engine.start(self._id)
        except CliError:
            self._engine.remove(self._id)
            self._id = ""
            raise
        waiting = threading.Thread(target=self._wait, args=(self._id,), daemon=True)
        self._threads = [waiting, speaking]
        waiting.start()

    def ended(self) -> int | None:
        """Its exit status, after the last of what it said; see the port."""
        if self._status is None:
            return None
        for thread in self._threads:
            thread.join(OUTPUT_S)
        return self._status

    def stop(self) -> None:
        """As the image wants to be asked; see the port."""
        self._signal(self._image.stop_signal if self._image is not None else "SIGTERM")

    def kill(self) -> None:
        """See the port."""
        self._signal("SIGKILL")

    def forward(self, number: int) -> None:
        """See the port."""
        self._signal(str(number))

    def close(self) -> None:
        """End it, and remove it where that was asked for; see the port."""
        self._closed.set()
        if self._id and (self._status is None or self._order.options.remove):
            with suppress(CliError):
                self._engine.remove(self._id)

    def _signal(self, name: str) -> None:
        try:
            self._engine.signal(self._id, name)
        except CliError as error:
            click.echo(f"mica run: {name} did not reach the container: {error.message}", err=True)

    def _wait(self, container: str) -> None:
        """An engine that starts anew may have kept the container, so that it is asked again."""
        while not self._closed.is_set():
            try:
                self._status = self._engine.wait(container)
            except EngineAwayError:
                self._closed.wait(RETRY_S)
            except CliError as error:
                click.echo(f"mica run: {error.message}", err=True)
                self._status = LOST_STATUS
            else:
                return
            if self._status is not None:
                return

    def _speak(self, output: Iterator[tuple[bytes | None, bytes | None]]) -> None:
        with suppress(CliError, OSError, ValueError):
            for parts in output:
                for part, stream in zip(parts, self._outputs, strict=True):
                    if part:
                        stream.write(part)
                        stream.flush()


def request_of(order: Order, attach: Attach) -> Request:
    """The order, with who the slice belongs to now."""
    owner = usage_owner(order.entrance.root, attach)
    return Request(
        options=order.options,
        command=order.command,
        caller=os.environ,
        launcher=launcher_word(os.getpid()) if not order.options.detach else "",
        owner=owner,
        group=group_of(owner),
        rank=order.entrance.rank,
        bind_cpus=order.entrance.bind_cpus,
    )


def group_of(user: int | None) -> int | None:
    """The user's own group, where this machine knows it."""
    if user is None:
        return None
    if user == os.getuid():
        return os.getgid()
    with suppress(KeyError):
        return pwd.getpwuid(user).pw_gid
    return None


def require_mounts(attach: Attach) -> None:
    """Raise CliError where a path that the slice names is not here: the engine would not find it either."""
    for mount in attach.mounts:
        if not Path(mount.source).exists():
            raise CliError(
                f"slice {attach.id}: {mount.source}, which its processes need, is not here; allowed: the node's own paths"
            )


def launcher_word(pid: int) -> str:
    """Names a process as long as the machine runs: the pid namespace, the pid in it, and when it began.

    Raises:
        ProcessLookupError: there is none.
    """
    from mica.region import process_start_ticks

    return f"{os.readlink('/proc/self/ns/pid')} {pid} {process_start_ticks(pid)}"  # noqa: PTH115 - it leads nowhere


def launcher_lives(word: str) -> bool:
    """Whether the launcher of that word may still be there; one of another pid namespace may."""
    space, _, rest = word.rpartition(" ")[0].partition(" ")
    if space != os.readlink("/proc/self/ns/pid"):  # noqa: PTH115 - as above
        return True
    try:
        return launcher_word(int(rest)) == word
    except (ProcessLookupError, ValueError):
        return False


def remove_leftovers(engine: Engine, slice_id: str) -> None:
    """End what launchers that were killed have left in the slice: nobody looks after it any more."""
    for container, labels in engine.labelled(SLICE_LABEL, slice_id).items():
        word = labels.get(LAUNCHER_LABEL, "")
        if word and not launcher_lives(word):
            click.echo(f"mica run: removes container {container[:12]}, whose launcher is gone", err=True)
            engine.remove(container)
