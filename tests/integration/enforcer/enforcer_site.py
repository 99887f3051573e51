"""A simulated node in a tmpfs, with the real service as a process and real regions."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from mica.bus import JetStreamBus
from mica.events import Departure, Inventory, Ledger, LedgerEntry, Observed, SliceFact
from mica.hardware import NodeFile, device_uuid, write_node_desc
from mica.region import RuntimeDir

NODE = "n1"
LIMIT_S = 20.0

READ_DEVICES = """
import msgspec
from mica.vendors.nvidia import NvidiaDriver
print(msgspec.json.encode(NvidiaDriver().devices()).decode())
"""


def shared_memory() -> Path:
    """A tmpfs where regions may live."""
    return Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())


class Site:
    """One simulated node, its bus, and the enforcer process that a test starts and kills."""

    def __init__(self, root: Path, url: str, bus: JetStreamBus, costs: str = "") -> None:
        """``costs``: TOML of what kernels take on the node."""
        self.root, self.url, self.bus = root, url, bus
        self.runtime = RuntimeDir(root / "run")
        self.sim = root / "sim"
        self.devices = [device_uuid(NODE, index) for index in range(2)]
        self.generation = 0
        self.process: subprocess.Popen[str] | None = None
        self.environment = os.environ | {
            "MICA_NATS_URL": url,
            "MICA_NODE": NODE,
            "MICA_RUNTIME_DIR": str(self.runtime.root),
            "MICA_SIM_DIR": str(self.sim),
        }
        write_node_desc(
            NodeFile.parse(
                f'name = "n1"\n{costs}[[device]]\nmodel = "L4"\n[[device]]\nmodel = "H100-SXM-80GB"\nmig = true\n'.encode()
            ),
            self.sim,
        )

    def command(self) -> list[str]:
        return [sys.executable, "-m", "mica.enforcer"]

    async def start(self) -> None:
        """Start the service and wait until it says that it serves."""
        self.process = subprocess.Popen(self.command(), env=self.environment, stdout=subprocess.PIPE, text=True)
        line = await asyncio.wait_for(asyncio.to_thread(self.process.stdout.readline), LIMIT_S)  # type: ignore[union-attr]
        assert line == "mica-enforcer ready\n"

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        self.stop(signal.SIGKILL)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it and return its status."""
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(LIMIT_S)
        self.process.stdout.close()  # type: ignore[union-attr]
        self.process = None
        return status

    async def inventory(self) -> None:
        """What discovery would write, read from the simulated driver in a process of its own."""
        found = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", READ_DEVICES], env=self.environment, capture_output=True, text=True, check=True
        )
        document = {"node": NODE, "pool": "default", "boot_id": "b", "devices": json.loads(found.stdout)}
        await self.bus.state.put(f"inventory.{NODE}", msgspec.convert(document, Inventory))

    async def ledger(self, devices: dict[str, list[LedgerEntry]], departures: dict[str, Departure] | None = None) -> None:
        """Write the node's ledger, as the planner would."""
        self.generation += 1
        by_id = {device: {entry.id: entry for entry in entries} for device, entries in devices.items()}
        ledger = Ledger(node=NODE, generation=self.generation, devices=by_id, departures=departures or {})
        await self.bus.state.put(f"ledger.{NODE}", ledger)

    async def said(self, kind: str, id_: str = "*") -> list[SliceFact]:
        """The facts of one kind, as the stream holds them."""
        return [h.event for h in await self.bus.history("SLICES", [f"slice.{kind}.{id_}"]) if isinstance(h.event, SliceFact)]

    async def until_said(self, kind: str, id_: str) -> SliceFact:
        """Wait for a fact."""
        async with asyncio.timeout(LIMIT_S):
            while not (facts := await self.said(kind, id_)):
                await asyncio.sleep(0.01)
        return facts[-1]

    async def until_observed(self, condition: Callable[[Observed], bool]) -> Observed:
        """Wait until ``observed`` is as the condition says."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                entry = await self.bus.state.get(f"observed.{NODE}", Observed)
                if entry is not None and condition(entry.value):
                    return entry.value
                await asyncio.sleep(0.01)

    def tenant(self, slice_id: str, script: str) -> subprocess.Popen[str]:
        """Start a Python program inside a slice with nothing but what its attach file says."""
        attach = json.loads(self.runtime.attach_path(slice_id).read_text())
        return subprocess.Popen(
            [sys.executable, "-c", script],
            env=os.environ | attach["env"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
