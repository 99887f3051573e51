"""Brings KV and events in line with what a survey found.

Invariant: what was written but not told is told at the next survey; a crash in between costs at most a repetition. What a
library says only once is kept until it is written; only a crash between the two loses it, with the library's own queue.
"""

import logging

from msgspec.structs import replace

from mica.bus import Bus, Clock, Entry, StaleRevisionError
from mica.discovery.health import Circumstances, Key, count_unsaid
from mica.discovery.inventory import Identity, Survey, take_stock
from mica.discovery.news import Told, hearsay, news, told_of
from mica.events import Clearances, EventError, Health, Inventory, NodeHealthChanged, NodeInventoryChanged, Severity
from mica.observability import Tracer
from mica.vendors import Finding

log = logging.getLogger(__name__)

LEVEL = {Severity.INFO: logging.INFO, Severity.WARNING: logging.WARNING, Severity.FATAL: logging.ERROR}


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
        self._told: dict[str, Told] = {}
        self._happened: dict[Key, Finding] = {}
        """What is over as it is said, from when it was read until it is written."""
        self._hearsay: dict[Key, NodeHealthChanged] = {}
        """What is told and not written, until it is told."""
        self._unsaid: dict[Key, int] = {}
        self._clearances = Clearances()

    async def on_survey(self, survey: Survey) -> None:
        """Write the inventory if it changed, and tell what has not been told.

        Raises:
            BusError: come again with the next survey.
        """
        for finding in survey.findings:
            if not finding.lasting:
                key = (finding.device_id, finding.kind, finding.code)
                self._happened.pop(key, None)
                self._happened[key] = finding
        lasting = tuple(finding for finding in survey.findings if finding.lasting)
        entry = await self._record(survey, lasting)
        if entry.revision != self._told_revision:
            await self._tell_inventory(entry)
        await self._tell_health(entry)

    async def _record(self, survey: Survey, lasting: tuple[Finding, ...]) -> Entry[Inventory]:
        known = self._known or await self._recall()
        at = self._clock.unix_ns()
        if known is not None:
            answered = {device.id for device in survey.devices} - survey.failures.keys()
            self._unsaid = count_unsaid(known.value.devices, answered, lasting, self._unsaid)
        now = Circumstances(at=at, unsaid=self._unsaid, cleared=await self._cleared())
        whole = replace(survey, findings=(*self._happened.values(), *lasting))
        inventory = take_stock(self._identity, known.value if known else None, whole, now)
        if known is None or known.value != inventory:
            known = await self._write(inventory, known)
        self._known = known
        self._hearsay |= hearsay(inventory, self._happened.values(), at)
        for finding in self._happened.values():
            if finding.device_id not in {device.id for device in inventory.devices}:
                log.warning(
                    "%s %d on %s, which is no device of the inventory: %s",
                    finding.kind,
                    finding.code,
                    finding.device_id,
                    finding.message,
                )
        self._happened.clear()
        return known

    async def _write(self, inventory: Inventory, known: Entry[Inventory] | None) -> Entry[Inventory]:
        try:
            if known is None:
                revision = await self._bus.state.create(self._key, inventory)
            else:
                revision = await self._bus.state.update(self._key, inventory, known.revision)
        except StaleRevisionError:
            self._known = None
            raise
        log.info("inventory written", extra={"node": inventory.node, "devices": len(inventory.devices)})
        return Entry(self._key, inventory, revision)

    async def _recall(self) -> Entry[Inventory] | None:
        """What was written before this process; that a device was not in health was told then, why is told again."""
        entry = await self._bus.state.get(self._key, Inventory)
        for device in entry.value.devices if entry is not None else ():
            self._told.setdefault(device.id, Told(device.health))
        return entry

    async def _cleared(self) -> dict[str, int]:
        """What operators have cleared; a document that can't be read leaves in force what was."""
        try:
            entry = await self._bus.policy.get(f"health.{self._identity.node}", Clearances)
        except EventError as error:
            log.warning("what operators have cleared can not be read: %s", error)
        else:
            self._clearances = entry.value if entry is not None else Clearances()
        return self._clearances.cleared

    async def _tell_inventory(self, entry: Entry[Inventory]) -> None:
        event = NodeInventoryChanged(
            at=self._clock.unix_ns(), node=entry.value.node, devices=tuple(device.id for device in entry.value.devices)
        )
        with self._tracer.span("inventory", node=entry.value.node) as span:
            await self._bus.publish(
                event, traceparent=span.traceparent, message_id=f"node.inventory-{entry.value.node}-{entry.revision}"
            )
        self._told_revision = entry.revision

    async def _tell_health(self, entry: Entry[Inventory]) -> None:
        """Tell what is not what was last told of each device; a new device is expected to be healthy."""
        for key, event in list(self._hearsay.items()):
            await self._say(event, f"at-{event.at}")
            del self._hearsay[key]
        for device in entry.value.devices:
            told = self._told.get(device.id, Told(Health.HEALTHY))
            for event in news(entry.value.node, device, told, self._clock.unix_ns()):
                await self._say(event, str(entry.revision))
            self._told[device.id] = told_of(device)

    async def _say(self, event: NodeHealthChanged, once: str) -> None:
        log.log(LEVEL[event.severity], "device %s is %s %s", event.device_id, event.health, event.message)
        name = f"node.health-{event.device_id}-{event.health}-{event.kind}-{event.code}-{once}"
        await self._bus.publish(event, message_id=name)
