"""Discovery over a real server, with a library that comes and goes."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mica.bus import BusError, JetStreamBus, ManualClock, Settings
from mica.discovery import __main__ as discovery
from mica.discovery.probe import Probe
from mica.events import Device, Health, Inventory, NodeHealthChanged, Vendor
from mica.vendors import DeviceReading, VendorDriver

L4 = Device(id="GPU-1", index=0, vendor=Vendor.NVIDIA, model="NVIDIA L4", vram_bytes=24 << 30)


class Library(VendorDriver):
    """A vendor's library whose devices a test adds and takes away."""

    name = "nvidia"
    listed: tuple[Device, ...] = (L4,)

    def keys(self) -> tuple[str, ...]:
        return tuple(device.id for device in self.listed)

    def describe(self, key: str) -> Device:
        return next(device for device in self.listed if device.id == key)

    def sample(self, device_id: str) -> DeviceReading:
        return DeviceReading(vram_used_bytes=0, vram_total_bytes=24 << 30)

    def compute_processes(self, device_id: str) -> list[tuple[int, int]]:
        return []

    def close(self) -> None:
        return


@pytest.fixture
async def bus(nats_server: Any) -> AsyncIterator[JetStreamBus]:
    """A connection of the test's own."""
    connection = await JetStreamBus.connect(nats_server.url, wait_s=10)
    yield connection
    await connection.close()


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    """The library that discovery finds on this machine."""
    found = Library()
    monkeypatch.setenv("MICA_METADATA", "off")
    monkeypatch.setattr(discovery, "Probe", lambda first_s: Probe({Vendor.NVIDIA: lambda: found}, first_s=first_s))
    return found


@asynccontextmanager
async def discovering(url: str, clock: ManualClock) -> AsyncIterator[None]:
    """The service, on a clock that the test moves, for the length of the block."""
    connection = await JetStreamBus.connect(url, wait_s=10)
    task = asyncio.create_task(discovery.run(connection, Settings(nats_url=url, node="n1"), clock))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await connection.close()


async def inventory(bus: JetStreamBus, clock: ManualClock, wanted: dict[str, Health]) -> Inventory:
    """Move the clock until the inventory says ``wanted``."""
    while True:
        entry = await bus.state.get("inventory.n1", Inventory)
        if entry is not None and {device.id: device.health for device in entry.value.devices} == wanted:
            return entry.value
        clock.advance(discovery.INTERVAL_S)
        await asyncio.sleep(0.01)


async def told_health(bus: JetStreamBus, clock: ManualClock, count: int) -> list[Health]:
    """Move the clock until so many events tell of a device's health."""
    while True:
        heard = [each.event for each in await bus.history("NODES", ["node.health.*"])]
        if len(heard) >= count:
            return [event.health for event in heard if isinstance(event, NodeHealthChanged)]
        clock.advance(discovery.INTERVAL_S)
        await asyncio.sleep(0.01)


async def test_a_device_fails_and_returns(nats_server: Any, bus: JetStreamBus, library: Library) -> None:
    """The inventory follows what the library lists, through failure, a crash of the server and recovery."""
    clock = ManualClock()
    async with asyncio.timeout(60), discovering(nats_server.url, clock):
        found = await inventory(bus, clock, {"GPU-1": Health.HEALTHY})
        assert (found.node, found.pool, found.devices) == ("n1", "default", (L4,))
        library.listed = ()
        await inventory(bus, clock, {"GPU-1": Health.FAILED})
        await told_health(bus, clock, 1)
        nats_server.kill()
        library.listed = (L4,)
        clock.advance(discovery.INTERVAL_S)
        nats_server.start()
        await retried(bus, clock, {"GPU-1": Health.HEALTHY})
        told = await told_health(bus, clock, 2)
    assert told == [Health.FAILED, Health.HEALTHY]


async def test_the_inventory_says_what_an_operator_says_of_the_node(
    nats_server: Any, bus: JetStreamBus, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And warns where its devices are others than that instance type has."""
    monkeypatch.setenv("MICA_SITE", "cloud=gcp,instance_type=g2-standard-24,zone=europe-west4-a")
    clock = ManualClock()
    async with asyncio.timeout(60), discovering(nats_server.url, clock):
        found = await inventory(bus, clock, {"GPU-1": Health.HEALTHY})
    assert (found.site.cloud, found.site.instance_type, found.site.source) == ("gcp", "g2-standard-24", "operator")
    assert found.warnings == ("gcp g2-standard-24 has 2 L4, 1 of 2 listed",)


def test_words_that_no_node_can_be_end_the_service_with_one_line(nats_server: Any) -> None:
    """What was given, and what is allowed."""
    environment = {**os.environ, "MICA_NATS_URL": nats_server.url, "MICA_SITE": "cloud=aws,typ=p5"}
    done = subprocess.run([sys.executable, "-m", "mica.discovery"], env=environment, capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.decode().startswith("mica-discovery: MICA_SITE: got 'typ=p5', allowed: FIELD=VALUE with cloud, ")
    assert done.stderr.count(b"\n") == 1


async def retried(bus: JetStreamBus, clock: ManualClock, wanted: dict[str, Health]) -> None:
    """``inventory``, while the server may still be coming up."""
    while True:
        try:
            await inventory(bus, clock, wanted)
        except BusError:
            await asyncio.sleep(0.05)
        else:
            return
