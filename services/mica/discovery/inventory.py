"""What a node's inventory is, given what was read and what was known. Pure.

Invariant: within one boot a device that was listed stays listed; when it cannot be read it is ``failed``, not forgotten.
"""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from mica.events import Device, Health, Inventory, Site
from mica.site import InstanceTypes, disagreement


class Identity(Struct, frozen=True, kw_only=True):
    """Which node this is, in which pool, since which boot."""

    node: str
    pool: str
    boot_id: str


class Survey(Struct, frozen=True, kw_only=True):
    """One reading of all libraries. ``failures`` maps a device to its error, ``silent`` a library's name to its error.

    A vendor's own library has the vendor's name. ``site`` is what the node is, as far as that is known.
    """

    devices: tuple[Device, ...] = ()
    failures: Mapping[str, str] = {}
    silent: Mapping[str, str] = {}
    site: Site = Site()


def take_stock(identity: Identity, known: Inventory | None, survey: Survey) -> Inventory:
    """The inventory after ``survey``. What an earlier boot knew is gone with it."""
    listed = {device.id: _with_health(device, survey) for device in survey.devices}
    if known is not None and known.boot_id == identity.boot_id:
        for device in known.devices:
            listed.setdefault(device.id, msgspec.structs.replace(device, health=Health.FAILED))
    devices = sorted(listed.values(), key=lambda device: (device.vendor, device.index, device.id))
    return Inventory(
        node=identity.node,
        pool=identity.pool,
        boot_id=identity.boot_id,
        devices=tuple(devices),
        site=survey.site,
        warnings=_warnings(survey.site, devices),
    )


def _warnings(site: Site, devices: Sequence[Device]) -> tuple[str, ...]:
    """What is odd about the node as a whole."""
    wrong = disagreement(site, devices, InstanceTypes.load()) if site.instance_type else ""
    return (wrong,) if wrong else ()


def explain(device: Device, survey: Survey) -> str:
    """Why ``device`` has failed, in the library's words; empty for a device in health."""
    if device.health is Health.HEALTHY:
        return ""
    others = "".join(f"; {name}: {error}" for name, error in survey.silent.items())
    missing = f"no library lists the device any more{others}"
    return survey.failures.get(device.id) or survey.silent.get(device.vendor) or missing


def _with_health(device: Device, survey: Survey) -> Device:
    health = Health.FAILED if device.id in survey.failures else Health.HEALTHY
    return msgspec.structs.replace(device, health=health)
