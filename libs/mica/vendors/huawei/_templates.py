"""Templates of vNPUs as profiles. Pure. Invariant: a profile promises no more memory than a vNPU of it has.

A chip gives a vNPU as much of its memory as of its cores, which is less than a 310P's templates say (a ``vir01`` of 3 GB has
2690 MB); so the smaller of the two counts.
"""

from collections.abc import Sequence
from math import gcd
from typing import Final

from msgspec import Struct

from mica.events import PartitionProfile
from mica.hardware import JPEG_DECODERS, Model

AI_CPUS: Final = "ai_cpus"
WHOLE: Final = "whole"
"""The profile, and the layout, of a chip without vNPUs."""
WHOLE_ID: Final = 0
NEW_ID: Final = 1000
"""From here on are the ids of templates that the catalogue does not have."""
STARTS_MAX: Final = 16
_GIB: Final = 1 << 30
_MIB: Final = 1 << 20


class Template(Struct, frozen=True):
    """What a vNPU of it gets. ``memory_gib`` 0: not said."""

    name: str
    cores: int
    memory_gib: int
    cpus: int = 0
    jpegs: int = 0


class Resources(Struct, frozen=True):
    """What a chip has; 0: not known."""

    cores: int
    vram_bytes: int
    cpus: int = 0
    jpegs: int = 0

    @property
    def kind(self) -> str:
        """What chips of a server that are split have in common: cores, and memory as it is sold, in steps of 8 GiB."""
        return f"{self.cores}c-{-(-self.vram_bytes // (8 * _GIB)) * 8}g"

    @property
    def budgets(self) -> dict[str, int]:
        """What vNPUs share beside slots and cores."""
        return {name: amount for name, amount in ((AI_CPUS, self.cpus), (JPEG_DECODERS, self.jpegs)) if amount}


def profiles_of(chip: Resources, templates: Sequence[Template], model: Model | None) -> tuple[PartitionProfile, ...]:
    """The profiles that a chip offers: its templates, and itself."""
    ids = {each.name: each.profile_id for each in model.profiles} if model is not None else {}
    unit = _unit(chip, templates, model)
    if not unit:
        return (whole_profile(chip, 1),)
    found = [_profile(chip, each, unit, ids.get(each.name, NEW_ID + index)) for index, each in enumerate(templates)]
    return (*(each for each in found if each.max_instances), whole_profile(chip, chip.cores // unit))


def whole_profile(chip: Resources, slots: int) -> PartitionProfile:
    """The chip without vNPUs, over all its slots and with all it has."""
    return PartitionProfile(
        name=WHOLE,
        profile_id=WHOLE_ID,
        size=slots,
        starts=(0,),
        vram_bytes=chip.vram_bytes,
        compute_slices=chip.cores,
        multiprocessors=chip.cores,
        max_instances=1,
        layout=WHOLE,
        needs=chip.budgets,
    )


def catalogue_templates(model: Model) -> tuple[Template, ...]:
    """The templates that a model is known to have."""
    return tuple(
        Template(each.name, each.compute_slices, 0, each.auxiliary, each.jpegs) for each in model.profiles if each.name != WHOLE
    )


def _unit(chip: Resources, templates: Sequence[Template], model: Model | None) -> int:
    """Cores of a slot: the catalogue's, so that slots stay where they are when a driver drops a template, or what divides all."""
    cores = [each.cores for each in templates if 0 < each.cores <= chip.cores]
    if not cores:
        return 0
    known = model.compute_slices // model.memory_slots if model is not None and model.memory_slots else 0
    if known and model is not None and model.multiprocessors == chip.cores and not any(each % known for each in cores):
        return known
    return gcd(*cores)


def _profile(chip: Resources, template: Template, unit: int, profile_id: int) -> PartitionProfile:
    size = max(1, template.cores // unit)
    slots = chip.cores // unit
    starts = tuple(range(0, slots - size + 1, size))[:STARTS_MAX]
    share = chip.vram_bytes * template.cores // max(1, chip.cores)
    vram = min(share, template.memory_gib * _GIB) if template.memory_gib else share
    needs = {AI_CPUS: template.cpus, JPEG_DECODERS: template.jpegs}
    room = [len(starts), chip.cores // max(1, template.cores)]
    room += [chip.budgets[name] // need for name, need in needs.items() if need and name in chip.budgets]
    return PartitionProfile(
        name=template.name,
        profile_id=profile_id,
        size=size,
        starts=starts,
        vram_bytes=vram // _MIB * _MIB,
        compute_slices=template.cores,
        multiprocessors=template.cores,
        max_instances=min(room) if 0 < template.cores <= chip.cores and vram >= _MIB else 0,
        shared=chip.kind,
        needs={name: need for name, need in needs.items() if need and name in chip.budgets},
    )
