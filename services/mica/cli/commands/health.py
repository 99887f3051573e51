"""``mica health clear``: an operator says that what has happened to a device is settled.

Invariant: only what was there to be seen is cleared. What happens to the device afterwards, or meanwhile, makes it sick again.
"""

from typing import Any, Final

import click

from mica.bus import Bus, StaleRevisionError
from mica.cli import _documents as documents
from mica.cli._errors import CliError
from mica.cli._quantities import SECONDS
from mica.cli._session import connected, json_option, run, server_option
from mica.cli._table import show_json
from mica.events import Clearances, Device, Inventory

WAIT_S: Final = 30.0
ATTEMPTS: Final = 8


@click.group()
def health() -> None:
    """What has happened to devices."""


@health.command()
@click.argument("device_id", metavar="DEVICE")
@click.option("--timeout", type=SECONDS, default=str(WAIT_S), show_default="30s", help="Give up waiting after this.")
@click.option("--no-wait", is_flag=True, help="Return once it is written.")
@server_option
@json_option
def clear(device_id: str, timeout: float, server: str | None, *, no_wait: bool, as_json: bool) -> None:
    """Settle what has happened to DEVICE so far, such as a fatal XID; it takes slices again.

    What lasts can't be cleared: it is over when the device's library no longer says it.
    """
    row = run(_clear(device_id, 0.0 if no_wait else timeout, server))
    if as_json:
        show_json(row)
    else:
        click.echo(f"{device_id}: {row['cleared']} cleared, {row['health']}" + (f": {row['message']}" if row["message"] else ""))


async def _clear(device_id: str, timeout_s: float, server: str | None) -> dict[str, Any]:
    async with connected(server) as bus:
        inventory, device = find(await documents.inventories(bus), device_id)
        happened = [trouble for trouble in device.troubles if not trouble.lasting]
        if not happened:
            lasts = f"{device.health}: {device.message}" if device.message else str(device.health)
            raise CliError(f"{device_id}: nothing has happened to it that could be cleared; it is {lasts}")
        until = max(trouble.at for trouble in happened)
        await _write(bus, inventory.node, device_id, until)
        if timeout_s:
            device = await _cleared(bus, inventory.node, device_id, until, timeout_s)
        return {"id": device_id, "cleared": len(happened), "health": str(device.health), "message": device.message}


def find(inventories: list[Inventory], device_id: str) -> tuple[Inventory, Device]:
    """The device and its node's inventory.

    Raises:
        CliError: there is no such device.
    """
    for inventory in inventories:
        for device in inventory.devices:
            if device.id == device_id:
                return inventory, device
    raise CliError(f"{device_id}: no such device; `mica devices` lists them")


async def _write(bus: Bus, node: str, device_id: str, until: int) -> None:
    key = f"health.{node}"
    for _ in range(ATTEMPTS):
        entry = await bus.policy.get(key, Clearances)
        before = entry.value.cleared if entry is not None else {}
        wanted = Clearances(cleared=before | {device_id: max(until, before.get(device_id, 0))})
        try:
            await bus.policy.update(key, wanted, entry.revision if entry is not None else 0)
        except StaleRevisionError:
            continue
        return
    raise CliError(f"{key}: others write it all the time; try again")


async def _cleared(bus: Bus, node: str, device_id: str, until: int, timeout_s: float) -> Device:
    """The device, once discovery has taken note.

    Raises:
        CliError: it did not within the time.
    """
    import asyncio

    try:
        async with asyncio.timeout(timeout_s):
            async for changes in bus.state.watch(f"inventory.{node}", Inventory):
                for change in changes:
                    _, device = find([change.value] if change.value is not None else [], device_id)
                    if not any(not trouble.lasting and trouble.at <= until for trouble in device.troubles):
                        return device
    except TimeoutError:
        pass
    raise CliError(f"{device_id}: written, but discovery on {node} has not taken note within {timeout_s:g} s")
