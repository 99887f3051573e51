"""The NVIDIA adapter over the simulated NVML: what the node file says is what mica reads."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct, json

from mica.bus import JetStreamBus
from mica.events import Device, Health, Inventory
from mica.hardware import NodeFile, demo_node_path, device_uuid, write_node_desc
from mica.native import LIB_DIR
from mica.vendors import DeviceReading

PROGRAM = Path(__file__).with_name("simulated_reading.py")

pytestmark = pytest.mark.skipif(not (LIB_DIR / "sim" / "libnvidia-ml.so.1").exists(), reason="run `make native` first")


class Answer(Struct):
    """What the program prints."""

    devices: tuple[Device, ...]
    samples: tuple[DeviceReading, ...]
    processes: list[list[tuple[int, int]]]
    partition: DeviceReading
    partition_processes: list[tuple[int, int]]
    after: bool


@pytest.fixture
def node(tmp_path: Path) -> Callable[[], dict[str, str]]:
    """The environment of a process on the demo node."""
    directory = tmp_path / "sim"
    write_node_desc(NodeFile.load(demo_node_path()), directory)
    return lambda: os.environ | {"MICA_SIM_DIR": str(directory)}


@pytest.fixture
async def bus(nats_server: Any) -> AsyncIterator[JetStreamBus]:
    """A connection of the test's own."""
    connection = await JetStreamBus.connect(nats_server.url, wait_s=10)
    yield connection
    await connection.close()


def test_the_demo_node(node: Callable[[], dict[str, str]]) -> None:
    """Every device is read with its catalogue's figures, MIG geometry included, and a MIG instance has its own memory."""
    output = subprocess.run([sys.executable, PROGRAM], env=node(), capture_output=True, check=True).stdout
    answer = json.decode(output, type=Answer)
    h100, l4, p40 = answer.devices
    assert [device.id for device in answer.devices] == [device_uuid("demo", index) for index in range(3)]
    assert all(device.simulated for device in answer.devices)
    assert (h100.model, h100.multiprocessors, h100.compute_capability) == ("NVIDIA H100 80GB HBM3", 132, (9, 0))
    assert (l4.multiprocessors, l4.compute_capability, l4.partitioned) == (58, (8, 9), False)
    assert (p40.multiprocessors, p40.compute_capability, p40.profiles) == (30, (6, 1), ())
    assert (h100.vram_bytes, h100.reserve_bytes) == (81_559 << 20, 407 << 20)
    assert (h100.partitioned, h100.compute_slices) == (True, 7)
    geometry = {profile.name: (profile.profile_id, profile.size, profile.starts) for profile in h100.profiles}
    assert geometry["1g.10gb"] == (19, 1, (0, 1, 2, 3, 4, 5, 6))
    assert geometry["3g.40gb"] == (9, 4, (0, 4))
    assert geometry["7g.80gb"] == (0, 8, (0,))
    assert [reading.vram_used_bytes for reading in answer.samples] == [0, 0, 0]
    assert answer.processes == [[], [], []]
    assert 0 < answer.partition.vram_total_bytes <= h100.profiles[0].vram_bytes
    assert answer.partition.utilisation_ppm is None
    assert answer.partition_processes == []
    assert answer.after


async def test_discovery_of_the_demo_node(node: Callable[[], dict[str, str]], nats_server: Any, bus: JetStreamBus) -> None:
    """When discovery says that it is ready, the inventory of the simulated node is in KV."""
    variables = node() | {"MICA_NATS_URL": nats_server.url, "MICA_NODE": "n1", "MICA_POOL": "lab"}
    process = subprocess.Popen([sys.executable, "-m", "mica.discovery"], env=variables, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "mica-discovery ready\n"
        entry = await bus.state.get("inventory.n1", Inventory)
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert entry is not None
    assert (entry.value.pool, len(entry.value.boot_id)) == ("lab", 36)
    assert [device.id for device in entry.value.devices] == [device_uuid("demo", index) for index in range(3)]
    assert {device.health for device in entry.value.devices} == {Health.HEALTHY}
    assert process.returncode == 0


def test_a_simulation_without_a_node(tmp_path: Path) -> None:
    """A simulation directory without a node makes the vendor absent or faulty, never a crash or the system's devices."""
    program = "from mica.vendors import open_drivers; print([d.devices() for d in open_drivers()])"
    variables = os.environ | {"MICA_SIM_DIR": str(tmp_path / "nothing")}
    answer = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout.strip()) == (0, "[]"), answer.stderr
