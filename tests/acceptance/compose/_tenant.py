"""Tenants' containers: an image without mica, started in a slice by nothing but the slice's attach.json."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.acceptance.compose import _images as images
from tests.acceptance.compose._shell import wait_for
from tests.acceptance.compose._stack import HOST_DIR, Stack

START_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Tenant:
    """A running container of a tenant; it prints one JSON object a line."""

    stack: Stack
    container: str

    def lines(self) -> list[dict[str, Any]]:
        printed = self.stack.docker("logs", self.container)
        return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]

    def said(self, key: str) -> dict[str, Any]:
        """The first line that has `key`; waits for it."""
        what = f"{key!r} in the tenant's output"
        return wait_for(what, lambda: next((line for line in self.lines() if key in line), None), START_TIMEOUT_S)

    def steps(self) -> int:
        return max((line["step"] for line in self.lines() if "step" in line), default=0)

    def advances(self) -> bool:
        """Whether it goes on allocating and freeing: two more steps from now."""
        before = self.steps()
        return wait_for("two more steps of the tenant", lambda: self.steps() >= before + 2, START_TIMEOUT_S)

    def kill(self) -> None:
        self.stack.docker("kill", "--signal", "KILL", self.container)


def attach_arguments(slice_id: str) -> list[str]:
    """What attach.json says, as arguments of `docker run`."""
    attach = json.loads((HOST_DIR / "run" / "slices" / slice_id / "attach.json").read_text())
    environment = [f"--env={name}={value}" for name, value in attach["env"].items()]
    mounts = [
        f"--volume={mount['source']}:{mount['target']}:{'ro' if mount.get('read_only') else 'rw'}" for mount in attach["mounts"]
    ]
    return environment + mounts


@contextmanager
def tenant(stack: Stack, slice_id: str, uid: int, take: str) -> Iterator[Tenant]:
    """Start a container of user `uid` in the slice; it takes `take` bytes of device memory ("all": what is free)."""
    hardened = ["--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", f"--user={uid}:{uid}"]
    container = stack.docker("run", "--detach", *hardened, *attach_arguments(slice_id), images.TENANT, take).strip()
    try:
        yield Tenant(stack, container)
    finally:
        stack.docker("rm", "--force", "--volumes", container)
