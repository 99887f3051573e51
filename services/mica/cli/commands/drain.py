"""``mica drain``: an operator takes a node or a device out of service, or back into it.

Invariant: exit status 0 means that nothing is left there, unless --no-wait, --cordon or --undo was given. What is decided is a
policy of the node, so that any planner goes on with it.
"""

import asyncio
from typing import Any, Final

import click
from msgspec import Struct
from msgspec.structs import replace

from mica.bus import Bus
from mica.cli import _documents as documents
from mica.cli._errors import CliError
from mica.cli._policies import held, write
from mica.cli._quantities import SECONDS
from mica.cli._session import connected, json_option, run, server_option
from mica.cli._table import show_json
from mica.cli.commands.health import find
from mica.events import Inventory, Ledger, NodePolicy, Service

WAIT_S: Final = 600.0


class How(Struct, frozen=True, kw_only=True):
    """What the options say."""

    undo: bool
    cordon: bool
    grace_s: float | None
    message: str
    timeout: float
    no_wait: bool
    server: str | None
    as_json: bool

    @property
    def service(self) -> Service:
        """What the place is to be."""
        return Service.OPEN if self.undo else Service.CORDONED if self.cordon else Service.DRAINED


class Area(Struct, frozen=True):
    """A node, or one device of it."""

    node: str
    device_id: str = ""

    def __str__(self) -> str:
        return f"device {self.device_id} of node {self.node}" if self.device_id else f"node {self.node}"

    def left(self, ledger: Ledger) -> dict[str, str]:
        """By slice, how far it is: it stands there, moves within the node, or leaves."""
        tables = (("stands", ledger.devices), ("leaves", ledger.held))
        found: dict[str, str] = {}
        for state, table in tables:
            for device_id, slices in table.items():
                if self.device_id in ("", device_id):
                    found |= {id_: state for id_ in slices if id_ not in found}
        leaving = {id_ for id_ in ledger.departures if not self.device_id or id_ in found}
        return found | dict.fromkeys(leaving, "leaves")


@click.command()
@click.argument("place", metavar="NODE|DEVICE")
@click.option("--undo", is_flag=True, help="Open it again.")
@click.option("--cordon", is_flag=True, help="Only place nothing new there; what is there stays.")
@click.option("--grace", "grace_s", type=SECONDS, help="How long programs may take to end; left out: 5s, 30s or 2m, by tier.")
@click.option("-m", "--message", default="", help="Why, for those who read the policy's history.")
@click.option("--timeout", type=SECONDS, default=str(WAIT_S), show_default="10m", help="Give up waiting after this.")
@click.option("--no-wait", is_flag=True, help="Return once it is written.")
@server_option
@json_option
def drain(place: str, **given: Any) -> None:
    """Take all slices off a node or device, spot first: moved within the node, else evicted, or placed elsewhere by tier."""
    how = How(**given)
    if how.undo and how.cordon:
        raise click.UsageError("--undo and --cordon contradict each other")
    row = run(_drain(place, how))
    if how.as_json:
        show_json(row)


async def _drain(place: str, how: How) -> dict[str, Any]:
    async with connected(how.server) as bus:
        area = area_of(await documents.inventories(bus), place)
        version = await _decide(bus, area, how)
        _say(how, f"{area} is {how.service} (policy node.{area.node}, version {version})")
        row: dict[str, Any] = {"node": area.node, "device": area.device_id, "service": str(how.service), "version": version}
        if how.service is Service.DRAINED and not how.no_wait:
            row["left"] = await _follow(bus, area, how)
        return row


def area_of(inventories: list[Inventory], place: str) -> Area:
    """The node of that name, else the device.

    Raises:
        CliError: there is neither.
    """
    if any(inventory.node == place for inventory in inventories):
        return Area(place)
    try:
        inventory, device = find(inventories, place)
    except CliError:
        raise CliError(f"{place}: no such node or device; `mica nodes` and `mica devices` list them") from None
    return Area(inventory.node, device.id)


def decided(policy: NodePolicy, area: Area, how: How) -> NodePolicy:
    """The node's policy with what is decided about the place."""
    grace_s = None if how.undo else how.grace_s if how.grace_s is not None else policy.drain_grace_s
    if not area.device_id:
        return replace(policy, service=how.service, drain_grace_s=grace_s, devices={} if how.undo else policy.devices)
    others = {device_id: service for device_id, service in policy.devices.items() if device_id != area.device_id}
    own = {} if how.undo else {area.device_id: how.service}
    return replace(policy, devices=others | own, drain_grace_s=grace_s if others or own else None)


async def _decide(bus: Bus, area: Area, how: How) -> int:
    seen = await held(bus.policy, f"node.{area.node}")
    now = seen.in_force.value if seen.in_force is not None else NodePolicy()
    assert isinstance(now, NodePolicy)
    if how.undo and area.device_id and now.service is not Service.OPEN:
        raise CliError(f"{area}: its node is {now.service}; `mica drain {area.node} --undo` opens it")
    wanted = decided(now, area, how)
    return seen.number if wanted == now else await write(bus.policy, seen, wanted, how.message)


async def _follow(bus: Bus, area: Area, how: How) -> int:
    """Tell who is left until nobody is.

    Raises:
        CliError: somebody is after the time.
    """
    left: dict[str, str] = {}
    try:
        async with asyncio.timeout(how.timeout):
            first = True
            async for changes in bus.state.watch(f"ledger.{area.node}", Ledger):
                now = [area.left(change.value) for change in changes if change.value is not None]
                if now and (now[-1] != left or first):
                    left, first = now[-1], False
                    _say(how, left_text(left))
                if not left:
                    return 0
    except TimeoutError:
        pass
    raise CliError(f"{area}: after {how.timeout:g} s {left_text(left)}")


def left_text(left: dict[str, str]) -> str:
    """``2 slices are left: a leaves, b stands``."""
    if not left:
        return "nothing is left there"
    told = ", ".join(f"{id_} {state}" for id_, state in sorted(left.items()))
    return f"{len(left)} slice{'s are' if len(left) > 1 else ' is'} left: {told}"


def _say(how: How, text: str) -> None:
    if not how.as_json:
        click.echo(text)
