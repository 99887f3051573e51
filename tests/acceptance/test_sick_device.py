"""A device that a fatal XID has hit, in a running system: drained, remembered by a new discovery, cleared by an operator.

What discovery made of the XID is written into its inventory by the test; that a library's findings become that is tested where
the libraries are.
"""

import asyncio
from pathlib import Path
from typing import Any

from acceptance_stack import GIB, Stack, soon
from msgspec.structs import replace

from mica.events import Device, Health, Inventory, Observed, Severity, Trouble

NODE = 'name = "pair"\n[[device]]\nmodel = "L4"\ncount = 2\n'
XID = Trouble(kind="xid", code=79, severity=Severity.FATAL, message="XID 79: fallen off the bus", at=1)


def struck(device: Device) -> Device:
    """The device after the XID."""
    return replace(device, health=Health.FAILED, message=XID.message, troubles=(XID,))


async def strike(stack: Stack, device_id: str) -> None:
    """The device is struck, and discovery starts anew from what it has written."""
    bus = await stack.bus()
    try:
        entry = await bus.state.get("inventory.pair", Inventory)
        assert entry is not None
        devices = tuple(struck(each) if each.id == device_id else each for each in entry.value.devices)
        await bus.state.update("inventory.pair", replace(entry.value, devices=devices), entry.revision)
    finally:
        await bus.close()
    stack.kill("discovery")


async def seen_to_hold(stack: Stack, device_id: str, slice_id: str) -> None:
    """The enforcer has told that the slice's programs hold memory: before that it might be moved, as one that holds none."""
    bus = await stack.bus()
    try:
        async with asyncio.timeout(30):
            while True:
                entry = await bus.state.get("observed.pair", Observed)
                if entry is not None and entry.value.devices[device_id][slice_id].vram_used_bytes:
                    return
                await asyncio.sleep(0.05)
    finally:
        await bus.close()


def row_of(stack: Stack, device_id: str) -> dict[str, Any]:
    """The device, as ``mica devices`` shows it."""
    return next(row for row in stack.json("devices") if row["id"] == device_id)


async def test_a_device_is_drained_and_comes_back_when_an_operator_clears_it(house: Stack, tmp_path: Path) -> None:
    """Idle slices move, one with a program is lost with the reason, the program ends; nothing is leaked, and all is told."""
    node = tmp_path / "pair.toml"
    node.write_text(NODE)
    house.start("--port", "0", "--node", str(node))
    idle = house.request("idle", "2GiB", "--mode", "fcsp")["placements"][0]["device_id"]
    assert house.request("busy", "4GiB", "--mode", "fcsp")["placements"][0]["device_id"] == idle
    client = house.client("busy")
    assert "error" not in client.ask("allocate", GIB)
    await seen_to_hold(house, idle, "busy")
    await strike(house, idle)
    await soon(lambda: house.json("show", "busy")["state"] == "lost")
    assert "health failed: XID 79" in house.json("show", "busy")["message"]
    await soon(lambda: house.json("show", "idle")["placements"][0]["device_id"] != idle)
    await soon(lambda: client.process.poll() is not None)
    await soon(lambda: row_of(house, idle)["slices"] == 0)
    assert (row_of(house, idle)["health"], row_of(house, idle)["message"]) == ("failed", XID.message)
    assert f"  {XID.message}\n" in house.mica("devices")
    house.audit_recovered()
    house.mica("health", "clear", idle, "--no-wait")
    house.kill("discovery")
    await soon(lambda: all(row["health"] == "healthy" for row in house.json("devices")))
    assert house.request("wide", "21GiB", "--mode", "fcsp")["placements"][0]["device_id"] == idle
    house.audit_recovered()
