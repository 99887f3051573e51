"""Compile C code for Python: ``mica.region._abi``, the region library and its layout, and ``mica.packing._kernel``.

Owns no layout: the declarations come from the headers (``proto/quota_region.h``, ``native/region/region.h``,
``native/packing/packing.h``, ``native/packing/moves.h``) through the C preprocessor, the constants from their ``#define``
lines, and the code of the regions is the C code that the shims link.

Run with the interpreter that will import them: ``python native/build_cffi.py``.
"""

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
NATIVE = ROOT / "native"


class Binding(NamedTuple):
    """One extension module: its name, the headers that are bound, the code, and the flags beside those of all."""

    module: str
    headers: tuple[Path, ...]
    folder: Path
    flags: tuple[str, ...]

    @property
    def output(self) -> Path:
        """Where the module is imported from."""
        return (ROOT / "libs").joinpath(*self.module.split(".")).with_suffix(".abi3.so")

    @property
    def prelude(self) -> str:
        """What the code between C and Python begins with."""
        lines = ["#define MICA_CFFI", "#include <stdbool.h>", "#include <stddef.h>", "#include <stdint.h>"]
        return "\n".join([*lines, *(f'#include "{header.name}"' for header in self.headers)]) + "\n"


PACKING = (NATIVE / "packing" / "packing.h", NATIVE / "packing" / "moves.h")
BINDINGS = (
    Binding("mica.region._abi", (ROOT / "proto" / "quota_region.h", NATIVE / "region" / "region.h"), NATIVE / "region", ("-O2",)),
    Binding("mica.packing._kernel", PACKING, NATIVE / "packing", ("-O3", "-ffp-contract=off", "-fno-trapping-math")),
)

_CONSTANT = re.compile(r"^#define\s+(MICA_[A-Z0-9_]+)\s+(?=[0-9(])", re.MULTILINE)


def compiler() -> list[str]:
    """Return the C compiler's command: $CC, else gcc."""
    return os.environ.get("CC", "gcc").split()


def declarations(binding: Binding) -> str:
    """Return what cffi parses: the preprocessed headers and one line for each integer constant."""
    text = "\n".join(header.read_text() for header in binding.headers)
    command = [*compiler(), "-E", "-P", "-DMICA_CFFI", "-x", "c", "-"]
    preprocessed = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    constants = "".join(f"#define {name} ...\n" for name in _CONSTANT.findall(text))
    return constants + preprocessed


def python_include() -> Path:
    """Return the directory of Python.h, or end with one line that says what to install."""
    include = Path(sysconfig.get_path("include"))
    if not (include / "Python.h").is_file():
        sys.exit(f"mica: no Python.h in {include}; install the interpreter's development headers (Debian: python3-dev)")
    return include


def build(binding: Binding) -> None:
    """Write the compiled module beside its package, replacing it in one step."""
    try:
        import cffi
    except ImportError:
        sys.exit(f"mica: {sys.executable} has no cffi, which {binding.module} is built with; run `make setup`")

    ffi = cffi.FFI()
    ffi.cdef(declarations(binding))
    ffi.set_source(binding.module, binding.prelude)
    include = python_include()
    with tempfile.TemporaryDirectory() as scratch:
        glue = Path(scratch) / "glue.c"
        ffi.emit_c_code(str(glue))
        built = binding.output.with_name(f"{binding.output.name}.{os.getpid()}.new")
        flags = ["-std=c11", *binding.flags, "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wno-unused-parameter"]
        paths = [f"-I{ROOT / 'proto'}", f"-I{binding.folder}", f"-I{include}"]
        sources = sorted(map(str, binding.folder.glob("*.c")))
        try:
            subprocess.run([*compiler(), *flags, *paths, str(glue), *sources, "-lm", "-o", str(built)], check=True)
            built.replace(binding.output)
        finally:
            built.unlink(missing_ok=True)
    print(f"built {binding.output.relative_to(ROOT)}")


if __name__ == "__main__":
    try:
        for each in BINDINGS:
            build(each)
    except FileNotFoundError as error:
        sys.exit(f"mica: {error.filename}: no such program; building the bindings needs a C compiler (gcc, or set CC)")
    except subprocess.CalledProcessError as error:
        sys.exit(f"mica: a binding was not built: {error.cmd[0]} ended with status {error.returncode}\n{error.stderr or ''}")
