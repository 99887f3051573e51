"""Xe Link: which devices reach each other directly. Invariant: each pair once, with what all of its ports carry together."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from mica.events import Link, LinkKind
from mica.vendors._port import VendorError
from mica.vendors.intel import _structures as zes
from mica.vendors.intel._library import Sysman

MOST_BITS: Final = 1 << 50


def links(sysman: Sysman, handles: Mapping[str, int]) -> tuple[Link, ...]:
    """Between the devices, by id, that are there; one that does not answer has none."""
    owners: dict[int, str] = {}
    ends: list[tuple[str, int, int]] = []
    for device_id, handle in handles.items():
        with suppress(VendorError):
            for port in sysman.parts("zesDeviceEnumFabricPorts", handle):
                properties = sysman.read("zesFabricPortGetProperties", port, zes.PortProperties())
                owners[properties.portId.fabricId] = device_id
                state = sysman.read("zesFabricPortGetState", port, zes.PortState())
                if state.status in zes.PORT_IN_USE:
                    ends.append((device_id, state.remotePortId.fabricId, _bytes_per_s(state.txSpeed)))
    found: dict[tuple[str, str], list[int]] = {}
    for device_id, fabric, speed in ends:
        other = owners.get(fabric)
        if other is not None and device_id < other:
            found.setdefault((device_id, other), []).append(speed)
    return tuple(
        Link(a=a, b=b, kind=LinkKind.XE_LINK, lanes=len(speeds), bytes_per_s=sum(speeds) if all(speeds) else 0)
        for (a, b), speeds in found.items()
    )


def _bytes_per_s(speed: zes.PortSpeed) -> int:
    """0 where it is not known, or makes no sense."""
    bits = speed.bitRate * speed.width
    return bits // 8 if speed.bitRate > 0 and speed.width > 0 and bits < MOST_BITS else 0
