"""A node with an L4 and an H100 in MIG mode; no enforcer runs yet."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from enforcer_site import LIMIT_S, Site, shared_memory

from mica.bus import JetStreamBus


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory on a tmpfs, gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="mica-", dir=shared_memory()))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def site(root: Path, nats_server: Any) -> AsyncIterator[Site]:
    """A node with an L4 and an H100 in MIG mode, known to the bus; no enforcer runs yet."""
    bus = await JetStreamBus.connect(nats_server.url, wait_s=LIMIT_S)
    site = Site(root, nats_server.url, bus)
    await site.inventory()
    yield site
    if site.process is not None:
        site.kill()
    await bus.close()
