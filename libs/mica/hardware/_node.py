"""Node files: what a simulated node is made of, in TOML.

Invariant: a NodeFile that exists is sound. Every model is in the catalogue, and MIG is asked only of those that have it.
"""

from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import Annotated, Self

import msgspec
from msgspec import Meta, Struct

from mica.events import LinkKind, Vendor
from mica.hardware._catalogue import Catalogue, CatalogueError, Model
from mica.hardware._host import Cpus, MemoryGib, SimulatedHost

DEVICES_MAX = 16
KERNEL_RULES_MAX = 64

NodeId = Annotated[str, Meta(pattern="^[A-Za-z0-9_.-]{1,63}$")]
NonNegative = Annotated[int, Meta(ge=0, le=2**62)]
Small = Annotated[int, Meta(ge=0, le=255)]
KernelPattern = Annotated[str, Meta(pattern="^[^\\s]{1,63}$")]


class NodeFileError(ValueError):
    """A node file cannot be used. The message names the file, the field, what was given and what is allowed."""


class DeviceEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """``count`` devices of one model. ``mig``: they start in MIG mode. ``layout``: they start laid out so.

    ``group``: they have something in common (a hive, a board, a server). ``numa`` and ``switch``: the NUMA node and the PCIe
    switch (from 1; 0: none) of each, in turn; the last one goes on for the rest.
    """

    model: str
    mig: bool = False
    count: Annotated[int, Meta(ge=1, le=DEVICES_MAX)] = 1
    layout: Annotated[str, Meta(pattern="^[^\\s]{0,23}$")] = ""
    group: Annotated[str, Meta(pattern="^[^\\s]{0,31}$")] = ""
    numa: Annotated[tuple[Small, ...], Meta(min_length=1)] = (0,)
    switch: Annotated[tuple[Small, ...], Meta(min_length=1)] = (0,)


class LinkEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """Every two of ``devices`` (indices; all of the node's when empty) have ``lanes`` links, of ``gb_per_s`` each way in all."""

    kind: LinkKind
    lanes: Annotated[int, Meta(ge=1, le=64)] = 1
    gb_per_s: Annotated[float, Meta(ge=0, le=100_000)] = 0.0
    devices: tuple[Small, ...] = ()


class NodeDevice(Struct, frozen=True):
    """One device of a node, its model resolved."""

    model: Model
    mig: bool
    layout: str
    group: str
    numa: int
    switch: int


class NodeLink(Struct, frozen=True):
    """Two devices, by index, that reach each other directly."""

    a: int
    b: int
    kind: LinkKind
    lanes: int
    bytes_per_s: int


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
    """A simulated node. Devices are numbered in the order of their entries, NVIDIA's first. ``mps``: an MPS daemon runs on it.

    ``cpus`` (hardware threads) and ``memory_gib`` are what it has of its own; 0: not known.
    """

    name: NodeId
    device: Annotated[tuple[DeviceEntry, ...], Meta(min_length=1)]
    link: tuple[LinkEntry, ...] = ()
    costs: Costs = Costs()
    mps: bool = False
    driver_version: Annotated[str, Meta(pattern="^[0-9.]{1,31}$")] = "580.95.05"
    cuda_version: Annotated[int, Meta(ge=11_000, le=99_990)] = 13_000
    cpus: Cpus = 0
    memory_gib: MemoryGib = 0

    @property
    def host(self) -> SimulatedHost:
        """What it has beside devices."""
        return SimulatedHost(self.cpus, self.memory_gib)

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
            node.devices()
            node.links()
        except (msgspec.DecodeError, CatalogueError) as error:
            raise NodeFileError(f"{where}: {error}") from error
        return node

    def devices(self, catalogue: Catalogue | None = None) -> tuple[NodeDevice, ...]:
        """Return the devices, by index. Raises CatalogueError."""
        known = catalogue or Catalogue.load()
        found = [
            NodeDevice(
                known.model(entry.model), entry.mig, entry.layout, entry.group, _nth(entry.numa, nth), _nth(entry.switch, nth)
            )
            for entry in self.device
            for nth in range(entry.count)
        ]
        for device in found:
            _check(device, known)
        if len(found) > DEVICES_MAX:
            raise CatalogueError(f"{len(found)} devices; at most {DEVICES_MAX} allowed")
        return tuple(sorted(found, key=lambda each: each.model.vendor is not Vendor.NVIDIA))

    def links(self) -> tuple[NodeLink, ...]:
        """Return every pair of devices that reach each other directly. Raises CatalogueError."""
        count = sum(entry.count for entry in self.device)
        found = []
        for entry in self.link:
            members = entry.devices or tuple(range(count))
            beyond = [each for each in members if each >= count]
            if beyond:
                raise CatalogueError(f"link: device {beyond[0]}; allowed: 0 to {count - 1}")
            found += [
                NodeLink(a, b, entry.kind, entry.lanes, round(entry.gb_per_s * 10**9))
                for a, b in combinations(sorted(set(members)), 2)
            ]
        return tuple(found)


def _nth(values: tuple[int, ...], nth: int) -> int:
    return values[min(nth, len(values) - 1)]


def _check(device: NodeDevice, known: Catalogue) -> None:
    model = device.model
    if device.mig and not model.mig:
        allowed = ", ".join(key for key, other in known.models.items() if other.mig)
        raise CatalogueError(f"model {model.key!r} has no MIG; allowed with mig = true: {allowed}")
    if device.layout and device.layout not in model.layouts:
        allowed = ", ".join(model.layouts) or "none"
        raise CatalogueError(f"model {model.key!r} has no layout {device.layout!r}; allowed: {allowed}")


def ready_made_nodes() -> dict[str, Path]:
    """Return the shipped node files by name, sorted."""
    found = Path(str(files("mica.hardware").joinpath("nodes"))).glob("*.toml")
    return {path.stem: path for path in sorted(found)}


def demo_node_path() -> Path:
    """Return the shipped example: one device for each way of carving."""
    return ready_made_nodes()["demo"]
