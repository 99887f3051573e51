"""What a process needs to start inside a slice: the content of ``attach.json``.

Invariant: pure; the same slice, the same bytes.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from mica.enforcer.placing import NO_PART, Part
from mica.enforcer.spatial import PERCENT_PPM
from mica.events import LedgerEntry, Mode, Runtime
from mica.region import RuntimeDir, Spatial
from mica.vendors import NO_ACCESS, Access

MPS_SLACK_BYTES: Final = 1 << 30
"""How far MPS's own limit lies above the slice's."""

NO_DEVICE: Final = "mica-shim-is-not-loaded"
"""Names no device: a driver without the shim in front reads this in ``CUDA_VISIBLE_DEVICES`` (native/shim/cuda/gate.c)."""


ATTACH_FILE: Final = "/run/mica/attach.json"
"""Where a process of a container that has lost its environment finds it again (native/shim/core/restore.c)."""


class Libraries(Struct, frozen=True, kw_only=True):
    """Where the shims are, and the simulated drivers when there is no real one (``sim_dir``: MICA_SIM_DIR)."""

    shims: tuple[Path, ...]
    opencl_layer: Path | None = None
    sim_cuda: Path | None = None
    sim_nvml: Path | None = None
    sim_dir: Path | None = None
    on_fault: str = "refuse"
    """What a shim does when it can't know the slice's limits: ``refuse`` the calls, or ``pass`` them."""


class Mount(Struct, frozen=True):
    """A bind mount that a container needs to attach."""

    source: str
    target: str
    read_only: bool


class Attach(Struct, frozen=True):
    """The document; ``devices`` are the vendors' UUIDs, of the partitions in hardware mode.

    ``device_nodes`` and ``mounts`` are for containers; ``cdi``: the vendors' own names of the same, where they have some.
    ``numa_nodes`` and ``cpus`` (as the kernel lists them) are near the devices, as far as that is known. ``cpu_milli`` and
    ``host_memory_bytes``: what the slice has of this node's own processors and memory, over all of its devices here.
    """

    id: str
    node: str
    mode: Mode
    devices: tuple[str, ...]
    env: dict[str, str]
    mounts: tuple[Mount, ...]
    device_nodes: tuple[str, ...] = ()
    cdi: tuple[str, ...] = ()
    numa_nodes: tuple[int, ...] = ()
    cpus: str = ""
    cpu_milli: int = 0
    host_memory_bytes: int = 0


class Seat(Struct, frozen=True, kw_only=True):
    """What a slice has on one device. ``visible`` is the UUID by which a process asks for it."""

    entry: LedgerEntry
    visible: str
    mps_pipe: str = ""
    opencl_id: str = ""
    part: Part = NO_PART
    access: Access = NO_ACCESS
    numa_node: int = -1
    cpus: str = ""


def attach_document(node: str, slice_id: str, seats: Mapping[str, Seat], runtime: RuntimeDir, libraries: Libraries) -> bytes:
    """``attach.json`` of a slice; ``seats`` by device id."""
    mode = next(iter(seats.values())).entry.mode
    hardware = mode is Mode.HARDWARE
    visible = tuple(seat.visible for seat in seats.values())
    access = [seat.access for seat in seats.values()]
    env = {"MICA_SLICE": slice_id, "MICA_RUNTIME_DIR": str(runtime.root), **_visible(access)}
    if not hardware:
        env |= {"CUDA_VISIBLE_DEVICES": NO_DEVICE, "MICA_VISIBLE_DEVICES": ",".join(visible)}
        env["MICA_ON_FAULT"] = libraries.on_fault
        env["LD_PRELOAD"] = ":".join(str(path) for path in libraries.shims)
        env |= _opencl(node, tuple(seats.values()), libraries)
    env |= _simulation(libraries, hardware=hardware)
    env |= _mps(tuple(seats.values()), runtime)
    mounts = [mount for device_id in seats for mount in _device_mounts(runtime, device_id)]
    mounts += [_writable(runtime.slice_name(slice_id)), *_library_mounts(runtime, libraries, hardware=hardware)]
    mounts += [] if hardware else [Mount(runtime.attach_name(slice_id), ATTACH_FILE, read_only=True)]
    mounts += [
        _writable(pipe) for pipe in sorted({seat.mps_pipe for seat in seats.values() if seat.mps_pipe and seat.part != NO_PART})
    ]
    mounts += [_read_only(Path(path)) for path in _each(each.mounts for each in access)]
    nodes = _each(each.devices for each in access)
    cdi = _each((each.cdi,) if each.cdi else () for each in access)
    numa = tuple(sorted({seat.numa_node for seat in seats.values() if seat.numa_node >= 0}))
    cpus = ",".join(_each((seat.cpus,) if seat.cpus else () for seat in seats.values()))
    cpu_milli = sum(seat.entry.cpu_milli for seat in seats.values())
    memory_bytes = sum(seat.entry.host_memory_bytes for seat in seats.values())
    own = (numa, cpus, cpu_milli, memory_bytes)
    return msgspec.json.encode(Attach(slice_id, node, mode, visible, env, tuple(mounts), nodes, cdi, *own))


def _each(lists: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """Everything in the lists, once, in their order."""
    return tuple(dict.fromkeys(chain.from_iterable(lists)))


def _visible(access: Sequence[Access]) -> dict[str, str]:
    """The variables that list the slice's devices, with all of them."""
    env = {name: value for each in access for name, value in each.env.items()}
    names = dict.fromkeys(name for each in access for name in each.visible)
    return env | {name: ",".join(each.visible[name] for each in access if name in each.visible) for name in names}


def _opencl(node: str, seats: tuple[Seat, ...], libraries: Libraries) -> dict[str, str]:
    """How the OpenCL loader finds the layer, and the layer the slice's devices.

    Their ids are made with the node's name; a device that has another id by its vendor's own library is told by both.
    """
    if libraries.opencl_layer is None or all(seat.entry.runtime is not Runtime.OPENCL for seat in seats):
        return {}
    others = ",".join(f"{seat.opencl_id}={seat.visible}" for seat in seats if seat.opencl_id)
    env = {"OPENCL_LAYERS": str(libraries.opencl_layer), "MICA_NODE": node}
    return env | ({"MICA_OPENCL_IDS": others} if others else {})


def _mps(seats: tuple[Seat, ...], runtime: RuntimeDir) -> dict[str, str]:
    """How a process meets the MPS daemon: with its part where it has one, else not at all, however the node is set up.

    The memory limit is the driver's own and a second line behind the shim's: it counts contexts and whole pages, so that it is
    set where the shim's is sure to be met first.
    """
    if not any(seat.mps_pipe for seat in seats):
        return {}
    if any(seat.part == NO_PART for seat in seats):
        return {"CUDA_MPS_PIPE_DIRECTORY": str(runtime.root / "no-mps")}
    limits = (f"{index}={seat.entry.vram_bytes + MPS_SLACK_BYTES >> 20}M" for index, seat in enumerate(seats))
    env = {"CUDA_MPS_PIPE_DIRECTORY": seats[0].mps_pipe, "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": ",".join(limits)}
    percent = max((seat.part.ppm // PERCENT_PPM for seat in seats if seat.part.kind is Spatial.MPS), default=0)
    return env | ({"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": str(percent)} if percent else {})


@cache
def _device_mounts(runtime: RuntimeDir, device_id: str) -> tuple[Mount, ...]:
    return _read_only(runtime.quota_path(device_id)), _writable(runtime.token_path(device_id))


@cache
def _library_mounts(runtime: RuntimeDir, libraries: Libraries, *, hardware: bool) -> tuple[Mount, ...]:
    mounts = [_read_only(runtime.attach_socket.parent)]
    mounts += [] if hardware else [_read_only(path) for path in libraries.shims]
    mounts += [] if hardware or libraries.opencl_layer is None else [_read_only(libraries.opencl_layer)]
    if libraries.sim_dir is not None and libraries.sim_cuda is not None:
        mounts += [_writable(libraries.sim_dir), _read_only(libraries.sim_cuda.parent)]
    return tuple(mounts)


@cache
def _simulation(libraries: Libraries, *, hardware: bool) -> dict[str, str]:
    if libraries.sim_dir is None or libraries.sim_cuda is None or libraries.sim_nvml is None:
        return {}
    env = {"MICA_SIM_DIR": str(libraries.sim_dir)}
    if hardware:
        return env | {"LD_LIBRARY_PATH": str(libraries.sim_cuda.parent)}
    return env | {"MICA_CUDA_DRIVER": str(libraries.sim_cuda), "MICA_NVML_DRIVER": str(libraries.sim_nvml)}


def _read_only(path: Path) -> Mount:
    return Mount(str(path), str(path), read_only=True)


def _writable(path: Path | str) -> Mount:
    return Mount(str(path), str(path), read_only=False)
