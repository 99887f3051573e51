"""Takes slices off devices that are as sick as their node's, or pool's, policy says (``drain_at``), and off those it has drained.

Invariant: a slice is moved, evicted, lost or placed elsewhere by the same paths as for any other reason, so that it ends in one
state, whoever looked at the device and however often. Spot slices go first. The others are moved, where they hold no memory and
fit elsewhere on their node; what is left is lost on a device that has failed, and evicted from one that still works. From there
it goes on elsewhere if it would when its node was lost.

A device that merely does not answer may do so again: its slices are left alone for ``PATIENCE_NS``. Nothing new is placed on it
meanwhile. One that an operator drains still works: also what holds memory is moved there, and its programs have time to end.
"""

import logging
from collections.abc import Collection
from typing import Final

from msgspec import Struct

from mica.events import Device, EvictSlice, Health, LedgerEntry, MoveSlice, Phase, Service, SliceRecord, Tier
from mica.planner.deciding import pins_of
from mica.planner.desk import Desk
from mica.planner.domain.draining import GRACE_S, health_text, in_order, is_over, is_placed_again, is_sick
from mica.planner.domain.fleet import NodeState
from mica.planner.domain.ledgers import stands
from mica.planner.domain.moving import moved
from mica.planner.domain.placing import Placed
from mica.planner.followups import Followups

PATIENCE_NS: Final = 30_000_000_000
TRY_LOOKS: Final = 5
"""A slice that could be moved is asked to once in so many looks at its device: the command may wait, or be overtaken."""
MOVE_LOOKS: Final = 15
"""After so many it is given up there."""
REASON_MAX: Final = 256

log = logging.getLogger(__name__)


class Why(Struct, frozen=True):
    """Why a device is emptied. ``grace_s``: how long programs may take to end, where they may be ended to move their slice."""

    reason: str
    grace_s: float | None = None


class Drains:
    """Looks after sick devices."""

    def __init__(self, desk: Desk, followups: Followups) -> None:
        self._desk = desk
        self._followups = followups
        self._sick_since: dict[tuple[str, str], int] = {}
        self._moving: dict[tuple[str, str, int], int] = {}
        """How often a slice was asked to move off a device, by device, slice and generation."""

    async def review(self, node: NodeState) -> None:
        """Go on with every device of the node that is to be drained; slices with the least promised go first."""
        if node.inventory is None or not node.leased(self._desk.now_ns()):
            return
        pins = pins_of(self._desk, "")
        drain_at = pins.drain_at(node.name, node.pool)
        drained: dict[str, Device] = {}
        for device in node.inventory.devices:
            if not is_sick(device, drain_at):
                if pins.service(node.name, device.id) is Service.DRAINED:
                    drained[device.id] = device
                self._recovered(node, device, drained)
            elif self._waited(node, device):
                for entry in in_order(node.ledger.devices.get(device.id, {}).values()):
                    await self._drain(node, device, entry, Why(f"device {device.id}, {health_text(device)}"))
        await self._empty(node, drained)

    async def _empty(self, node: NodeState, devices: dict[str, Device]) -> None:
        """Take everything off devices that an operator has drained."""
        there = {
            (device_id, id_): entry for device_id in devices for id_, entry in node.ledger.devices.get(device_id, {}).items()
        }
        policy = self._desk.policies.nodes.get(node.name)
        grace_s = policy.drain_grace_s if policy is not None else None
        for entry in in_order({id_: each for (_, id_), each in there.items()}.values()):
            device_id = next(device_id for device_id, id_ in there if id_ == entry.id)
            wait_s = grace_s if grace_s is not None else GRACE_S[entry.tier]
            await self._drain(node, devices[device_id], entry, Why(f"device {device_id} of node {node.name} is drained", wait_s))

    def _recovered(self, node: NodeState, device: Device, drained: Collection[str]) -> None:
        self._sick_since.pop((node.name, device.id), None)
        if self._moving and device.id not in drained:
            self._moving = {key: looks for key, looks in self._moving.items() if key[0] != device.id}

    def _waited(self, node: NodeState, device: Device) -> bool:
        now = self._desk.clock.monotonic_ns()
        since = self._sick_since.setdefault((node.name, device.id), now)
        return is_over(device) or now - since >= PATIENCE_NS

    async def _drain(self, node: NodeState, device: Device, entry: LedgerEntry, why: Why) -> None:
        found = await self._desk.records.get(entry.id)
        record = found.value if found is not None else None
        if record is None or record.phase is not Phase.PLACED or not stands(node.ledger, record):
            return
        if entry.tier is not Tier.SPOT and await self._move(device, record, why):
            return
        log.warning("slice %s is taken off: %s", record.id, why.reason)
        if device.health is Health.FAILED and why.grace_s is None:
            await self._followups.give_up(node.name, record.id, why.reason)
        else:
            grace_s = why.grace_s if why.grace_s is not None else GRACE_S[entry.tier]
            again = is_placed_again(entry.tier, pins_of(self._desk, "").pool(node.pool))
            command = EvictSlice(id=record.id, grace_s=grace_s, reason=why.reason[:REASON_MAX], again=again)
            await self._desk.bus.publish(command, message_id=f"drain-evict-{device.id}-{record.id}-{record.generation}")

    async def _move(self, device: Device, record: SliceRecord, why: Why) -> bool:
        """Whether it is being moved: by a command as anybody's, for which every replica asks once."""
        desk, key = self._desk, (device.id, record.id, record.generation)
        pins = pins_of(desk, record.request.tenant)
        command = MoveSlice(id=record.id, reason=why.reason[:REASON_MAX], grace_s=why.grace_s)
        looks = self._moving.get(key, 0)
        if looks >= MOVE_LOOKS or not isinstance(moved(desk.fleet, record, command, pins), Placed):
            return False
        self._moving[key] = looks + 1
        name = f"drain-move-{device.id}-{record.id}-{record.generation}-{looks // TRY_LOOKS}"
        await desk.bus.publish(command, message_id=name)
        return True
