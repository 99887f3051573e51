"""What is said of a container on the command line. Invariant: values only; names as those of the options."""

from msgspec import Struct


class ContainerOptions(Struct, frozen=True, kw_only=True):
    """A container, as far as the slice does not say what it is. ``user``: uid, or uid:gid."""

    image: str
    env: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    name: str | None = None
    user: str | None = None
    groups: tuple[str, ...] = ()
    network: str | None = None
    ports: tuple[str, ...] = ()
    workdir: str | None = None
    entrypoint: str | None = None
    init: bool = False
    read_only: bool = False
    shm_bytes: int | None = None
    pull: str = "missing"
    remove: bool = False
    detach: bool = False
