"""A ``mica up`` of the demo's own: a free port, directories that are gone afterwards. Invariant: it is stopped, come what may."""

import asyncio
import json
import os
import shutil
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from mica.cli._errors import CliError
from mica.cli.up._supervisor import stop

READY_S: Final = 60.0
MEMORY: Final = Path("/dev/shm")  # noqa: S108 - regions belong on a tmpfs; the directory below it is made by mkdtemp


class Stack(Struct, frozen=True, kw_only=True):
    """A running system."""

    url: str
    node: str
    devices: int
    runtime_dir: Path
    sim_dir: Path
    log: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a client of this system needs."""
        own = {"MICA_NATS_URL": self.url, "MICA_RUNTIME_DIR": str(self.runtime_dir), "MICA_NODE": self.node}
        return dict(os.environ) | own | {"MICA_SIM_DIR": str(self.sim_dir)}


@asynccontextmanager
async def running() -> AsyncIterator[Stack]:
    """Start it on the shipped mixed node, with this machine's processor beside the simulated devices.

    Raises:
        CliError: it was not ready; carries its last line.
    """
    home = Path(tempfile.mkdtemp(prefix="mica-demo-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
    log = home / "up.log"
    arguments = ("up", "--opencl", "--json", "--port", "0", "--runtime-dir", str(home / "run"), "--data-dir", str(home / "data"))
    try:
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "mica.cli", *arguments, stdout=PIPE, stderr=errors, start_new_session=True
            )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(READY_S):
                line = await process.stdout.readline()
            if not line:
                raise CliError(f"demo: mica up did not start: {(log.read_text().splitlines() or ['it said nothing'])[-1]}")
            yield _stack(json.loads(line), log)
        finally:
            await stop(process, limit_s=20)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _stack(ready: dict[str, str], log: Path) -> Stack:
    return Stack(
        url=ready["url"],
        node=ready["node"],
        devices=int(ready["devices"]),
        runtime_dir=Path(ready["runtime_dir"]),
        sim_dir=Path(ready["sim_dir"]),
        log=log,
    )
