"""Takes slices off devices that are as sick as their node's, or pool's, policy says (``drain_at``).

Invariant: a slice is moved, evicted, lost or placed elsewhere by the same paths as for any other reason, so that it ends in one
state, whoever looked at the device and however often. Spot slices go first. The others are moved, where they hold no memory and
fit elsewhere on their node; what is left is lost on a device that has failed, and evicted from one that still works.

A device that merely does not answer may do so again: its slices are left alone for ``PATIENCE_NS``. Nothing new is placed on it
meanwhile.
"""

import logging
from typing import Final

from mica.events import Device, EvictSlice, Health, LedgerEntry, MoveSlice, Phase, SliceRecord, Tier
from mica.planner.deciding import pins_of
from mica.planner.desk import Desk
from mica.planner.domain.draining import GRACE_S, health_text, in_order, is_over, is_sick
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


class Drains:
    """Looks after sick devices."""

    def __init__(self, desk: Desk, followups: Followups) -> None:
        self._desk = desk
        self._followups = followups
        self._sick_since: dict[tuple[str, str], int] = {}
        self._moving: dict[tuple[str, str, int], int] = {}
        """How often a slice was asked to move off a device, by device, slice and generation."""

    async def review(self, node: NodeState) -> None:
        """Go on with every device of the node that is to be drained."""
        if node.inventory is None or not node.leased(self._desk.now_ns()):
            return
        drain_at = pins_of(self._desk, "").drain_at(node.name, node.pool)
        for device in node.inventory.devices:
            if not is_sick(device, drain_at):
                self._recovered(node, device)
            elif self._waited(node, device):
                for entry in in_order(node.ledger.devices.get(device.id, {}).values()):
                    await self._drain(node, device, entry)

    def _recovered(self, node: NodeState, device: Device) -> None:
        if self._sick_since.pop((node.name, device.id), None) is not None:
            self._moving = {key: looks for key, looks in self._moving.items() if key[0] != device.id}

    def _waited(self, node: NodeState, device: Device) -> bool:
        now = self._desk.clock.monotonic_ns()
        since = self._sick_since.setdefault((node.name, device.id), now)
        return is_over(device) or now - since >= PATIENCE_NS

    async def _drain(self, node: NodeState, device: Device, entry: LedgerEntry) -> None:
        found = await self._desk.records.get(entry.id)
        record = found.value if found is not None else None
        if record is None or record.phase is not Phase.PLACED or not stands(node.ledger, record):
            return
        reason = f"device {device.id}, {health_text(device)}"
        if entry.tier is not Tier.SPOT and await self._move(device, record, reason):
            return
        log.warning("slice %s is taken off: %s", record.id, reason)
        if device.health is Health.FAILED:
            await self._followups.give_up(node.name, record.id, reason)
        else:
            command = EvictSlice(id=record.id, grace_s=GRACE_S[entry.tier], reason=reason[:REASON_MAX])
            await self._desk.bus.publish(command, message_id=f"drain-evict-{device.id}-{record.id}-{record.generation}")

    async def _move(self, device: Device, record: SliceRecord, reason: str) -> bool:
        """Whether it is being moved: by a command as anybody's, for which every replica asks once."""
        desk, key = self._desk, (device.id, record.id, record.generation)
        pins = pins_of(desk, record.request.tenant)
        command = MoveSlice(id=record.id, reason=reason[:REASON_MAX])
        looks = self._moving.get(key, 0)
        if looks >= MOVE_LOOKS or not isinstance(moved(desk.fleet, record, command, pins), Placed):
            return False
        self._moving[key] = looks + 1
        name = f"drain-move-{device.id}-{record.id}-{record.generation}-{looks // TRY_LOOKS}"
        await desk.bus.publish(command, message_id=name)
        return True
