"""What is to be told about the devices' health. Pure. Invariant: a change is one event, whatever it is that changed."""

from collections.abc import Iterable

from msgspec import Struct

from mica.discovery.health import Key, severity_of
from mica.events import Device, Health, Inventory, NodeHealthChanged, Severity, Trouble
from mica.vendors import Finding


class Told(Struct, frozen=True):
    """What was last told of a device: its health, and which troubles it has."""

    health: Health
    troubles: frozenset[tuple[str, int, bool, Severity]] = frozenset()


def told_of(device: Device) -> Told:
    """What has been told once all news of the device has."""
    return Told(device.health, frozenset(_identity(each) for each in device.troubles))


def news(node: str, device: Device, told: Told, at: int) -> list[NodeHealthChanged]:
    """What to tell: every trouble that is new, or else the health if that is another."""
    fresh = [each for each in device.troubles if _identity(each) not in told.troubles]
    if fresh:
        return [
            NodeHealthChanged(
                at=at, node=node, device_id=device.id, health=device.health, message=trouble.message, severity=trouble.severity,
                kind=trouble.kind, code=trouble.code,
            )
            for trouble in fresh
        ]  # fmt: skip
    if device.health is told.health:
        return []
    severity = severity_of(device)
    return [
        NodeHealthChanged(at=at, node=node, device_id=device.id, health=device.health, message=device.message, severity=severity)
    ]


def hearsay(inventory: Inventory, happened: Iterable[Finding], at: int) -> dict[Key, NodeHealthChanged]:
    """What has happened on the inventory's devices and leaves their health as it is; what is fatal is among their troubles."""
    health = {device.id: device.health for device in inventory.devices}
    return {
        (finding.device_id, finding.kind, finding.code): NodeHealthChanged(
            at=at, node=inventory.node, device_id=finding.device_id, health=health[finding.device_id], message=finding.message,
            severity=finding.severity, kind=finding.kind, code=finding.code,
        )
        for finding in happened
        if finding.device_id in health and finding.severity is not Severity.FATAL
    }  # fmt: skip


def _identity(trouble: Trouble) -> tuple[str, int, bool, Severity]:
    return trouble.kind, trouble.code, trouble.lasting, trouble.severity
