"""A real program in a slice that is to have less memory than it holds, by tier; and a node that is drained and opened again."""

from pathlib import Path

from acceptance_stack import GIB, Client, Stack, soon
from second_node import SecondNode

NODE = 'name = "pair"\n[[device]]\nmodel = "L4"\ncount = 2\n'


def hold(stack: Stack, slice_id: str, tier: str) -> Client:
    """A slice of 4 GiB with a program that holds 3 of them."""
    stack.request(slice_id, "4GiB", "--mode", "fcsp", "--share", "20%", "--tier", tier)
    client = stack.client(slice_id)
    assert takes(client, 3 * GIB)
    return client


def takes(client: Client, size: int) -> bool:
    """Whether the driver gives the program so much more."""
    return bool(client.ask("allocate", size)["result"] == "CUDA_SUCCESS")


def memory_of(stack: Stack, slice_id: str) -> int:
    return int(stack.json("show", slice_id)["placements"][0]["vram_bytes"])


async def test_a_program_that_ignores_a_shrink_keeps_its_memory_or_by_tier_its_life_ends(house: Stack, tmp_path: Path) -> None:
    """While it is asked, the program sees the new size and gets nothing beyond it; every byte is accounted for at the end."""
    node = tmp_path / "pair.toml"
    node.write_text(NODE)
    house.start("--port", "0", "--node", str(node))
    kept, spot = hold(house, "kept", "guaranteed"), hold(house, "spot", "spot")

    house.mica("resize", "kept", "--vram", "2GiB", "--grace", "4s", "--no-wait")
    seen = await soon(lambda: (look := kept.ask("look"))["total_bytes"] == 2 * GIB and look)
    assert seen["free_bytes"] == 0
    assert not takes(kept, GIB // 2)
    await soon(lambda: memory_of(house, "kept") == 4 * GIB)
    assert takes(kept, GIB // 2)

    told = house.mica("resize", "spot", "--vram", "2GiB", "--grace", "1s")
    assert "are terminated in" in told
    assert memory_of(house, "spot") == 2 * GIB
    assert spot.process.wait(30) != 0

    refused = house.mica("resize", "kept", "--vram", "1GiB", "--grace", "1s", status=1)
    assert "programs hold 3.5GiB of" in refused
    assert "it keeps the size that it had" in refused
    kept.ask("free")
    assert "is resized (generation" in house.mica("resize", "kept", "--vram", "1GiB", "--grace", "1s")
    house.audit_recovered()


async def test_a_node_is_drained_and_opened_again(house: Stack, tmp_path: Path) -> None:
    """Of a device slices move to the other; of the only node a guaranteed one waits for a place, and a spot one is evicted."""
    node = tmp_path / "pair.toml"
    node.write_text(NODE)
    house.start("--port", "0", "--node", str(node))
    hold(house, "kept", "guaranteed")
    hold(house, "spot", "spot")
    device = house.json("show", "kept")["placements"][0]["device_id"]

    assert "nothing is left there" in house.mica("drain", device, "--grace", "1s")
    assert house.json("show", "kept")["placements"][0]["device_id"] != device
    assert house.json("drain", "pair", "--grace", "1s")["left"] == 0
    assert house.json("show", "spot")["state"] == "evicted"
    assert [(each["id"], each["wants"]) for each in house.json("queue")] == [("kept", "another place")]
    assert "has it drained" in house.mica("request", "--tenant", "tester", "--vram", "1GiB", status=None)
    assert house.json("drain", "pair", "--undo")["service"] == "open"
    await soon(lambda: house.json("show", "kept")["state"] == "ready")
    assert takes(house.client("kept"), 3 * GIB)
    house.request("later", "1GiB")
    assert "no such node or device" in house.mica("drain", "nowhere", status=1)
    house.audit_recovered()


async def test_slices_of_a_drained_node_go_on_on_another(house: Stack, two: SecondNode) -> None:
    """When their programs have ended; what starts one there has the slice as it was, and its id."""
    await soon(lambda: len({each["node"] for each in house.json("devices")}) == 2)
    house.mica("drain", "two", "--cordon")
    client = hold(house, "kept", "guaranteed")
    house.mica("drain", "two", "--undo")

    assert house.json("drain", "one", "--grace", "1s")["left"] == 0
    assert client.process.wait(30) != 0
    await soon(lambda: house.json("show", "kept")["state"] == "ready")
    [placement] = house.json("show", "kept")["placements"]
    assert (placement["node"], placement["vram_bytes"]) == ("two", 4 * GIB)
    assert (two.runtime_dir / "slices" / "kept" / "attach.json").is_file()
    assert not (house.runtime_dir / "slices" / "kept").exists()
    assert "before     it was ready elsewhere; evicted from node one: device" in house.mica("explain", "kept")
    house.audit_recovered()
