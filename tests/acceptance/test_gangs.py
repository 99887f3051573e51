"""A gang over two nodes on one NATS, with real services on both: whole or not at all, whoever is killed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance_stack import Stack, soon

from mica.bus import Bus, Heard
from mica.events import Observed, RequestSlice

NODE = 'name = "{name}"\n[[device]]\nmodel = "L4"\ncount = 2\n'


class SecondNode:
    """A node of its own beside ``mica up``: discovery and an enforcer, on other simulated devices."""

    def __init__(self, stack: Stack, home: Path) -> None:
        description = home / "two.toml"
        description.write_text(NODE.format(name="two"))
        self.runtime_dir = home / "two"
        stack.mica("sim", "init", description, "--dir", self.runtime_dir / "sim")
        own = {
            "MICA_NATS_URL": stack.url, "MICA_NODE": "two", "MICA_POOL": "default", "MICA_RUNTIME_DIR": str(self.runtime_dir),
            "MICA_SIM_DIR": str(self.runtime_dir / "sim"), "MICA_OPENCL": "off",
        }  # fmt: skip
        self.environment = os.environ | own
        self.services: dict[str, subprocess.Popen[bytes]] = {}
        self.start("discovery")
        self.start("enforcer")

    def start(self, name: str) -> None:
        command = [sys.executable, "-m", "mica.cli", "service", name]
        with (self.runtime_dir / f"{name}.log").open("ab") as log:
            self.services[name] = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

    def kill(self, name: str) -> None:
        self.services[name].kill()
        self.services[name].wait()

    def close(self) -> None:
        for each in self.services.values():
            each.send_signal(signal.SIGTERM)
        for each in self.services.values():
            each.wait(20)


@pytest.fixture
def two(house: Stack, tmp_path: Path) -> Iterator[SecondNode]:
    """``mica up`` on one node, and a second node that its planner knows."""
    first = tmp_path / "one.toml"
    first.write_text(NODE.format(name="one"))
    house.start("--port", "0", "--node", str(first))
    node = SecondNode(house, house.home)
    try:
        yield node
    finally:
        node.close()


def state(house: Stack, slice_id: str) -> str:
    return str(house.json("show", slice_id, status=None).get("state", ""))


async def told(bus: Bus, subject: str) -> list[Heard]:
    """What the stream has on a subject, once it has something."""
    async with asyncio.timeout(30):
        while not (found := await bus.history("SLICES", [subject])):
            await asyncio.sleep(0.05)
    return found


@pytest.mark.parametrize("killed", ["", "planner"])
async def test_a_gang_is_ready_on_both_nodes_or_on_none(house: Stack, two: SecondNode, killed: str) -> None:
    """While one node's enforcer is dead it is placed and not ready; then it is, on both; and its end is one end."""
    await soon(lambda: len({each["node"] for each in house.json("devices")}) == 2)
    bus = await house.bus()
    try:
        while await bus.state.get("observed.two", Observed) is None:
            await asyncio.sleep(0.05)
        two.kill("enforcer")
        await bus.publish(RequestSlice(tenant="tester", id="g", vram_bytes=4 << 30, devices=4, nodes=2))
        await soon(lambda: state(house, "g") == "placed")
        assert await bus.history("SLICES", ["slice.ready.g"]) == []
        if killed:
            house.kill(killed)
        two.start("enforcer")
        await soon(lambda: state(house, "g") == "ready")
        [ready] = await told(bus, "slice.ready.g")
        assert sorted({each.node for each in ready.event.placements}) == ["one", "two"]  # type: ignore[union-attr]
        for root in (house.runtime_dir, two.runtime_dir):
            assert (root / "slices" / "g" / "attach.json").is_file()
        house.audit_recovered()
        house.mica("release", "g")
        await soon(lambda: state(house, "g") == "released")
        assert len(await told(bus, "slice.released.g")) == 1
        house.audit_recovered()
    finally:
        await bus.close()
