"""The same request, on the node of any vendor: only the size is another."""

import json
import shutil
from typing import Any, Final

import pytest
from acceptance_stack import Stack, new_home

from mica.events import NATIVE_RUNTIMES, Vendor
from mica.hardware import NodeFile, ready_made_nodes

WAYS_IN: Final = {
    Vendor.NVIDIA: "CUDA_VISIBLE_DEVICES",
    Vendor.AMD: "ROCR_VISIBLE_DEVICES",
    Vendor.INTEL: "ZE_AFFINITY_MASK",
    Vendor.HUAWEI: "ASCEND_VISIBLE_DEVICES",
    Vendor.QUALCOMM: "QAIC_VISIBLE_DEVICES",
}
"""By vendor, the variable by which a program in a slice finds its device."""


def a_third_of(node: NodeFile) -> int:
    """A third of the node's smallest device, in bytes."""
    return min(device.model.usable_bytes for device in node.devices()) // 3


@pytest.mark.parametrize("name", ready_made_nodes())
def test_one_request_is_at_home_on_every_node(name: str) -> None:
    """It is explained, ready as explained, leads to its device by the maker's own variable, and goes without a trace."""
    node = NodeFile.load(ready_made_nodes()[name])
    body = json.dumps({"tenant": "acme", "id": "one", "vram_bytes": a_third_of(node)})
    home = new_home()
    stack = Stack(home)
    try:
        assert stack.start("--node", name, "--port", "0")["devices"] == len(node.devices())
        explained: dict[str, Any] = stack.json("explain", body)
        (home / "request.json").write_text(body)
        ready = stack.json("request", "--file", home / "request.json")
        (placement,) = ready["placements"]
        chosen = next(each for each in explained["candidates"] if each.get("chosen"))
        assert (chosen["device_id"], chosen["mode"]) == (placement["device_id"], placement["mode"])
        assert placement["vram_bytes"] >= a_third_of(node)
        environment = stack.mica("run", "one", "--", "env")
        assert f"{WAYS_IN[Vendor(placement['vendor'])]}=" in environment
        assert Vendor(placement["vendor"]) in NATIVE_RUNTIMES
        stack.audit()
        stack.mica("release", "one")
        stack.audit()
    finally:
        stack.close()
        shutil.rmtree(home, ignore_errors=True)
