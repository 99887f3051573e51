"""Repacking in a running system: programs are ended where the policy lets them be, also when the planner is killed meanwhile."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from acceptance_stack import GIB, Stack, wait_for

NODE = 'name = "two"\n[[device]]\nmodel = "L4"\ncount = 2\n'
POLICY = {"repacking": {"tiers": ["spot", "burst"], "restarts": True, "rest_s": 0}}


def scatter(house: Stack) -> None:
    """One small slice on each device, left over from a time when both were full; a program computes in each."""
    for slice_id, vram, tier in (("a", 12, "guaranteed"), ("b", 12, "guaranteed"), ("s1", 8, "spot"), ("s2", 8, "guaranteed")):
        house.request(slice_id, f"{vram}GiB", "--mode", "fcsp", "--tier", tier, "--share", "20%")
    for slice_id in ("a", "b"):
        house.mica("release", slice_id)
    assert len({where(house, slice_id) for slice_id in ("s1", "s2")}) == 2
    for slice_id in ("s1", "s2"):
        assert house.client(slice_id).ask("allocate", GIB)["result"] == "CUDA_SUCCESS"


def where(house: Stack, slice_id: str) -> str:
    return str(house.json("show", slice_id)["placements"][0]["device_id"])


@pytest.mark.parametrize("killed", [False, True])
def test_a_device_is_made_free(house: Stack, tmp_path: Path, *, killed: bool) -> None:
    """The spot slice joins the guaranteed one: its program ends, the next one starts on the other device; the books are clean."""
    node = tmp_path / "two.toml"
    node.write_text(NODE)
    house.start("--port", "0", "--node", str(node))
    scatter(house)
    wait_for(lambda: "no move is worth it" in house.mica("repack"))
    house.mica("policy", "set", "pool.default", json.dumps(POLICY))
    (plan,) = wait_for(lambda: [each for each in house.json("repack") if each["moves"]])
    (move,) = plan["moves"]
    assert (move["id"], move["restarts"], move["moved_bytes"] >= GIB) == ("s1", True, True)
    assert plan["after"]["free_devices"] == 1
    follower = subprocess.Popen(
        [sys.executable, "-m", "mica.cli", "repack", "--apply"], env=house.environment, stdout=subprocess.PIPE, text=True
    )
    if killed:
        wait_for(lambda: house.json("repack", "--status"))
        house.kill("planner")
    said, _ = follower.communicate(timeout=90)
    assert follower.returncode == 0, said
    assert said.rstrip().endswith(": done")
    assert where(house, "s1") == where(house, "s2")
    assert house.clients[0].process.wait(10) != 0
    assert house.clients[1].ask("allocate", GIB)["result"] == "CUDA_SUCCESS"
    assert house.client("s1").ask("allocate", GIB)["result"] == "CUDA_SUCCESS"
    house.audit_recovered()
