"""The catalogue of accelerator models, read from the vendors' files in ``catalogue/``.

Invariant: every model is complete and sound. What it shares with others (limits of its compute capability, its partition
grid) is resolved when the catalogue is loaded, so nobody looks anything up twice.
"""

from functools import cache
from importlib.resources import files
from threading import Lock
from typing import Self

import msgspec
from msgspec import Struct

from mica.events import LinkKind, PartitionProfile, Vendor

MIB = 1 << 20
PROFILES_MAX = 24
STARTS_MAX = 16
"""What the simulated drivers have room for (native/sim/engine/state.h)."""
_MEDIA_SUFFIX = "+me"
_LOADING = Lock()
"""msgspec works out a type's fields when it first decodes one, and two threads that do so at once may crash it."""
JPEG_DECODERS = "jpeg_decoders"
"""The budget of partitions that share a device's media engines. MIG's come with the slices."""


class CatalogueError(ValueError):
    """The catalogue does not know a model, or contradicts itself."""


class HardwareProfile(Struct, frozen=True, kw_only=True):
    """One kind of hardware partition of a model, such as a GPU instance.

    ``index`` is NVML's profile number, ``profile_id`` the id that nvidia-smi shows and instances are created by; elsewhere
    both only tell the model's profiles apart. ``layout``, ``shared``: as in ``PartitionProfile``. ``auxiliary``: what it
    takes of the model's.
    """

    name: str
    index: int
    profile_id: int
    size: int
    compute_slices: int
    memory_bytes: int
    multiprocessors: int
    max_instances: int
    starts: tuple[int, ...]
    layout: str = ""
    shared: str = ""
    auxiliary: int = 0
    copy_engines: int = 0
    decoders: int = 0
    jpegs: int = 0
    ofas: int = 0

    @property
    def media_extensions(self) -> bool:
        """Whether it has the media engines, of which a device has one set to give away."""
        return _MEDIA_SUFFIX in self.name


class Capability(Struct, frozen=True, forbid_unknown_fields=True):
    """What a compute capability fixes. Per multiprocessor, but for the last, which is per block."""

    multiprocessor_threads_max: int
    multiprocessor_blocks_max: int
    multiprocessor_registers: int
    multiprocessor_shared_bytes: int
    block_shared_optin_bytes: int


NO_CAPABILITY = Capability(2048, 32, 65536, 65536, 65536)
"""Stands in for the limits of a device that has no CUDA."""


class Model(Struct, frozen=True, kw_only=True):
    """One accelerator model. ``vram_bytes`` is all there is, ``reserve_bytes`` of it is the driver's.

    ``multiprocessors`` are the vendor's compute units (SM, CU, Xe core, AI core, NSP). ``switched``: partitions are made in a
    mode of their own, which is switched (MIG). ``auxiliary`` counts what partitions share beside slots and compute slices,
    called ``auxiliary_name``. ``links`` of ``link_kind`` lead to other devices, each with ``link_bytes_per_s`` each way. Cards
    that differ from it in their name only have ``pci_device_ids``.
    """

    key: str
    vendor: Vendor
    name: str
    capability: tuple[int, int] | None
    limits: Capability
    pci_device_id: int
    pci_subsystem_id: int
    vram_bytes: int
    reserve_bytes: int
    bar1_bytes: int
    multiprocessors: int
    clock_khz: int
    memory_clock_khz: int
    memory_bus_bits: int
    memory_bytes_per_s: int
    l2_bytes: int
    power_limit_mw: int
    links: int
    link_kind: LinkKind | None
    link_bytes_per_s: int
    pci_device_ids: tuple[int, ...] = ()
    memory_slots: int = 0
    compute_slices: int = 0
    switched: bool = False
    auxiliary: int = 0
    auxiliary_name: str = ""
    profiles: tuple[HardwareProfile, ...] = ()

    @property
    def usable_bytes(self) -> int:
        """Memory that programs can have in all."""
        return self.vram_bytes - self.reserve_bytes

    @property
    def mig(self) -> bool:
        """Whether the model can be split into GPU instances."""
        return self.switched

    @property
    def layouts(self) -> tuple[str, ...]:
        """The layouts that it can have, in the catalogue's order."""
        return tuple(dict.fromkeys(profile.layout for profile in self.profiles if profile.layout))

    @property
    def budgets(self) -> dict[str, int]:
        """What its partitions share beside slots and compute slices, as in ``Device.budgets``."""
        media = {"media_extensions": 1} if any(profile.media_extensions for profile in self.profiles) else {}
        jpegs = 0 if self.switched else max((profile.jpegs for profile in self.profiles), default=0)
        return (
            media | ({self.auxiliary_name: self.auxiliary} if self.auxiliary else {}) | ({JPEG_DECODERS: jpegs} if jpegs else {})
        )

    def profile(self, name: str) -> HardwareProfile:
        """Return the profile called ``name``. Raises CatalogueError."""
        for profile in self.profiles:
            if profile.name == name:
                return profile
        known = ", ".join(p.name for p in self.profiles) or "none, it has no partitions"
        raise CatalogueError(f"{self.key}: no profile {name!r}; allowed: {known}")

    def partition_profiles(self) -> tuple[PartitionProfile, ...]:
        """Its profiles as an inventory has them, for when the library does not say (yet)."""
        return tuple(
            PartitionProfile(
                name=each.name,
                profile_id=each.profile_id,
                size=each.size,
                starts=each.starts,
                vram_bytes=each.memory_bytes,
                compute_slices=each.compute_slices,
                multiprocessors=each.multiprocessors,
                max_instances=each.max_instances,
                layout=each.layout,
                shared=each.shared,
                needs=({"media_extensions": 1} if each.media_extensions else {})
                | ({self.auxiliary_name: each.auxiliary} if each.auxiliary else {})
                | ({JPEG_DECODERS: each.jpegs} if each.jpegs and not self.switched else {}),
            )
            for each in self.profiles
        )


class _GridProfile(Struct, frozen=True, forbid_unknown_fields=True):
    kind: str
    index: int
    id: int
    size: int
    compute_slices: int
    max_instances: int
    starts: tuple[int, ...]
    engines: tuple[int, int, int, int] = (0, 0, 0, 0)
    layout: str = ""
    shared: str = ""
    auxiliary: int = 0


class _Grid(Struct, frozen=True, forbid_unknown_fields=True):
    memory_slots: int
    compute_slices: int
    profiles: tuple[_GridProfile, ...]
    mode: bool = False
    auxiliary: int = 0
    auxiliary_name: str = ""


class _Instance(Struct, frozen=True, forbid_unknown_fields=True):
    kind: str
    name: str
    memory_mib: int
    multiprocessors: int


class _Entry(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    pci_device_id: int
    vram_mib: int
    multiprocessors: int
    clock_mhz: int
    memory_gb_per_s: int
    power_limit_w: int
    capability: str = ""
    pci_device_ids: tuple[int, ...] = ()
    pci_subsystem_id: int = 0
    reserve_mib: int = 0
    bar1_mib: int = 0
    memory_clock_mhz: int = 0
    memory_bus_bits: int = 0
    l2_mib: int = 0
    links: int = 0
    link_kind: LinkKind | None = None
    link_gb_per_s: float = 0.0
    grid: str = ""
    instances: tuple[_Instance, ...] = ()


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    vendor: Vendor
    models: dict[str, _Entry]
    capabilities: dict[str, Capability] = {}
    grids: dict[str, _Grid] = {}


class Catalogue(Struct, frozen=True):
    """All models, by the key that node files use."""

    models: dict[str, Model]

    @classmethod
    def load(cls) -> Self:
        """Return the shipped catalogue, read once, whichever thread asks first. Raises CatalogueError."""
        with _LOADING:
            return cls._load()

    @classmethod
    @cache
    def _load(cls) -> Self:
        models: dict[str, Model] = {}
        for path in sorted(files("mica.hardware").joinpath("catalogue").iterdir(), key=lambda each: each.name):
            if path.name.endswith(".toml"):
                models |= cls.parse(path.read_bytes(), where=path.name).models
        return cls(models)

    @classmethod
    def parse(cls, text: bytes, *, where: str = "catalogue") -> Self:
        """Read one vendor's file. Raises CatalogueError."""
        try:
            content = msgspec.toml.decode(text, type=_File)
        except msgspec.DecodeError as error:
            raise CatalogueError(f"{where}: {error}") from error
        return cls({key: _model(key, entry, content) for key, entry in content.models.items()})

    def model(self, key: str) -> Model:
        """Return the model called ``key``. Raises CatalogueError, which lists what is allowed."""
        if key not in self.models:
            raise CatalogueError(f"unknown model {key!r}; allowed: {', '.join(self.models)}")
        return self.models[key]

    def by_pci(self, vendor: Vendor, pci_device_id: int, vram_bytes: int = 0) -> Model | None:
        """The vendor's model with that PCI device id, the nearest in memory where several have it; None when none has."""
        found = [
            each
            for each in self.models.values()
            if each.vendor is vendor and pci_device_id in (each.pci_device_id, *each.pci_device_ids)
        ]
        return min(found, key=lambda each: abs(each.vram_bytes - vram_bytes), default=None)


def _model(key: str, entry: _Entry, content: _File) -> Model:
    if entry.capability and entry.capability not in content.capabilities:
        raise CatalogueError(f"{key}: unknown capability {entry.capability!r}")
    major, _, minor = entry.capability.partition(".")
    grid = _grid(key, entry, content)
    model = Model(
        key=key,
        vendor=content.vendor,
        name=entry.name,
        capability=(int(major), int(minor)) if major else None,
        limits=content.capabilities[entry.capability] if major else NO_CAPABILITY,
        pci_device_id=entry.pci_device_id,
        pci_subsystem_id=entry.pci_subsystem_id,
        vram_bytes=entry.vram_mib * MIB,
        reserve_bytes=entry.reserve_mib * MIB,
        bar1_bytes=entry.bar1_mib * MIB,
        multiprocessors=entry.multiprocessors,
        clock_khz=entry.clock_mhz * 1000,
        memory_clock_khz=entry.memory_clock_mhz * 1000,
        memory_bus_bits=entry.memory_bus_bits,
        memory_bytes_per_s=entry.memory_gb_per_s * 10**9,
        l2_bytes=entry.l2_mib * MIB,
        power_limit_mw=entry.power_limit_w * 1000,
        links=entry.links,
        link_kind=entry.link_kind,
        link_bytes_per_s=round(entry.link_gb_per_s * 10**9),
        pci_device_ids=entry.pci_device_ids,
        memory_slots=grid.memory_slots if grid else 0,
        compute_slices=grid.compute_slices if grid else 0,
        switched=grid.mode if grid else False,
        auxiliary=grid.auxiliary if grid else 0,
        auxiliary_name=grid.auxiliary_name if grid else "",
        profiles=tuple(_profile(key, instance, grid) for instance in entry.instances) if grid else (),
    )
    _check(model)
    return model


def _grid(key: str, entry: _Entry, content: _File) -> _Grid | None:
    if bool(entry.grid) != bool(entry.instances) or (entry.grid and entry.grid not in content.grids):
        grids = ", ".join(content.grids)
        raise CatalogueError(f"{key}: grid {entry.grid!r} with {len(entry.instances)} instances; allowed grids: {grids}")
    return content.grids.get(entry.grid)


def _profile(key: str, instance: _Instance, grid: _Grid) -> HardwareProfile:
    for kind in grid.profiles:
        if kind.kind == instance.kind:
            copy_engines, decoders, jpegs, ofas = kind.engines
            return HardwareProfile(
                name=instance.name,
                index=kind.index,
                profile_id=kind.id,
                size=kind.size,
                compute_slices=kind.compute_slices,
                memory_bytes=instance.memory_mib * MIB,
                multiprocessors=instance.multiprocessors,
                max_instances=kind.max_instances,
                starts=kind.starts,
                layout=kind.layout,
                shared=kind.shared,
                auxiliary=kind.auxiliary,
                copy_engines=copy_engines,
                decoders=decoders,
                jpegs=jpegs,
                ofas=ofas,
            )
    raise CatalogueError(f"{key}: instance {instance.name}: unknown kind {instance.kind!r}")


def _check(model: Model) -> None:
    """See that the model makes sense. Raises CatalogueError."""
    problems = [f"{name} 0, allowed: > 0" for name in ("vram_bytes", "multiprocessors") if not getattr(model, name)]
    if model.usable_bytes <= 0:
        problems.append(f"reserve of {model.reserve_bytes} of {model.vram_bytes} bytes")
    if len(model.profiles) > PROFILES_MAX:
        problems.append(f"{len(model.profiles)} profiles, allowed: at most {PROFILES_MAX}")
    problems += [
        f"two profiles of one {what}"
        for what in ("name", "profile_id")
        if len({getattr(each, what) for each in model.profiles}) < len(model.profiles)
    ]
    for profile in model.profiles:
        problems += [f"profile {profile.name}: {text}" for text in _profile_problems(model, profile)]
    if problems:
        raise CatalogueError(f"{model.key}: {'; '.join(problems)}")


def _profile_problems(model: Model, profile: HardwareProfile) -> list[str]:
    found = []
    if not profile.starts or len(profile.starts) > STARTS_MAX or len(set(profile.starts)) < len(profile.starts):
        found.append(f"starts {profile.starts}, allowed: 1 to {STARTS_MAX} different ones")
    if profile.size < 1 or any(start < 0 or start + profile.size > model.memory_slots for start in profile.starts):
        found.append(f"size {profile.size} at {profile.starts}, allowed: inside of {model.memory_slots} slots")
    if not 1 <= profile.compute_slices <= model.compute_slices:
        found.append(f"compute_slices {profile.compute_slices}, allowed: 1 to {model.compute_slices}")
    if not 0 < profile.memory_bytes <= model.vram_bytes:
        found.append(f"memory {profile.memory_bytes}, allowed: 1 to {model.vram_bytes} bytes")
    if not 1 <= profile.multiprocessors <= model.multiprocessors:
        found.append(f"multiprocessors {profile.multiprocessors}, allowed: 1 to {model.multiprocessors}")
    if profile.max_instances < 1 or profile.auxiliary < 0 or profile.auxiliary > model.auxiliary:
        found.append(f"max_instances {profile.max_instances}, auxiliary {profile.auxiliary} of {model.auxiliary}")
    return found
