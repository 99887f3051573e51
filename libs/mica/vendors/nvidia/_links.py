"""NVLink: how the devices reach each other without the host. Invariant: a pair of devices comes up once, in order of index.

A link leads to another device, or into an NVSwitch; whoever has links into switches reaches everybody who has, over as many
as the one of the two with fewer. Sources: nvml.h, nvmlDeviceGetNvLinkRemoteDeviceType; NVLink's generations.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, Final

from msgspec import Struct, field

from mica.events import Link, LinkKind
from mica.vendors.nvidia._library import optional, text

BYTES_PER_S: Final = {
    1: 20_000_000_000,
    2: 25_000_000_000,
    3: 25_000_000_000,
    4: 25_000_000_000,
    5: 14_062_500_000,
    6: 25_000_000_000,
    7: 50_000_000_000,
}
"""Of one link each way, by NVML_NVLINK_VERSION_* (1.0, 2.0, 2.2, 3.0, 3.1, 4.0, 5.0); 0 for those that come later."""


class Ports(Struct, frozen=True, kw_only=True):
    """One device's links that are up. ``direct``: how many lead to the device at that PCI address."""

    device_id: str
    address: str
    direct: Counter[str] = field(default_factory=Counter)
    switched: int = 0
    bytes_per_s: int = 0


def read_ports(nvml: Any, handle: Any) -> Ports:
    """Ask NVML about every link of a device. Raises NVMLError."""
    direct: Counter[str] = Counter()
    switched = 0
    version = 0
    for number in _up(nvml, handle):
        version = version or optional(nvml, "nvmlDeviceGetNvLinkVersion", handle, number) or 0
        remote = optional(nvml, "nvmlDeviceGetNvLinkRemoteDeviceType", handle, number)
        if remote == nvml.NVML_NVLINK_DEVICE_TYPE_SWITCH:
            switched += 1
            continue
        pci = optional(nvml, "nvmlDeviceGetNvLinkRemotePciInfo", handle, number)
        if pci is not None:
            direct[_address(pci)] += 1
    return Ports(
        device_id=nvml.nvmlDeviceGetUUID(handle),
        address=_address(nvml.nvmlDeviceGetPciInfo(handle)),
        direct=direct,
        switched=switched,
        bytes_per_s=BYTES_PER_S.get(version, 0),
    )


def _up(nvml: Any, handle: Any) -> Iterator[int]:
    for number in range(nvml.NVML_NVLINK_MAX_LINKS):
        state = optional(nvml, "nvmlDeviceGetNvLinkState", handle, number)
        if state is None:
            return
        if state == nvml.NVML_FEATURE_ENABLED:
            yield number


def join(devices: Sequence[Ports]) -> tuple[Link, ...]:
    """The pairs that reach each other."""
    found = []
    for a, b in combinations(devices, 2):
        lanes, kind = a.direct[b.address], LinkKind.NVLINK
        if not lanes:
            lanes, kind = min(a.switched, b.switched), LinkKind.NVSWITCH
        if lanes:
            each_way = lanes * min(a.bytes_per_s, b.bytes_per_s)
            found.append(Link(a=a.device_id, b=b.device_id, kind=kind, lanes=lanes, bytes_per_s=each_way))
    return tuple(found)


def _address(pci: Any) -> str:
    return text(pci.busId).lower()
