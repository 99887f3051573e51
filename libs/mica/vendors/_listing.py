"""Several libraries list one device. Pure. Invariant: a device is listed once, by the first library that lists it.

A vendor's own library comes first and says most. What comes after it only adds its runtimes.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from mica.events import Device, Runtime


def one_each(listings: Iterable[tuple[Device, ...]]) -> tuple[Device, ...]:
    """The devices of several libraries, each once.

    The same device is known by its id, or by its PCI address in another library's list: one library may well list several
    devices at one address, as tiles or partitions.
    """
    found: dict[str, Device] = {}
    for listing in listings:
        by_place = {_place(device): device.id for device in found.values() if _place(device) is not None}
        for device in listing:
            first = found.get(device.id) or found.get(by_place.get(_place(device), ""))
            found[first.id if first else device.id] = _joined(first, device) if first else device
    return tuple(found.values())


def _joined(first: Device, other: Device) -> Device:
    runtimes = tuple(dict.fromkeys((*first.runtimes, *other.runtimes)))
    gained = Runtime.OPENCL in other.runtimes and Runtime.OPENCL not in first.runtimes
    return replace(first, runtimes=runtimes, opencl_id=other.id if gained and other.id != first.id else first.opencl_id)


def _place(device: Device) -> tuple[bool, int, str] | None:
    """Where it is plugged in, on which machine: libraries write the domain with four or eight digits."""
    domain, _, rest = device.pci_bus_id.lower().partition(":")
    try:
        return (device.simulated, int(domain, 16), rest) if rest else None
    except ValueError:
        return None
