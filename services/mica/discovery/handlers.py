"""Brings KV and events in line with what a survey found.

Invariant: what was written but not told is told at the next survey; a crash in between costs at most a repetition.
"""

import logging

from mica.bus import Bus, Clock, Entry, StaleRevisionError
from mica.discovery.inventory import Identity, Survey, explain, take_stock
from mica.events import Health, Inventory, NodeHealthChanged, NodeInventoryChanged
from mica.observability import Tracer

log = logging.getLogger(__name__)


class Registrar:
    """Keeps ``inventory.<node>`` and tells of its changes."""

    def __init__(self, bus: Bus, identity: Identity, clock: Clock, tracer: Tracer) -> None:
        self._bus = bus
        self._identity = identity
        self._clock = clock
        self._tracer = tracer
        self._key = f"inventory.{identity.node}"
        self._known: Entry[Inventory] | None = None
        self._told_revision = 0
        self._told_health: dict[str, Health] = {}

    async def on_survey(self, survey: Survey) -> None:
        """Write the inventory if it changed, and tell what has not been told.

        Raises:
            BusError: come again with the next survey.
        """
        entry = await self._record(survey)
        if entry.revision != self._told_revision:
            await self._tell_inventory(entry)
        await self._tell_health(entry, survey)

    async def _record(self, survey: Survey) -> Entry[Inventory]:
        known = self._known or await self._bus.state.get(self._key, Inventory)
        inventory = take_stock(self._identity, known.value if known else None, survey)
        if known is None or known.value != inventory:
            try:
                if known is None:
                    revision = await self._bus.state.create(self._key, inventory)
                else:
                    revision = await self._bus.state.update(self._key, inventory, known.revision)
            except StaleRevisionError:
                self._known = None
                raise
            log.info("inventory written", extra={"node": inventory.node, "devices": len(inventory.devices)})
            known = Entry(self._key, inventory, revision)
        self._known = known
        return known

    async def _tell_inventory(self, entry: Entry[Inventory]) -> None:
        event = NodeInventoryChanged(
            at=self._clock.unix_ns(), node=entry.value.node, devices=tuple(device.id for device in entry.value.devices)
        )
        with self._tracer.span("inventory", node=entry.value.node) as span:
            await self._bus.publish(
                event, traceparent=span.traceparent, message_id=f"node.inventory-{entry.value.node}-{entry.revision}"
            )
        self._told_revision = entry.revision

    async def _tell_health(self, entry: Entry[Inventory], survey: Survey) -> None:
        """Tell each device whose health is not what was last told; a new device is expected to be healthy."""
        for device in entry.value.devices:
            if self._told_health.get(device.id, Health.HEALTHY) is device.health:
                continue
            message = explain(device, survey)
            log.log(logging.INFO if device.health is Health.HEALTHY else logging.ERROR,
                    "device %s is %s %s", device.id, device.health, message)  # fmt: skip
            event = NodeHealthChanged(
                at=self._clock.unix_ns(), node=entry.value.node, device_id=device.id, health=device.health, message=message
            )
            await self._bus.publish(event, message_id=f"node.health-{device.id}-{device.health}-{entry.revision}")
            self._told_health[device.id] = device.health
