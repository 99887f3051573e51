"""``node.desc``: a node file resolved into the lines that the simulated driver's C code reads.

Invariant: the description depends on the node file and the catalogue alone, device UUIDs included.
"""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from mica.events import Vendor
from mica.hardware._catalogue import HardwareProfile
from mica.hardware._host import write_host
from mica.hardware._node import NodeDevice, NodeFile
from mica.hardware._standins import write_standins

NODE_DESC = "node.desc"
_NAMESPACE = uuid.UUID("6d696361-6e6f-5465-8000-647269766572")
_PCI_VENDORS = {Vendor.NVIDIA: 0x10DE, Vendor.AMD: 0x1002, Vendor.INTEL: 0x8086, Vendor.HUAWEI: 0x19E5, Vendor.QUALCOMM: 0x17CB}
_AMPERE = 8
_WARP_THREADS = 32
_BLOCK_THREADS_MAX = 1024


def device_uuid(node: str, index: int, vendor: Vendor = Vendor.NVIDIA) -> str:
    """Return the UUID of device ``index`` of the simulated node, the same every time.

    NVIDIA's begin with ``GPU-``; Huawei's are five words of a die's id.
    """
    plain = uuid.uuid5(_NAMESPACE, f"{node}/{index}")
    if vendor is Vendor.HUAWEI:
        digits = (plain.hex + uuid.uuid5(plain, "die").hex[:8]).upper()
        return "-".join(digits[at : at + 8] for at in range(0, 40, 8))
    return f"GPU-{plain}" if vendor is Vendor.NVIDIA else str(plain)


def node_desc(node: NodeFile) -> str:
    """Return the text of ``node.desc``. Raises CatalogueError."""
    return "".join(f"{line}\n" for line in _lines(node))


def write_node_desc(node: NodeFile, directory: Path) -> Path:
    """Write ``node.desc`` into ``directory`` whole or not at all, ``host.json`` and the tools; return the first's path.

    Raises CatalogueError, OSError.

    A running simulation keeps the description it started with, until its ``engine.state`` is removed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / NODE_DESC
    draft = directory / f"{NODE_DESC}.{os.getpid()}"
    draft.write_text(node_desc(node))
    draft.chmod(0o644)
    draft.replace(path)
    write_host(node.host, directory)
    write_standins({device.model.vendor for device in node.devices()}, directory)
    return path


def _lines(node: NodeFile) -> Iterator[str]:
    costs = node.costs
    yield "# what the simulated driver reads; made from a node file, do not edit"
    yield f"node {node.name}"
    yield f"driver_version {node.driver_version}"
    yield f"cuda_version {node.cuda_version}"
    yield f"launch_ns {costs.launch_ns}"
    yield f"block_ns {costs.block_ns}"
    yield f"timeslice_ns {costs.timeslice_ns}"
    yield f"context_bytes {costs.context_bytes}"
    yield f"module_bytes {costs.module_bytes}"
    yield f"pcie_bytes_per_s {costs.pcie_bytes_per_s}"
    yield f"seed {costs.seed}"
    yield f"mps {int(node.mps)}"
    for rule in costs.kernel:
        more = {"fixed_ns": rule.fixed_ns, "grid_ns": rule.grid_ns, "noise_ppm": rule.noise_ppm}
        yield f"kernel {rule.name} {rule.block_ns}" + "".join(f" {key} {value}" for key, value in more.items() if value)
    for link in node.links():
        yield f"link {link.a} {link.b} {link.kind} {link.lanes} {link.bytes_per_s}"
    for index, device in enumerate(node.devices()):
        yield from _device_lines(node.name, index, device)


def _device_lines(node: str, index: int, device: NodeDevice) -> Iterator[str]:
    model = device.model
    major, minor = model.capability or (0, 0)
    identity = device_uuid(node, index, model.vendor)
    vendor_id = _PCI_VENDORS[model.vendor]
    yield f"device {index}"
    yield f"name {model.name}"
    yield f"uuid {identity}"
    yield f"serial 16{int(identity.removeprefix('GPU-')[:8], 16):011d}"
    yield f"vendor {model.vendor}"
    yield f"key {model.key}"
    yield from (f"{key} {value}" for key, value in {"group": device.group, "layout": device.layout}.items() if value)
    yield from (
        f"{key} {value}"
        for key, value in {
            "pci_domain": 0,
            "pci_bus": index + 1,
            "pci_device": 0,
            "pci_switch": device.switch,
            "pci_device_id": model.pci_device_id << 16 | vendor_id,
            "pci_subsystem_id": model.pci_subsystem_id << 16 | vendor_id,
            "vram_bytes": model.vram_bytes,
            "reserve_bytes": model.reserve_bytes,
            "bar1_bytes": model.bar1_bytes,
            "memory_bytes_per_s": model.memory_bytes_per_s,
            "multiprocessors": model.multiprocessors,
            "capability_major": major,
            "capability_minor": minor,
            "warp_threads": _WARP_THREADS,
            "block_threads_max": _BLOCK_THREADS_MAX,
            "multiprocessor_threads_max": model.limits.multiprocessor_threads_max,
            "multiprocessor_blocks_max": model.limits.multiprocessor_blocks_max,
            "multiprocessor_registers": model.limits.multiprocessor_registers,
            "multiprocessor_shared_bytes": model.limits.multiprocessor_shared_bytes,
            "block_shared_optin_bytes": model.limits.block_shared_optin_bytes,
            "clock_khz": model.clock_khz,
            "memory_clock_khz": model.memory_clock_khz,
            "memory_bus_bits": model.memory_bus_bits,
            "l2_bytes": model.l2_bytes,
            "power_limit_mw": model.power_limit_mw,
            "nvlinks": model.links,
            "numa_node": device.numa,
            "mig_capable": int(model.mig),
            "mig_at_start": int(device.mig),
            "mig_reset": int(model.mig and major == _AMPERE),
            "carvable": int(bool(model.profiles) and not model.switched),
            "memory_slots": model.memory_slots,
            "compute_slices": model.compute_slices,
            "auxiliary": model.auxiliary,
        }.items()
    )
    for profile in model.profiles:
        yield from _profile_lines(profile)


def _profile_lines(profile: HardwareProfile) -> Iterator[str]:
    yield f"profile {profile.name}"
    yield from (
        f"{key} {value}"
        for key, value in {
            "index": profile.index,
            "id": profile.profile_id,
            "size": profile.size,
            "compute_slices": profile.compute_slices,
            "multiprocessors": profile.multiprocessors,
            "max_instances": profile.max_instances,
            "copy_engines": profile.copy_engines,
            "decoders": profile.decoders,
            "encoders": 0,
            "jpegs": profile.jpegs,
            "ofas": profile.ofas,
            "media_extensions": int(profile.media_extensions),
            "memory_bytes": profile.memory_bytes,
            "auxiliary": profile.auxiliary,
            "starts": " ".join(str(start) for start in profile.starts),
        }.items()
    )
    yield from (f"{key} {value}" for key, value in {"layout": profile.layout, "shared": profile.shared}.items() if value)
