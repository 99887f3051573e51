"""What a node's inventory is, given what was read and what was known. Pure.

Invariant: within one boot a device that was listed stays listed; when it cannot be read it is ``failed`` as it was last
described, not forgotten.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from mica.discovery.health import BUS, SILENT, UNREMARKABLE, Circumstances, Failure, judge
from mica.discovery.host import Host
from mica.events import Device, Inventory, Link, Site
from mica.site import InstanceTypes, disagreement
from mica.vendors import Finding


class Identity(Struct, frozen=True, kw_only=True):
    """Which node this is, in which pool, since which boot."""

    node: str
    pool: str
    boot_id: str


class Survey(Struct, frozen=True, kw_only=True):
    """One reading of all libraries. A vendor's own library has the vendor's name.

    ``failures`` maps a device to why it could not be read, ``silent`` a library's name to its error, ``nameless`` a library's
    to the errors of devices that never said who they are. ``findings`` are in the order in which they were found. ``links_lack``:
    some library did not tell all of its links. ``warnings`` are about the node; ``site`` is what it is, as far as that is known,
    ``host`` what it has beside devices.
    """

    devices: tuple[Device, ...] = ()
    failures: Mapping[str, Failure] = {}
    silent: Mapping[str, str] = {}
    nameless: Mapping[str, tuple[str, ...]] = {}
    findings: tuple[Finding, ...] = ()
    links: tuple[Link, ...] = ()
    links_lack: bool = False
    warnings: tuple[str, ...] = ()
    site: Site = Site()
    host: Host = Host()


def take_stock(identity: Identity, known: Inventory | None, survey: Survey, now: Circumstances = UNREMARKABLE) -> Inventory:
    """The inventory after ``survey``. What an earlier boot knew is gone with it."""
    same_boot = known if known is not None and known.boot_id == identity.boot_id else None
    before = {device.id: device for device in same_boot.devices} if same_boot is not None else {}
    listed = {device.id: device for device in survey.devices}
    devices = [
        judge(
            device,
            before.get(device.id),
            survey.failures.get(device.id) if device.id in listed else _missing(device, survey),
            [finding for finding in survey.findings if finding.device_id == device.id],
            now,
        )
        for device in (before | listed).values()
    ]
    links = set(survey.links)
    if survey.links_lack and same_boot is not None:
        links |= set(same_boot.links)
    return Inventory(
        node=identity.node,
        pool=identity.pool,
        boot_id=identity.boot_id,
        devices=tuple(sorted(devices, key=lambda device: (device.vendor, device.index, device.id))),
        links=tuple(sorted(links, key=lambda link: (link.a, link.b, link.kind))),
        site=survey.site,
        cpu_milli=survey.host.cpu_milli,
        host_memory_bytes=survey.host.memory_bytes,
        warnings=(*survey.warnings, *_disagreements(survey.site, devices)),
    )


def _disagreements(site: Site, devices: Sequence[Device]) -> tuple[str, ...]:
    """What the node should have and has not."""
    wrong = disagreement(site, devices, InstanceTypes.load()) if site.instance_type else ""
    return (wrong,) if wrong else ()


def _missing(device: Device, survey: Survey) -> Failure:
    """Why a device that was listed is not, in the libraries' words."""
    if device.vendor in survey.silent:
        return Failure(survey.silent[device.vendor], SILENT)
    nameless = survey.nameless.get(device.vendor, ())
    others = [*nameless, *(f"{name}: {error}" for name, error in survey.silent.items())]
    return Failure("; ".join(["no library lists the device any more", *others]), SILENT if nameless else BUS)
