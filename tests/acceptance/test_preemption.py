"""A guaranteed request has a spot slice make room in a running system, also when the planner is killed meanwhile."""

from pathlib import Path

import pytest
from acceptance_stack import GIB, Stack, soon

from mica.events import Mode, RequestSlice

NODE = 'name = "one"\n[[device]]\nmodel = "L4"\ncount = 1\n'


@pytest.mark.parametrize("killed", [False, True])
async def test_a_spot_slice_makes_room(house: Stack, tmp_path: Path, *, killed: bool) -> None:
    """Where the pool does not suspend, it is evicted once, with the reason, and the asker is live in its place; all is clean."""
    node = tmp_path / "one.toml"
    node.write_text(NODE)
    house.start("--port", "0", "--node", str(node))
    house.mica("policy", "set", "pool.default", "suspend=false")
    house.request("cheap", "20GiB", "--mode", "fcsp", "--tier", "spot")
    client = house.client("cheap")
    assert "error" not in client.ask("allocate", GIB)
    bus = await house.bus()
    await bus.publish(RequestSlice(tenant="tester", id="dear", vram_bytes=20 * GIB, mode=Mode.FCSP, queue_s=120))
    await bus.close()
    await soon(lambda: house.json("queue")[0]["victims"] == ["cheap"])
    if killed:
        house.kill("planner")
    await soon(lambda: house.json("show", "dear")["state"] == "ready")
    assert house.json("show", "cheap")["state"] == "evicted"
    assert "preempted for slice dear" in house.json("show", "cheap")["message"]
    house.audit_recovered()
