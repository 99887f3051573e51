"""How a process reaches a device, a tile or a virtual function. Pure.

``ZE_AFFINITY_MASK`` counts devices, so that their order is asked for by PCI address, and as whole devices with tiles in them;
a container that is given some of the nodes only counts those. Sources: Level Zero specification, "Environment Variables"; the
names of CDI devices are those of Intel's resource driver for Kubernetes.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from mica.vendors._port import Access

ORDER: Final = {"ZE_FLAT_DEVICE_HIERARCHY": "COMPOSITE", "ZE_ENABLE_PCI_ID_DEVICE_ORDER": "1"}
CDI_KIND: Final = "intel.com/gpu"


def access_to(address: str, addresses: Iterable[str], nodes: Sequence[str], *, pci_device_id: int, tile: int | None) -> Access:
    """By its place among ``addresses``, those of all devices that Level Zero shows on this machine."""
    place = sorted(addresses, key=_sorting).index(address)
    word = str(place) if tile is None else f"{place}.{tile}"
    kinds = {"card": "card", "renderD": "render"}
    mounts = tuple(
        f"/dev/dri/by-path/pci-{address}-{kind}"
        for prefix, kind in kinds.items()
        if any(node.rsplit("/", 1)[-1].startswith(prefix) for node in nodes)
    )
    return Access(
        visible={"ZE_AFFINITY_MASK": word},
        env=ORDER,
        devices=tuple(nodes),
        mounts=mounts,
        cdi=f"{CDI_KIND}={address.replace(':', '-').replace('.', '-')}-{pci_device_id:#06x}" if pci_device_id else "",
    )


def _sorting(address: str) -> tuple[int, ...]:
    domain, bus, place = address.split(":")
    device, _, function = place.partition(".")
    return int(domain, 16), int(bus, 16), int(device, 16), int(function, 16)
