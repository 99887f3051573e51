"""What the catalogue has on a device, and where NVML contradicts it. Invariant: NVML's word goes; what is odd is only said."""

from typing import Final

from mica.events import Device, Vendor
from mica.hardware import Catalogue, Model

MEMORY_TOLERANCE: Final = 0.05


def known_model(pci_device_id: int, vram_bytes: int) -> Model | None:
    """The catalogue's model of a device; ``pci_device_id`` as NVML has it, over the vendor's."""
    return Catalogue.load().by_pci(Vendor.NVIDIA, pci_device_id >> 16, vram_bytes)


def contradictions(device: Device, model: Model) -> tuple[str, ...]:
    """What NVML says otherwise than the catalogue: what, observed, catalogue."""
    found = []
    if abs(device.vram_bytes - model.vram_bytes) > MEMORY_TOLERANCE * model.vram_bytes:
        found.append(f"memory: {device.vram_bytes >> 20} MiB, the catalogue's {model.key} has {model.vram_bytes >> 20} MiB")
    if device.multiprocessors not in (0, model.multiprocessors):
        found.append(f"multiprocessors: {device.multiprocessors}, the catalogue's {model.key} has {model.multiprocessors}")
    if device.partitioned:
        live = {(each.profile_id, each.name) for each in device.profiles}
        listed = {(each.profile_id, each.name) for each in model.profiles}
        if live != listed:
            found.append(
                f"profiles: {_names(live - listed)} here only, {_names(listed - live)} in the catalogue's {model.key} only"
            )
    return tuple(found)


def _names(profiles: set[tuple[int, str]]) -> str:
    return ", ".join(f"{name} ({id_})" for id_, name in sorted(profiles)) or "none"
