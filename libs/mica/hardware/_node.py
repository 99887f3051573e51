"""Node files: what a simulated node is made of, in TOML.

Invariant: a NodeFile that exists is sound. Every model is in the catalogue, and MIG is asked only of those that have it.
"""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Self

import msgspec
from msgspec import Meta, Struct

from mica.hardware._catalogue import Catalogue, CatalogueError, Model

DEVICES_MAX = 16
KERNEL_RULES_MAX = 64

NodeId = Annotated[str, Meta(pattern="^[A-Za-z0-9_.-]{1,63}$")]
NonNegative = Annotated[int, Meta(ge=0, le=2**62)]
KernelPattern = Annotated[str, Meta(pattern="^[^\\s]{1,63}$")]


class NodeFileError(ValueError):
    """A node file cannot be used. The message names the file, the field, what was given and what is allowed."""


class DeviceEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """``count`` devices of one model. ``mig``: they start in MIG mode."""

    model: str
    mig: bool = False
    count: Annotated[int, Meta(ge=1, le=DEVICES_MAX)] = 1


class KernelCost(Struct, frozen=True, forbid_unknown_fields=True):
    """What kernels cost whose name matches the shell pattern ``name``.

    ``block_ns`` for each wave of blocks, ``fixed_ns`` for each launch, ``grid_ns`` for each block with the whole device at
    work: the last alone states a kernel's time exactly by its grid. All of it varies evenly by up to ``noise_ppm``.
    """

    name: KernelPattern
    block_ns: NonNegative = 0
    fixed_ns: NonNegative = 0
    grid_ns: NonNegative = 0
    noise_ppm: Annotated[int, Meta(ge=0, le=1_000_000)] = 0


class Costs(Struct, frozen=True, forbid_unknown_fields=True):
    """What work costs on the simulated devices.

    A kernel takes ``launch_ns`` + waves * ``block_ns``. A process keeps a device for ``timeslice_ns`` while others wait; 0
    runs all launches strictly in order of submission. ``context_bytes`` is the footprint of a process's first context on
    a device, ``module_bytes`` that of each module: none by default, because what tenants are sold is what they ask for.
    Copies to and from the host take their bytes / ``pcie_bytes_per_s`` in each direction (0: no time). ``seed`` decides
    all noise.
    """

    launch_ns: NonNegative = 2_000
    block_ns: NonNegative = 50_000
    timeslice_ns: NonNegative = 2_000_000
    context_bytes: NonNegative = 0
    module_bytes: NonNegative = 0
    pcie_bytes_per_s: NonNegative = 25_000_000_000
    seed: NonNegative = 0
    kernel: Annotated[tuple[KernelCost, ...], Meta(max_length=KERNEL_RULES_MAX)] = ()


class NodeFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A simulated node. Devices are numbered in the order of their entries. ``mps``: an MPS daemon runs on it."""

    name: NodeId
    device: Annotated[tuple[DeviceEntry, ...], Meta(min_length=1)]
    costs: Costs = Costs()
    mps: bool = False
    driver_version: Annotated[str, Meta(pattern="^[0-9.]{1,31}$")] = "580.95.05"
    cuda_version: Annotated[int, Meta(ge=11_000, le=99_990)] = 13_000

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a node file. Raises NodeFileError."""
        try:
            text = path.read_bytes()
        except OSError as error:
            raise NodeFileError(f"{path}: {error.strerror}") from error
        return cls.parse(text, where=str(path))

    @classmethod
    def parse(cls, text: bytes, *, where: str = "node file") -> Self:
        """Read a node file from TOML text; ``where`` names it in errors. Raises NodeFileError."""
        try:
            node = msgspec.toml.decode(text, type=cls)
            node.models()
        except (msgspec.DecodeError, CatalogueError) as error:
            raise NodeFileError(f"{where}: {error}") from error
        return node

    def models(self, catalogue: Catalogue | None = None) -> tuple[tuple[Model, bool], ...]:
        """Return each device's model and whether it starts in MIG mode, by index. Raises CatalogueError."""
        known = catalogue or Catalogue.load()
        devices = [(known.model(entry.model), entry.mig) for entry in self.device for _ in range(entry.count)]
        for model, mig in devices:
            if mig and not model.mig:
                allowed = ", ".join(key for key, other in known.models.items() if other.mig)
                raise CatalogueError(f"model {model.key!r} has no MIG; allowed with mig = true: {allowed}")
        if len(devices) > DEVICES_MAX:
            raise CatalogueError(f"{len(devices)} devices; at most {DEVICES_MAX} allowed")
        return tuple(devices)


def demo_node_path() -> Path:
    """Return the shipped example: one device for each way of carving."""
    return Path(str(files("mica.hardware").joinpath("nodes/demo.toml")))
