"""``mica health clear``: an operator says that what has happened to a device is settled.

Invariant: only what was there to be seen is cleared. What happens to the device afterwards, or meanwhile, makes it sick again.
"""

from typing import Any, Final

import click
from msgspec import Struct

from mica.bus import Bucket, Bus, Note, StaleRevisionError
from mica.cli import _documents as documents
from mica.cli._errors import CliError
from mica.cli._policies import author
from mica.cli._quantities import SECONDS
from mica.cli._session import connected, json_option, run, server_option
from mica.cli._table import show_json
from mica.events import Clearances, Device, Inventory

WAIT_S: Final = 30.0
ATTEMPTS: Final = 8


class How(Struct, frozen=True, kw_only=True):
    """What the options say."""

    message: str
    timeout: float
    no_wait: bool
    server: str | None
    as_json: bool


@click.group()
def health() -> None:
    """What has happened to devices."""


@health.command()
@click.argument("device_id", metavar="DEVICE")
@click.option("-m", "--message", default="", help="Why, for those who read the document's history.")
@click.option("--timeout", type=SECONDS, default=str(WAIT_S), show_default="30s", help="Give up waiting after this.")
@click.option("--no-wait", is_flag=True, help="Return once it is written.")
@server_option
@json_option
def clear(device_id: str, **given: Any) -> None:
    """Settle what has happened to DEVICE so far, such as a fatal XID; it takes slices again.

    What lasts can't be cleared: it is over when the device's library no longer says it.
    """
    how = How(**given)
    row = run(_clear(device_id, how))
    if how.as_json:
        show_json(row)
    else:
        click.echo(f"{device_id}: {row['cleared']} cleared, {row['health']}" + (f": {row['message']}" if row["message"] else ""))


async def _clear(device_id: str, how: How) -> dict[str, Any]:
    async with connected(how.server) as bus:
        inventory, device = find(await documents.inventories(bus), device_id)
        happened = [trouble for trouble in device.troubles if not trouble.lasting]
        if not happened:
            lasts = f"{device.health}: {device.message}" if device.message else str(device.health)
            raise CliError(f"{device_id}: nothing has happened to it that could be cleared; it is {lasts}")
        until = max(trouble.at for trouble in happened)
        await _write(bus.policy, inventory.node, {device_id: until}, how.message)
        if not how.no_wait:
            device = await _cleared(bus, inventory.node, device_id, until, how.timeout)
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


async def _write(bucket: Bucket, node: str, settled: dict[str, int], message: str) -> None:
    key = f"health.{node}"
    for _ in range(ATTEMPTS):
        entry, versions = await bucket.get(key, Clearances), await bucket.versions(key)
        wanted = Clearances(cleared=(entry.value.cleared if entry is not None else {}) | settled)
        try:
            await bucket.update(key, wanted, versions[-1].revision if versions else 0, note=Note(author(), message))
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
