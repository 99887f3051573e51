"""Reads what a device is. Invariant: what amdsmi does not answer is left at its honest default, never made up."""

import os
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from mica.events import Device, PartitionProfile, Runtime, Vendor
from mica.hardware import Catalogue, Model
from mica.vendors._port import VendorError
from mica.vendors.amd._library import Socket, optional, simulated
from mica.vendors.amd._modes import WHOLE, XCDS_MAX, Size, known_count, mode_name, offered, profile_of, profiles_of, whole

RUNTIMES: Final = (Runtime.HIP,)
MEMORY_TOLERANCE: Final = 0.05
VRAM_MAX: Final = 1 << 44
COMPUTE_UNITS_MAX: Final = 1 << 16
GUEST: Final = 3
"""AMDSMI_VIRTUALIZATION_MODE_GUEST."""
SYS: Final = Path("/sys/bus/pci/devices")


class Facts(Struct, frozen=True, kw_only=True):
    """A device as it is now.

    ``model``: the catalogue's. ``mode``: empty where it has none, with ``count`` partitions now. ``live``: amdsmi itself says
    which modes it can have.
    """

    device_id: str
    bdf: str
    name: str
    size: Size
    mode: str
    count: int
    profiles: tuple[PartitionProfile, ...]
    model: Model | None
    live: bool
    refusal: str

    @property
    def partitioned(self) -> bool:
        """Whether it can't be used whole now."""
        return self.mode not in ("", WHOLE)

    def profile(self, mode: str) -> PartitionProfile | None:
        """What it offers by that name."""
        return next((each for each in self.profiles if each.name == mode), None)

    def current(self) -> PartitionProfile:
        """What there is now, also a mode that nobody says it can have."""
        return self.profile(self.mode) or profile_of(self.mode, self.count, self.size)


def read_mode(smi: Any, socket: Socket) -> str:
    """The modes in which the device is, empty where it has none. Raises AmdSmiException."""
    handle = socket.handles[0]
    compute = optional(smi, "amdsmi_get_gpu_compute_partition", handle)
    memory = optional(smi, "amdsmi_get_gpu_memory_partition", handle)
    known = compute and memory and compute != "N/A" and memory != "N/A"
    return mode_name(compute, memory) if known else ""


def count_now(smi: Any, socket: Socket, mode: str) -> int:
    """How many partitions there are in the mode in which the device is, 0 where nobody says.

    What amdsmi lists may be older than the mode.
    """
    if not mode:
        return 1
    said = optional(smi, "amdsmi_get_gpu_accelerator_partition_profile", socket.handles[0]) or {}
    count = (said.get("partition_profile") or {}).get("num_partitions")
    return count if isinstance(count, int) and 0 < count <= XCDS_MAX else known_count(mode)


def read_facts(smi: Any, socket: Socket) -> Facts:
    """Ask amdsmi. Raises AmdSmiException, VendorError."""
    handle = socket.handles[0]
    asic = smi.amdsmi_get_gpu_asic_info(handle)
    vram = smi.amdsmi_get_gpu_memory_total(handle, smi.AmdSmiMemoryType.VRAM)
    units = asic.get("num_compute_units")
    units = units if isinstance(units, int) else 0
    _check(socket.name, vram, units)
    device_id = smi.amdsmi_get_gpu_device_uuid(handle)
    if not device_id:
        raise VendorError(f"{socket.name}: no UUID")
    mode = read_mode(smi, socket)
    count = count_now(smi, socket, mode) or len(socket.handles)
    model = _model(asic, vram * count)
    counts = offered(
        optional(smi, "amdsmi_get_gpu_accelerator_partition_profile_config", handle),
        optional(smi, "amdsmi_get_gpu_memory_partition_config", handle),
    )
    size = Size(
        whole(vram, count, model.vram_bytes if model is not None else 0),
        whole(units, count, model.multiprocessors if model is not None else 0),
        max(counts.values(), default=model.memory_slots if model is not None else 0),
    )
    known = model.partition_profiles() if model is not None and mode else ()
    return Facts(
        device_id=device_id,
        bdf=smi.amdsmi_get_gpu_device_bdf(handle),
        name=str(asic.get("market_name", "")),
        size=size,
        mode=mode,
        count=count,
        profiles=_reachable(smi, profiles_of(counts, size) or known, mode),
        model=model,
        live=bool(counts),
        refusal=_refusal(smi, handle, socket.name) if mode else "",
    )


def describe(smi: Any, socket: Socket, index: int) -> Device:
    """The device as an inventory has it. Raises AmdSmiException, VendorError."""
    facts = read_facts(smi, socket)
    handle = socket.handles[0]
    numa_node = optional(smi, "amdsmi_topo_get_numa_node_number", handle)
    hive = (optional(smi, "amdsmi_get_xgmi_info", handle) or {}).get("xgmi_hive_id")
    return Device(
        id=facts.device_id,
        index=index,
        vendor=Vendor.AMD,
        model=facts.name,
        vram_bytes=facts.size.vram_bytes,
        multiprocessors=facts.size.compute_units,
        runtimes=RUNTIMES,
        partitioned=facts.partitioned,
        profiles=facts.profiles,
        compute_slices=facts.size.xcds if facts.profiles else 0,
        pci_bus_id=facts.bdf,
        numa_node=numa_node if isinstance(numa_node, int) and numa_node < 1 << 16 else -1,
        simulated=simulated(),
        switchable=bool(facts.profiles) and not facts.refusal,
        hardware_refusal=facts.refusal,
        group=f"hive-{hive:x}" if isinstance(hive, int) and hive else "",
        warnings=contradictions(facts),
    )


def contradictions(facts: Facts) -> tuple[str, ...]:
    """What amdsmi says otherwise than the catalogue: what, observed, catalogue."""
    model = facts.model
    if model is None:
        return ()
    found = []
    if abs(facts.size.vram_bytes - model.vram_bytes) > MEMORY_TOLERANCE * model.vram_bytes:
        found.append(f"memory: {facts.size.vram_bytes >> 20} MiB, the catalogue's {model.key} has {model.vram_bytes >> 20} MiB")
    if facts.size.compute_units not in (0, model.multiprocessors):
        found.append(f"compute units: {facts.size.compute_units}, the catalogue's {model.key} has {model.multiprocessors}")
    live, listed = {each.name for each in facts.profiles}, set(model.layouts)
    if facts.live and live != listed:
        here, there = (", ".join(sorted(each)) or "none" for each in (live - listed, listed - live))
        found.append(f"partition modes: {here} here only, {there} in the catalogue's {model.key} only")
    return tuple(found)


def _check(name: str, vram: Any, units: int) -> None:
    for what, value, limit in (("VRAM", vram, VRAM_MAX), ("compute units", units, COMPUTE_UNITS_MAX)):
        if not isinstance(value, int) or not 0 <= value <= limit:
            raise VendorError(f"{name}: {what} {value!r}, at most {limit} makes sense")
    if not vram:
        raise VendorError(f"{name}: VRAM 0, wanted more")


def _model(asic: Any, vram_bytes: int) -> Model | None:
    try:
        return Catalogue.load().by_pci(Vendor.AMD, int(str(asic.get("device_id")), 16), vram_bytes)
    except ValueError:
        return None


def _reachable(smi: Any, profiles: tuple[PartitionProfile, ...], mode: str) -> tuple[PartitionProfile, ...]:
    """Only those of the present memory mode where the package can't have the driver loaded anew (since ROCm 10)."""
    if hasattr(smi, "amdsmi_gpu_driver_reload"):
        return profiles
    return tuple(each for each in profiles if each.shared == mode.partition("/")[2])


def _refusal(smi: Any, handle: Any, name: str) -> str:
    """Why this process may not lay the device out."""
    mode = (optional(smi, "amdsmi_get_gpu_virtualization_mode", handle) or {}).get("mode")
    if mode is not None and int(mode) == GUEST:
        return "a virtual function: its host lays the device out, not its guest"
    if not hasattr(smi, "amdsmi_set_gpu_compute_partition"):
        return "amdsmi is too old: it has no amdsmi_set_gpu_compute_partition"
    file = SYS / f"{name}.0" / "current_compute_partition"
    if not simulated() and not os.access(file, os.W_OK):
        return f"no privilege, or in a container: {file} is not to be written"
    return ""
