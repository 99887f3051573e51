"""What mica says of a chip: its live answers, held against the catalogue.

Invariant: what DCMI and npu-smi say goes before the catalogue, and where they disagree the device has a warning.
"""

import os
from typing import Final

from msgspec import Struct

from mica.events import Device, PartitionProfile, Runtime, Vendor
from mica.hardware import Catalogue, Model
from mica.vendors._port import VendorError
from mica.vendors.huawei import _smi, _vnpus
from mica.vendors.huawei._abi import Code
from mica.vendors.huawei._library import Chip, Dcmi, DcmiError, simulated
from mica.vendors.huawei._reading import MIB, ChipFacts, facts, identity
from mica.vendors.huawei._templates import WHOLE, Resources, Template, catalogue_templates, profiles_of, whole_profile

RUNTIMES: Final = (Runtime.CANN,)
SERVER: Final = "server"
"""The group of all chips: what splits one splits them all alike."""
MEMORY_TOLERANCE: Final = 20
"""A twentieth."""


class Known(Struct, frozen=True):
    """A chip, what it is called, its physical and logical number, and its description."""

    chip: Chip
    physical: int
    logic: int
    device: Device
    model: Model | None

    @property
    def profiles(self) -> dict[str, PartitionProfile]:
        """By template."""
        return {each.name: each for each in self.device.profiles}


class Describer:
    """Describes chips; what templates a kind of chip has is asked once."""

    def __init__(self, dcmi: Dcmi) -> None:
        self._dcmi = dcmi
        self._templates: dict[str, tuple[Template, ...]] = {}

    def describe(self, chip: Chip, index: int) -> Known:
        """The chip as it is now. Raises VendorError."""
        logic, physical = self._dcmi.physical(chip)
        found = facts(self._dcmi, chip)
        model = model_of(found)
        templates, why = self._templates_of(chip, found, model)
        totals, refusal = self._totals(chip)
        refusal = refusal or why or _vnpus.wrong_mode(self._dcmi, chip) or _privilege()
        vnpus = totals.vnpus if totals is not None else ()
        resources = Resources(found.cores, found.vram_bytes, _cpus(totals, model), _jpegs(totals, templates))
        profiles = profiles_of(resources, templates, model)
        if refusal:  # whole it can still be had, by itself
            profiles = () if vnpus else (whole_profile(resources, profiles[-1].size),)
        device = Device(
            id=identity(self._dcmi, chip),
            index=index,
            vendor=Vendor.HUAWEI,
            model=found.name,
            vram_bytes=found.vram_bytes,
            multiprocessors=found.cores,
            compute_slices=found.cores,
            partitioned=bool(vnpus),
            profiles=profiles,
            runtimes=RUNTIMES,
            pci_bus_id=found.pci_bus_id,
            numa_node=found.numa_node,
            simulated=simulated(),
            switchable=bool(profiles),
            hardware_refusal=refusal,
            budgets=resources.budgets,
            group=SERVER,
            warnings=_warnings(found, templates, model),
        )
        return Known(chip, physical, logic, device, model)

    def _totals(self, chip: Chip) -> tuple[_vnpus.Totals | None, str]:
        try:
            return _vnpus.totals(self._dcmi, chip), ""
        except DcmiError as error:
            if error.code not in _vnpus.WHY:
                raise
            return None, f"{_vnpus.WHY[Code(error.code)]} ({error})"

    def _templates_of(self, chip: Chip, found: ChipFacts, model: Model | None) -> tuple[tuple[Template, ...], str]:
        """By npu-smi, else the catalogue's; and why there are none."""
        if found.name in self._templates:
            return self._templates[found.name], ""
        try:
            self._templates[found.name] = _smi.templates(chip)
        except VendorError as error:
            if model is None or model.multiprocessors != found.cores:
                return (), f"its templates are not known: {error}"
            return catalogue_templates(model), "" if model.profiles else "this chip has no vNPUs"
        return self._templates[found.name], ""


def model_of(found: ChipFacts) -> Model | None:
    """The catalogue's model of that name, or else of that PCI id; several chips have one id."""
    catalogue = Catalogue.load()
    named = [each for each in catalogue.models.values() if each.vendor is Vendor.HUAWEI and each.name == found.name]
    return named[0] if named else catalogue.by_pci(Vendor.HUAWEI, found.pci_device_id, found.vram_bytes)


def _privilege() -> str:
    return "" if simulated() or os.geteuid() == 0 else "vNPUs take root to make"


def _cpus(totals: _vnpus.Totals | None, model: Model | None) -> int:
    """AI CPUs once it is split. A chip that is not has one less, so the catalogue goes first then."""
    live = totals.cpus if totals is not None else 0
    if totals is not None and totals.vnpus and live:
        return live
    return model.auxiliary if model is not None and model.auxiliary else live


def _jpegs(totals: _vnpus.Totals | None, templates: tuple[Template, ...]) -> int:
    return (totals.jpegs if totals is not None else 0) or max((each.jpegs for each in templates), default=0)


def _warnings(found: ChipFacts, templates: tuple[Template, ...], model: Model | None) -> tuple[str, ...]:
    if model is None:
        return ()
    told = []
    if abs(found.vram_bytes - model.vram_bytes) > model.vram_bytes // MEMORY_TOLERANCE:
        told.append(f"memory: {found.vram_bytes // MIB} MiB, catalogue {model.vram_bytes // MIB} MiB ({model.key})")
    if found.cores != model.multiprocessors:
        told.append(f"AI cores: {found.cores}, catalogue {model.multiprocessors} ({model.key})")
    live, listed = {each.name for each in templates}, {each.name for each in model.profiles} - {WHOLE}
    if templates and live != listed:
        told.append(f"templates: {', '.join(sorted(live))}, catalogue {', '.join(sorted(listed)) or 'none'} ({model.key})")
    return tuple(told)
