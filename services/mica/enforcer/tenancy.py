"""What a process needs to start inside a slice: the content of ``attach.json``.

Invariant: pure; the same slice, the same bytes.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from mica.events import LedgerEntry, Mode
from mica.region import RuntimeDir

NO_DEVICE: Final = "mica-shim-is-not-loaded"
"""Names no device: a driver without the shim in front reads this in ``CUDA_VISIBLE_DEVICES`` (native/shim/cuda/gate.c)."""


class Libraries(Struct, frozen=True, kw_only=True):
    """Where the shims are, and the simulated drivers when there is no real one (``sim_dir``: MICA_SIM_DIR)."""

    shims: tuple[Path, ...]
    sim_cuda: Path | None = None
    sim_nvml: Path | None = None
    sim_dir: Path | None = None


class Mount(Struct, frozen=True):
    """A bind mount that a container needs to attach."""

    source: str
    target: str
    read_only: bool


class Attach(Struct, frozen=True):
    """The document; ``devices`` are the vendors' UUIDs, of the partitions in hardware mode."""

    id: str
    node: str
    mode: Mode
    devices: tuple[str, ...]
    env: dict[str, str]
    mounts: tuple[Mount, ...]


def attach_document(
    node: str, slice_id: str, entries: Mapping[str, tuple[LedgerEntry, str]], runtime: RuntimeDir, libraries: Libraries
) -> bytes:
    """``attach.json`` of a slice. ``entries``: by device id, its entry and the UUID by which a process asks for the device."""
    mode = next(iter(entries.values()))[0].mode
    hardware = mode is Mode.HARDWARE
    visible = tuple(uuid for _, uuid in entries.values())
    env = {"MICA_SLICE": slice_id, "MICA_RUNTIME_DIR": str(runtime.root), "CUDA_VISIBLE_DEVICES": ",".join(visible)}
    if not hardware:
        env |= {"CUDA_VISIBLE_DEVICES": NO_DEVICE, "MICA_VISIBLE_DEVICES": ",".join(visible)}
        env["LD_PRELOAD"] = ":".join(str(path) for path in libraries.shims)
    env |= _simulation(libraries, hardware=hardware)
    mounts = [mount for device_id in entries for mount in _device_mounts(runtime, device_id)]
    mounts += [_writable(runtime.slice_name(slice_id)), *_library_mounts(runtime, libraries, hardware=hardware)]
    return msgspec.json.encode(Attach(slice_id, node, mode, visible, env, tuple(mounts)))


@cache
def _device_mounts(runtime: RuntimeDir, device_id: str) -> tuple[Mount, ...]:
    return _read_only(runtime.quota_path(device_id)), _writable(runtime.token_path(device_id))


@cache
def _library_mounts(runtime: RuntimeDir, libraries: Libraries, *, hardware: bool) -> tuple[Mount, ...]:
    mounts = [_read_only(runtime.attach_socket.parent)]
    mounts += [] if hardware else [_read_only(path) for path in libraries.shims]
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
