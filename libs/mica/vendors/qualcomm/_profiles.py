"""The groups of NSPs that a device can be divided into. Invariant: sizes and memory come from what the device says it has.

The catalogue says which sizes make sense for a device with that many NSPs, and what such a device should have.
"""

from typing import Final

from mica.events import PartitionProfile, Vendor
from mica.hardware import Catalogue, Model
from mica.vendors.qualcomm._report import Report

MIB: Final = 1 << 20
STARTS_MAX: Final = 16
PCI_DEVICE_ID: Final = 0xA100
MEMORY_TOLERANCE: Final = 0.05
_SKUS: Final = {"PCIe": "AI100-Std", "PCIe Pro": "AI100-Pro", "PCIe Ultra": "AI100-Ultra"}


def model_of(report: Report, catalogue: Catalogue) -> Model | None:
    """The catalogue's model: by SKU, else by memory among those with as many NSPs."""
    named = catalogue.models.get(_SKUS.get(report.sku, ""))
    if named is not None:
        return named
    found = [
        each
        for each in catalogue.models.values()
        if each.vendor is Vendor.QUALCOMM and each.pci_device_id == PCI_DEVICE_ID and each.multiprocessors == report.nsp_total
    ]
    return min(found, key=lambda each: abs(each.usable_bytes - report.dram_total_mib * MIB), default=None)


def profiles_of(report: Report, model: Model | None) -> tuple[PartitionProfile, ...]:
    """What the device offers: the whole of it, and groups of the sizes that the catalogue has, or of powers of two."""
    total = report.nsp_total
    known = {each.size for each in model.profiles} if model is not None and model.multiprocessors == total else set()
    sizes = {size for size in known or {1 << bit for bit in range(total.bit_length())} if size < total} | {total}
    return tuple(
        PartitionProfile(
            name=profile_name(size),
            profile_id=size,
            size=size,
            starts=tuple(range(total - size + 1))[:STARTS_MAX],
            vram_bytes=memory_mib(report, size) * MIB,
            compute_slices=size,
            multiprocessors=size,
            max_instances=total // size,
        )
        for size in sorted(sizes)
    )


def profile_name(size: int) -> str:
    """What mica calls a group of so many NSPs."""
    return f"{size}nsp"


def memory_mib(report: Report, size: int) -> int:
    """The part of the device's memory that goes with so many of its NSPs."""
    return report.dram_total_mib * size // report.nsp_total


def warnings_of(report: Report, model: Model | None) -> tuple[str, ...]:
    """Where the device and the catalogue disagree."""
    if model is None:
        return (f"not in the catalogue: {report.nsp_total} NSPs, {report.dram_total_mib} MB, SKU {report.sku or 'not said'}",)
    found = []
    if report.nsp_total != model.multiprocessors:
        found.append(f"{report.nsp_total} NSPs, the catalogue has {model.multiprocessors} for {model.key}")
    expected = model.usable_bytes // MIB
    if abs(report.dram_total_mib - expected) > expected * MEMORY_TOLERANCE:
        found.append(f"memory {report.dram_total_mib} MB, the catalogue has {expected} MB for {model.key}")
    return tuple(found)
