"""``mica health clear`` on a real server, with a discovery that takes note."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mica.bus import JetStreamBus, SystemClock
from mica.discovery.handlers import Registrar
from mica.discovery.inventory import Identity, Survey
from mica.events import Device, Severity, Vendor
from mica.observability import PassingTracer
from mica.vendors import Finding

GPU = Device(id="GPU-1", index=0, vendor=Vendor.NVIDIA, model="NVIDIA L4", vram_bytes=24 << 30)
XID = Finding(device_id="GPU-1", kind="xid", severity=Severity.FATAL, message="XID 79", code=79)


@pytest.fixture
async def bus(nats_server: Any) -> AsyncIterator[JetStreamBus]:
    """A connection of the test's own."""
    connection = await JetStreamBus.connect(nats_server.url, wait_s=10)
    yield connection
    await connection.close()


async def clear(url: str) -> asyncio.subprocess.Process:
    """The command, started."""
    command = (sys.executable, "-m", "mica.cli", "health", "clear", "GPU-1", "--server", url)
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=dict(os.environ))


async def test_an_operator_clears_a_fatal_xid(nats_server: Any, bus: JetStreamBus) -> None:
    """The command returns once the device is well; a second one finds nothing to clear."""
    identity = Identity(node="n1", pool="p", boot_id="b")
    registrar = Registrar(bus, identity, SystemClock(), PassingTracer())
    survey = Survey(devices=(GPU,))
    await registrar.on_survey(Survey(devices=(GPU,), findings=(XID,)))
    async with asyncio.timeout(30):
        running = await clear(nats_server.url)
        ended = asyncio.create_task(running.communicate())
        while not ended.done():
            await registrar.on_survey(survey)
            await asyncio.sleep(0.02)
        said, complaint = ended.result()
        assert (running.returncode, said, complaint) == (0, b"GPU-1: 1 cleared, healthy\n", b"")
        again = await clear(nats_server.url)
        _, complaint = await again.communicate()
        assert again.returncode == 1
        assert b"nothing has happened to it that could be cleared" in complaint
