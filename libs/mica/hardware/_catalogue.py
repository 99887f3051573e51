"""The catalogue of accelerator models, read from ``catalogue.toml``.

Invariant: every model is complete. What it shares with others (limits of its compute capability, its MIG grid) is
resolved when the catalogue is loaded, so nobody looks anything up twice.
"""

from functools import cache
from importlib.resources import files
from typing import Self

import msgspec
from msgspec import Struct

MIB = 1 << 20
_MEDIA_SUFFIX = "+me"


class CatalogueError(ValueError):
    """The catalogue does not know a model, or contradicts itself."""


class MigProfile(Struct, frozen=True, kw_only=True):
    """One kind of GPU instance of a model.

    ``index`` is NVML's profile number, ``profile_id`` the id that nvidia-smi shows and instances are created by.
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
    copy_engines: int
    decoders: int
    jpegs: int
    ofas: int

    @property
    def media_extensions(self) -> bool:
        """Whether it has the media engines, of which a device has one set to give away."""
        return self.name.endswith(_MEDIA_SUFFIX)


class Capability(Struct, frozen=True, forbid_unknown_fields=True):
    """What a compute capability fixes. Per multiprocessor, but for the last, which is per block."""

    multiprocessor_threads_max: int
    multiprocessor_blocks_max: int
    multiprocessor_registers: int
    multiprocessor_shared_bytes: int
    block_shared_optin_bytes: int


class Model(Struct, frozen=True, kw_only=True):
    """One accelerator model. ``vram_bytes`` is all there is, ``reserve_bytes`` of it is the driver's."""

    key: str
    name: str
    capability: tuple[int, int]
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
    nvlinks: int
    memory_slots: int = 0
    compute_slices: int = 0
    profiles: tuple[MigProfile, ...] = ()

    @property
    def usable_bytes(self) -> int:
        """Memory that programs can have in all."""
        return self.vram_bytes - self.reserve_bytes

    @property
    def mig(self) -> bool:
        """Whether the model can be split into GPU instances."""
        return bool(self.profiles)

    def profile(self, name: str) -> MigProfile:
        """Return the profile called ``name``. Raises CatalogueError."""
        for profile in self.profiles:
            if profile.name == name:
                return profile
        known = ", ".join(p.name for p in self.profiles) or "none, it has no MIG"
        raise CatalogueError(f"{self.key}: no MIG profile {name!r}; allowed: {known}")


class _GridProfile(Struct, frozen=True, forbid_unknown_fields=True):
    kind: str
    index: int
    id: int
    size: int
    compute_slices: int
    max_instances: int
    starts: tuple[int, ...]
    engines: tuple[int, int, int, int]


class _Grid(Struct, frozen=True, forbid_unknown_fields=True):
    memory_slots: int
    compute_slices: int
    profiles: tuple[_GridProfile, ...]


class _Instance(Struct, frozen=True, forbid_unknown_fields=True):
    kind: str
    name: str
    memory_mib: int
    multiprocessors: int


class _Entry(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    capability: str
    pci_device_id: int
    pci_subsystem_id: int
    vram_mib: int
    reserve_mib: int
    bar1_mib: int
    multiprocessors: int
    clock_mhz: int
    memory_clock_mhz: int
    memory_bus_bits: int
    memory_gb_per_s: int
    l2_mib: int
    power_limit_w: int
    nvlinks: int
    grid: str = ""
    instances: tuple[_Instance, ...] = ()


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    capabilities: dict[str, Capability]
    grids: dict[str, _Grid]
    models: dict[str, _Entry]


class Catalogue(Struct, frozen=True):
    """All models, by the key that node files use."""

    models: dict[str, Model]

    @classmethod
    @cache
    def load(cls) -> Self:
        """Return the shipped catalogue, read once. Raises CatalogueError."""
        return cls.parse(files("mica.hardware").joinpath("catalogue.toml").read_bytes())

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Read a catalogue from TOML. Raises CatalogueError."""
        try:
            content = msgspec.toml.decode(text, type=_File)
        except msgspec.DecodeError as error:
            raise CatalogueError(f"catalogue: {error}") from error
        return cls({key: _model(key, entry, content) for key, entry in content.models.items()})

    def model(self, key: str) -> Model:
        """Return the model called ``key``. Raises CatalogueError, which lists what is allowed."""
        if key not in self.models:
            raise CatalogueError(f"unknown model {key!r}; allowed: {', '.join(self.models)}")
        return self.models[key]


def _model(key: str, entry: _Entry, content: _File) -> Model:
    if entry.capability not in content.capabilities:
        raise CatalogueError(f"{key}: unknown capability {entry.capability!r}")
    major, minor = entry.capability.split(".")
    grid = _grid(key, entry, content)
    return Model(
        key=key,
        name=entry.name,
        capability=(int(major), int(minor)),
        limits=content.capabilities[entry.capability],
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
        nvlinks=entry.nvlinks,
        memory_slots=grid.memory_slots if grid else 0,
        compute_slices=grid.compute_slices if grid else 0,
        profiles=tuple(_profile(key, instance, grid) for instance in entry.instances) if grid else (),
    )


def _grid(key: str, entry: _Entry, content: _File) -> _Grid | None:
    if bool(entry.grid) != bool(entry.instances) or (entry.grid and entry.grid not in content.grids):
        grids = ", ".join(content.grids)
        raise CatalogueError(f"{key}: grid {entry.grid!r} with {len(entry.instances)} instances; allowed grids: {grids}")
    return content.grids.get(entry.grid)


def _profile(key: str, instance: _Instance, grid: _Grid) -> MigProfile:
    for kind in grid.profiles:
        if kind.kind == instance.kind:
            copy_engines, decoders, jpegs, ofas = kind.engines
            return MigProfile(
                name=instance.name,
                index=kind.index,
                profile_id=kind.id,
                size=kind.size,
                compute_slices=kind.compute_slices,
                memory_bytes=instance.memory_mib * MIB,
                multiprocessors=instance.multiprocessors,
                max_instances=kind.max_instances,
                starts=kind.starts,
                copy_engines=copy_engines,
                decoders=decoders,
                jpegs=jpegs,
                ofas=ofas,
            )
    raise CatalogueError(f"{key}: instance {instance.name}: unknown kind {instance.kind!r}")
