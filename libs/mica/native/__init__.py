"""Where the built native libraries are.

MICA_LIB_DIR moves them all: in containers they are where tenants' containers find them, too.
Invariant: a path returned here exists.
"""

import os
from pathlib import Path

LIB_DIR = Path(os.environ.get("MICA_LIB_DIR") or Path(__file__).resolve().parent / "lib")


class NativeBuildError(Exception):
    """A native library has not been built."""


def shim_cuda() -> Path:
    """Return the shim that stands in front of libcuda. Raises NativeBuildError."""
    return _built(LIB_DIR / "shim" / "libcuda.so.1")


def shim_nvml() -> Path:
    """Return the shim that stands in front of libnvidia-ml. Raises NativeBuildError."""
    return _built(LIB_DIR / "shim" / "libnvidia-ml.so.1")


def opencl_layer() -> Path:
    """Return the layer that the OpenCL loader is told of. Raises NativeBuildError."""
    return _built(LIB_DIR / "shim" / "libmica-opencl.so")


def shims() -> tuple[Path, ...]:
    """Return what a program of a software slice preloads: the shims, by both their names. Raises NativeBuildError."""
    versioned = shim_cuda(), shim_nvml()
    return *versioned, *(_built(path.with_suffix("")) for path in versioned)


def sim_cuda() -> Path:
    """Return the simulated libcuda. Raises NativeBuildError."""
    return _built(LIB_DIR / "sim" / "libcuda.so.1")


def sim_nvml() -> Path:
    """Return the simulated libnvidia-ml. Raises NativeBuildError."""
    return _built(LIB_DIR / "sim" / "libnvidia-ml.so.1")


def sim_amdsmi() -> Path:
    """Return the simulated libamd_smi, below ``lib`` as in a directory of ROCm. Raises NativeBuildError."""
    return _built(LIB_DIR / "sim" / "rocm" / "lib" / "libamd_smi.so")


def sim_opencl() -> Path:
    """Return the driver of simulated OpenCL platforms (native/sim/opencl/platform.h). Raises NativeBuildError."""
    return _built(LIB_DIR / "sim" / "libmica-sim-opencl.so")


def sim_dcmi() -> Path:
    """Return the simulated libdcmi. Raises NativeBuildError."""
    return _built(LIB_DIR / "sim" / "libdcmi.so")


def sim_level_zero() -> Path:
    """Return the simulated Level Zero loader, of which there is Intel's sysman. Raises NativeBuildError."""
    return _built(LIB_DIR / "sim" / "libze_loader.so.1")


def sim_dir() -> Path:
    """Return the directory of the simulated drivers, for LD_LIBRARY_PATH. Raises NativeBuildError."""
    return sim_cuda().parent


def bench_driver() -> Path:
    """Return the bench's driver, whose calls cost next to nothing. Raises NativeBuildError."""
    return _built(LIB_DIR / "bench" / "libcuda.so.1")


def bench_tenant() -> Path:
    """Return the tenants' program of the isolation bench. Raises NativeBuildError."""
    return _built(LIB_DIR / "bench" / "tenant")


def bench_server() -> Path:
    """Return the inference server's program of the SLO bench. Raises NativeBuildError."""
    return _built(LIB_DIR / "bench" / "server")


def bench_call_cost() -> Path:
    """Return the program that times the driver's calls. Raises NativeBuildError."""
    return _built(LIB_DIR / "bench" / "call_cost")


def _built(path: Path) -> Path:
    if not path.is_file():
        raise NativeBuildError(f"{path}: not built; run `make native`")
    return path
