"""``mica topology`` as a process, against a real server."""

import json
import os
import subprocess
import sys
from typing import Any

from mica.bus import JetStreamBus
from mica.events import Device, Inventory, Link, LinkKind, Vendor


def inventory(node: str) -> Inventory:
    devices = tuple(
        Device(
            id=f"{node}-{nth}", index=nth, vendor=Vendor.HUAWEI, model="Ascend", vram_bytes=1, numa_node=0,
            pci_bus_id=f"0000:0{nth}:00.0",
        )
        for nth in range(2)
    )  # fmt: skip
    link = Link(a=f"{node}-0", b=f"{node}-1", kind=LinkKind.HCCS, lanes=7, bytes_per_s=28 * 10**9)
    return Inventory(node=node, pool="p", boot_id="b", devices=devices, links=(link,))


async def test_the_nodes_on_the_bus_are_drawn(nats_server: Any) -> None:
    """All of them, or the one that is named; a name that there is not is refused with those that there are."""

    def mica(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mica.cli", "topology", *arguments]
        environment = {**os.environ, "MICA_NATS_URL": nats_server.url}
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)

    bus = await JetStreamBus.connect(nats_server.url, wait_s=10)
    for node in ("n1", "n2"):
        await bus.state.put(f"inventory.{node}", inventory(node))
    await bus.close()
    both = mica().stdout
    assert "node n1 (from inventory)" in both
    assert "node n2 (from inventory)" in both
    (found,) = json.loads(mica("--node", "n2", "--json").stdout)
    assert found["paths"] == [{"a": "n2-0", "b": "n2-1", "path": "HCCS7", "bytes_per_s": 28_000_000_000}]
    assert mica("--node", "n3").stderr.strip().endswith("no node 'n3'; there are: n1, n2")
    assert "there are 2; name it with --node" in mica("--svg", os.devnull).stderr
