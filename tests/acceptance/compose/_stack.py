"""The stack of compose.yaml, as this test runs it: up, down, its containers, its ports, and the spans that it sent."""

import json
import os
import socket
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import cast

from tests.acceptance.compose import _images as images
from tests.acceptance.compose._shell import ROOT, run
from tests.acceptance.compose.otlp_receiver import Span

PROJECT = "micacomposetest"
HOST_DIR = Path("/dev/shm/mica-compose-test")  # regions need a tmpfs of the host
SERVICES = ("discovery", "planner", "enforcer", "telemetry", "slo_guard")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return cast("int", probe.getsockname()[1])


@dataclass(frozen=True)
class Stack:
    """Handles to a stack; `env` reaches the engine and fills compose.yaml's variables."""

    env: Mapping[str, str]
    nats_port: int
    otlp_port: int

    @property
    def nats_url(self) -> str:
        return f"nats://127.0.0.1:{self.nats_port}"

    def compose(self, *words: str, timeout_s: float = 600) -> str:
        program = os.environ.get("MICA_COMPOSE", "docker-compose").split()
        files = ["--file", "compose.yaml", "--file", "tests/acceptance/compose/compose.test.yaml"]
        command = [*program, "--project-name", PROJECT, "--project-directory", str(ROOT), *files]
        return run([*command, *words], env=self.env, timeout_s=timeout_s)

    def docker(self, *words: str, timeout_s: float = 120) -> str:
        return run(["docker", *words], env=self.env, timeout_s=timeout_s)

    def up(self) -> None:
        """Start everything, from images that are there."""
        self.compose("up", "--detach", "--no-build")

    def container(self, service: str) -> str:
        """The id of a service's container, running or not."""
        return self.compose("ps", "--all", "--quiet", service).strip()

    def kill(self, container: str) -> None:
        """SIGKILL a container; the restart policy leaves one alone that was killed by hand."""
        self.docker("kill", "--signal", "KILL", container)

    def start(self, container: str) -> None:
        self.docker("start", container)

    def runs(self, container: str) -> bool:
        return self.docker("inspect", "--format", "{{.State.Running}}", container).strip() == "true"

    def restarts(self, service: str) -> int:
        """How often the service ended by itself and was started again by its restart policy."""
        return int(self.docker("inspect", "--format", "{{.RestartCount}}", self.container(service)))

    def audit(self) -> str:
        """Run `mica audit` where all it reads is in sight: the bus, the regions and the drivers' books."""
        return self.compose("exec", "-T", "enforcer", "mica", "audit")

    def mica(self, *words: str) -> str:
        """Run the mica command inside the stack, as an operator would."""
        return self.compose("exec", "-T", "planner", "mica", *words)

    def spans(self) -> list[Span]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.otlp_port}/spans", timeout=10) as answer:
            return cast("list[Span]", json.load(answer))

    def logs(self) -> str:
        return self.compose("logs", "--no-color", "--tail", "25")


def new_stack(engine_env: Mapping[str, str]) -> Stack:
    nats_port, otlp_port = free_port(), free_port()
    env = {
        **engine_env,
        "BASE_IMAGE": images.BASE,
        "COMPOSE_DOCKER_CLI_BUILD": "0",
        "DOCKER_BUILDKIT": "0",
        "MICA_HOST_DIR": str(HOST_DIR),
        "MICA_IMAGE": images.MICA,
        "MICA_JAEGER_PORT": str(free_port()),
        "MICA_NATS_PORT": str(nats_port),
        "MICA_NODE": "compose-node",
        "MICA_NODE_FILE": "./tests/acceptance/compose/node.toml",
        "MICA_TEST_OTLP_PORT": str(otlp_port),
        "NATS_IMAGE": images.NATS,
    }
    return Stack(env, nats_port, otlp_port)


@contextmanager
def taken_down(stack: Stack) -> Iterator[None]:
    """Take the stack down with its volumes and its shared directory afterwards, whatever happened."""
    rmtree(HOST_DIR, ignore_errors=True)
    try:
        yield
    finally:
        stack.compose("down", "--volumes", "--remove-orphans", "--timeout", "10")
        rmtree(HOST_DIR, ignore_errors=True)
