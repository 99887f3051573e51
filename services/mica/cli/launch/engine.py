"""What is needed of a container engine: the port, its values, and a fake.

Invariant: a container is described whole before it is made; nothing is changed on it afterwards.
"""

import threading
from collections.abc import Iterator, Mapping
from typing import Protocol

from msgspec import Struct, field

from mica.cli._errors import CliError
from mica.cli.launch.work import PassingError


class EngineAwayError(PassingError):
    """Nobody answers at the engine's address."""


class EngineFacts(Struct, frozen=True, kw_only=True):
    """What the engine says of itself. ``cdi``: it takes CDI names; ``remapped``: root in a container is another user outside."""

    architecture: str
    cpus: int = 0
    cdi: bool = False
    remapped: bool = False
    rootless: bool = False


class Image(Struct, frozen=True, kw_only=True):
    """An image that is here. ``id`` names it whatever its tag becomes; ``env`` are its own variables."""

    id: str
    architecture: str
    env: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = "SIGTERM"


class Bind(Struct, frozen=True):
    """A path of the host in the container."""

    source: str
    target: str
    read_only: bool


class ContainerSpec(Struct, frozen=True, kw_only=True):
    """A container, whole.

    ``volumes`` and ``ports`` as the user wrote them; 0 is no limit; ``cpuset`` as the kernel lists processors.
    """

    image: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    binds: tuple[Bind, ...]
    labels: Mapping[str, str]
    user: str = ""
    devices: tuple[str, ...] = ()
    cdi: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    name: str | None = None
    groups: tuple[str, ...] = ()
    network: str | None = None
    ports: tuple[str, ...] = ()
    workdir: str | None = None
    entrypoint: str | None = None
    init: bool = False
    read_only: bool = False
    shm_bytes: int | None = None
    nano_cpus: int = 0
    memory_bytes: int = 0
    cpuset: str = ""
    host_users: bool = False
    remove: bool = False


class Made(Struct, frozen=True):
    """A container that was made, and what the engine warned of."""

    id: str
    warnings: tuple[str, ...] = ()


class Engine(Protocol):
    """A container engine. Every call raises EngineAwayError, or CliError with the engine's own reason."""

    def facts(self) -> EngineFacts:
        """What it is."""

    def image(self, name: str, pull: str) -> Image:
        """The image, fetched where ``pull`` (missing, never, always) says so."""

    def create(self, spec: ContainerSpec) -> Made:
        """Make a container; it does not run yet."""

    def link(self, container: str, path: str) -> str | None:
        """What the file at ``path`` of its root file system is called, links followed; None where there is none."""

    def output(self, container: str) -> Iterator[tuple[bytes | None, bytes | None]]:
        """What it says on standard output and standard error, from its start to its end; to be asked for before the start."""

    def start(self, container: str) -> None:
        """Start it."""

    def wait(self, container: str) -> int:
        """Its exit status, once it has ended."""

    def signal(self, container: str, name: str) -> None:
        """Send its first process a signal; nothing where it has ended."""

    def remove(self, container: str) -> None:
        """End and remove it; nothing where it is gone."""

    def labelled(self, label: str, value: str) -> dict[str, Mapping[str, str]]:
        """The containers with that label, running or not: their labels by id."""


class FakeEngine:
    """An engine in memory. ``loaders``: the loader's file by path in every image; ``away``: nobody answers."""

    def __init__(self, *images: Image, facts: EngineFacts | None = None) -> None:
        self.images = {image.id: image for image in images}
        self.loaders = {"/lib64/ld-linux-x86-64.so.2": "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"}
        self.containers: dict[str, ContainerSpec] = {}
        self.running: set[str] = set()
        self.statuses: dict[str, int] = {}
        self._change = threading.Condition()
        self.sent: list[tuple[str, str]] = []
        self.removed: list[str] = []
        self.warnings: tuple[str, ...] = ()
        self.away = False
        self._facts = facts or EngineFacts(architecture="amd64", cpus=8)

    def facts(self) -> EngineFacts:
        """See the port."""
        self._reach()
        return self._facts

    def image(self, name: str, pull: str) -> Image:
        """See the port."""
        self._reach()
        if name not in self.images:
            raise CliError(f"image {name}: not here, and can't be fetched ({pull})")
        return self.images[name]

    def create(self, spec: ContainerSpec) -> Made:
        """See the port."""
        self._reach()
        if spec.name is not None and spec.name in {each.name for each in self.containers.values()}:
            raise CliError(f"container engine: the name {spec.name} is taken")
        id_ = f"c{len(self.containers) + len(self.removed)}"
        self.containers[id_] = spec
        return Made(id_, self.warnings)

    def link(self, container: str, path: str) -> str | None:
        """See the port."""
        return self.loaders.get(path) if container in self.containers else None

    def output(self, container: str) -> Iterator[tuple[bytes | None, bytes | None]]:
        """See the port."""
        yield f"{self.containers[container].image} says\n".encode(), None

    def start(self, container: str) -> None:
        """See the port."""
        self._reach()
        with self._change:
            self.running.add(container)
            self._change.notify_all()

    def wait(self, container: str) -> int:
        """See the port."""
        with self._change:
            self._change.wait_for(lambda: container in self.statuses)
            return self.statuses[container]

    def end(self, container: str, status: int) -> None:
        """Its program ends."""
        with self._change:
            self.running.discard(container)
            self.statuses[container] = status
            self._change.notify_all()

    def signal(self, container: str, name: str) -> None:
        """See the port."""
        self.sent.append((container, name))
        if name == "SIGKILL":
            self.end(container, 137)

    def remove(self, container: str) -> None:
        """See the port."""
        if container in self.running:
            self.end(container, 137)
        if self.containers.pop(container, None) is not None:
            self.removed.append(container)

    def labelled(self, label: str, value: str) -> dict[str, Mapping[str, str]]:
        """See the port."""
        return {id_: spec.labels for id_, spec in self.containers.items() if spec.labels.get(label) == value}

    def _reach(self) -> None:
        if self.away:
            raise EngineAwayError("no container engine answers at nowhere")
