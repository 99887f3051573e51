"""A Docker engine behind the port, through its SDK.

Invariant: whatever goes wrong comes out as one line with the engine's own reason.
The engine is the one of DOCKER_HOST or of the current Docker context. It has to be on this machine: the slice's paths are its.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

import docker
from docker import APIClient
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import DeviceRequest, Mount
from docker.utils import parse_repository_tag
from docker.utils.ports import build_port_bindings
from requests.exceptions import RequestException

from mica.cli._errors import CliError
from mica.cli.launch.describing import MACHINES
from mica.cli.launch.engine import ContainerSpec, EngineAwayError, EngineFacts, Image, Made

ALL_DEVICE_RIGHTS: Final = "rwm"
CALL_S: Final = 60
CONFLICT: Final = 409


@contextmanager
def said(doing: str) -> Iterator[None]:
    """Every error of the engine, as ours."""
    try:
        yield
    except APIError as error:
        raise CliError(f"container engine: {doing}: {error.explanation or error}") from None
    except (DockerException, RequestException) as error:
        where = os.environ.get("DOCKER_HOST", "the current Docker context")
        raise EngineAwayError(f"no container engine answers at {where}, which {doing} needs ({reason_of(error)})") from None


def reason_of(error: BaseException) -> str:
    """The cause below the wrappers, in a few words."""
    while error.args and isinstance(error.args[-1], BaseException):
        error = error.args[-1]
    return str(error).rpartition("(")[2].rstrip(")'\"") or type(error).__name__


class DockerEngine:
    """See the port."""

    def __init__(self) -> None:
        self._known: APIClient | None = None

    def facts(self) -> EngineFacts:
        """See the port."""
        with said("a container"):
            info = self._api.info()
        options = " ".join(info.get("SecurityOptions") or ())
        machine = info.get("Architecture", "")
        return EngineFacts(
            architecture=MACHINES.get(machine, machine),
            cpus=info.get("NCPU", 0),
            cdi=bool(info.get("CDISpecDirs")),
            remapped="name=userns" in options,
            rootless="name=rootless" in options,
        )

    def image(self, name: str, pull: str) -> Image:
        """See the port."""
        with said(f"image {name}"):
            if pull == "always":
                self._api.pull(*repository_and_tag(name))
            try:
                return image_of(self._inspect(name))
            except ImageNotFound:
                if pull == "never":
                    raise CliError(f"image {name}: the engine does not have it, and --pull is never") from None
            try:
                self._api.pull(*repository_and_tag(name))
            except APIError as error:
                reason = error.explanation or error
                raise CliError(f"image {name}: the engine does not have it and can't fetch it: {reason}") from None
            return image_of(self._inspect(name))

    def create(self, spec: ContainerSpec) -> Made:
        """See the port."""
        with said(f"container of {spec.image}"):
            made = self._api.create_container(
                image=spec.image,
                command=list(spec.command) or None,
                environment=dict(spec.env),
                entrypoint=[spec.entrypoint] if spec.entrypoint else None,
                user=spec.user or None,
                name=spec.name,
                working_dir=spec.workdir,
                ports=[port_and_protocol(each) for each in build_port_bindings(spec.ports)] or None,
                labels=dict(spec.labels),
                host_config=self._host_config(spec),
            )
        return Made(made["Id"], tuple(made.get("Warnings") or ()))

    def link(self, container: str, path: str) -> str | None:
        """See the port."""
        with said(f"a look into container {container[:12]}"):
            try:
                chunks, stat = self._api.get_archive(container, path)
            except NotFound:
                return None
            for _ in chunks:
                pass
            return (stat or {}).get("linkTarget") or path

    def output(self, container: str) -> Iterator[tuple[bytes | None, bytes | None]]:
        """See the port."""
        with said(f"output of container {container[:12]}"):
            stream = connect(None).attach(container, stdout=True, stderr=True, stream=True, demux=True)
        return self._parts(container, stream)

    def start(self, container: str) -> None:
        """See the port."""
        with said(f"container {container[:12]}"):
            self._api.start(container)

    def wait(self, container: str) -> int:
        """See the port."""
        with said(f"container {container[:12]}"):
            return int(connect(None).wait(container, timeout=None)["StatusCode"])

    def signal(self, container: str, name: str) -> None:
        """See the port."""
        with said(f"container {container[:12]}"):
            try:
                self._api.kill(container, name)
            except APIError as error:
                if not isinstance(error, NotFound) and error.status_code != CONFLICT:
                    raise

    def remove(self, container: str) -> None:
        """See the port."""
        with said(f"container {container[:12]}"), suppress(NotFound):
            self._api.remove_container(container, v=True, force=True)

    def labelled(self, label: str, value: str) -> dict[str, Mapping[str, str]]:
        """See the port."""
        with said("a list of containers"):
            found = self._api.containers(all=True, filters={"label": f"{label}={value}"})
        return {each["Id"]: each["Labels"] for each in found}

    @property
    def _api(self) -> APIClient:
        if self._known is None:
            self._known = connect(CALL_S)
        return self._known

    def _inspect(self, image: str) -> Mapping[str, Any]:
        inspect: Callable[[str], Mapping[str, Any]] = self._api.inspect_image
        return inspect(image)

    def _host_config(self, spec: ContainerSpec) -> dict[str, Any]:
        given: dict[str, Any] = {
            "mounts": [Mount(bind.target, bind.source, type="bind", read_only=bind.read_only) for bind in spec.binds],
            "binds": list(spec.volumes) or None,
            "devices": [f"{path}:{path}:{ALL_DEVICE_RIGHTS}" for path in spec.devices] or None,
            "device_requests": [DeviceRequest(driver="cdi", device_ids=list(spec.cdi))] if spec.cdi else None,
            "group_add": list(spec.groups) or None,
            "network_mode": spec.network,
            "port_bindings": build_port_bindings(spec.ports) or None,
            "nano_cpus": spec.nano_cpus or None,
            "mem_limit": spec.memory_bytes or None,
            "memswap_limit": spec.memory_bytes or None,
            "cpuset_cpus": spec.cpuset or None,
            "init": spec.init or None,
            "read_only": spec.read_only or None,
            "shm_size": spec.shm_bytes,
            "userns_mode": "host" if spec.host_users else None,
            "auto_remove": spec.remove,
        }
        config: dict[str, Any] = self._api.create_host_config(**{key: value for key, value in given.items() if value is not None})
        return config

    def _parts(self, container: str, stream: Any) -> Iterator[tuple[bytes | None, bytes | None]]:
        with said(f"output of container {container[:12]}"):
            yield from stream


def connect(timeout_s: int | None) -> APIClient:
    """A connection of its own, for a thread of its own. Raises what the SDK raises."""
    return docker.from_env(timeout=timeout_s).api  # type: ignore[arg-type] # None: a wait may be long


def image_of(found: Mapping[str, Any]) -> Image:
    """What is needed of an image's description."""
    config = found.get("Config") or {}
    pairs = (text.partition("=") for text in config.get("Env") or ())
    return Image(
        id=found["Id"],
        architecture=found.get("Architecture", ""),
        env={name: value for name, _, value in pairs},
        stop_signal=config.get("StopSignal") or "SIGTERM",
    )


def port_and_protocol(text: str) -> tuple[str, str]:
    """A container's port in its two parts."""
    number, _, protocol = text.partition("/")
    return number, protocol or "tcp"


def repository_and_tag(name: str) -> tuple[str, str | None]:
    """An image's name in its two parts; without a tag the newest is meant, not all of them."""
    if "@" in name:
        return name, None
    repository, tag = parse_repository_tag(name)
    return repository, tag or "latest"
