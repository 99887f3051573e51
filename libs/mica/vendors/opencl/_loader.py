"""The OpenCL loader of this machine, and the drivers that are installed for it.

Invariant: nothing here loads either of them: that costs memory and time, and a driver may take its process with it.
"""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

USUAL_DRIVERS: Final = Path("/etc/OpenCL/vendors")
SYSTEM_LOADER: Final = "libOpenCL.so.1"
POCL: Final = "pocl"
NO_HOME: Final = "/nonexistent"


def loader_path() -> str:
    """PyOpenCL's own loader, which its programs use, else the system's, which may not be there."""
    home = _pyopencl()
    found = sorted((home / ".libs").glob("libOpenCL*.so*")) if home else []
    return str(found[0]) if found else SYSTEM_LOADER


def loader_environment(inherited: Mapping[str, str], *, processors: bool) -> dict[str, str]:
    """What a process needs that asks the loader for all devices; ``processors``: PyOpenCL's PoCL is among the drivers.

    A layer has no business there: it would show a slice, or less. PyOpenCL's loader does not start without PYOPENCL_HOME.
    """
    environment = {name: value for name, value in inherited.items() if name != "OPENCL_LAYERS"} | {"PYOPENCL_HOME": NO_HOME}
    home = _pyopencl()
    if processors and home:
        paths = [str(home / ".libs"), *filter(None, [inherited.get("LD_LIBRARY_PATH")])]
        environment |= {"PYOPENCL_HOME": str(home), "LD_LIBRARY_PATH": ":".join(paths)}
    return environment


def drivers(environment: Mapping[str, str], *, processors: bool) -> tuple[Path, ...]:
    """The files that name the installed drivers; without ``processors``, those of PoCL are left out.

    Source: ocl-icd, libOpenCL(7): OCL_ICD_VENDORS is a directory of ``.icd`` files, or one such file or driver.
    """
    named = environment.get("OCL_ICD_VENDORS") or environment.get("OPENCL_VENDOR_PATH")
    place = Path(named) if named else USUAL_DRIVERS
    only = bool(named) and not place.is_dir()
    found = [place] if only and place.exists() else sorted(place.glob("*.icd"))
    if not processors:
        return tuple(path for path in found if not _is_pocl(path))
    home = _pyopencl()
    return (*found, *(sorted((home / ".libs").glob("*.icd")) if home and not only else []))


def _is_pocl(path: Path) -> bool:
    """Whether it names PoCL, which computes on processors."""
    try:
        return POCL in path.name or (path.suffix == ".icd" and POCL in path.read_text(errors="replace"))
    except OSError:
        return False


def _pyopencl() -> Path | None:
    """Where PyOpenCL is installed; it is not imported."""
    spec = find_spec("pyopencl")
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def drivers_here(*, processors: bool) -> tuple[Path, ...]:
    """The same for this process."""
    return drivers(os.environ, processors=processors)
