"""Compile ``mica.region._abi``: the region library and its layout, bound for Python.

Owns no layout: the declarations come from ``proto/quota_region.h`` and ``native/region/region.h`` through the C
preprocessor, the constants from their ``#define`` lines, and the code is the C code that the shims link.

Run with the interpreter that will import it: ``python native/region/build_cffi.py``.
"""

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEADERS = (ROOT / "proto" / "quota_region.h", ROOT / "native" / "region" / "region.h")
SOURCES = tuple(sorted((ROOT / "native" / "region").glob("*.c")))
MODULE = "mica.region._abi"
OUTPUT = ROOT / "libs" / "mica" / "region" / "_abi.abi3.so"

_CONSTANT = re.compile(r"^#define\s+(MICA_[A-Z0-9_]+)\s+(?=[0-9(])", re.MULTILINE)

_PRELUDE = """
#define MICA_CFFI
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "quota_region.h"
#include "region.h"
"""


def compiler() -> list[str]:
    """Return the C compiler's command: $CC, else gcc."""
    return os.environ.get("CC", "gcc").split()


def declarations() -> str:
    """Return what cffi parses: the preprocessed headers and one line for each integer constant."""
    text = "\n".join(header.read_text() for header in HEADERS)
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


def build() -> None:
    """Write the compiled module beside ``mica.region``, replacing it in one step."""
    try:
        import cffi
    except ImportError:
        sys.exit(f"mica: {sys.executable} has no cffi, which the region binding is built with; run `make setup`")

    ffi = cffi.FFI()
    ffi.cdef(declarations())
    ffi.set_source(MODULE, _PRELUDE)
    include = python_include()
    with tempfile.TemporaryDirectory() as scratch:
        glue = Path(scratch) / "_abi.c"
        ffi.emit_c_code(str(glue))
        built = OUTPUT.with_name(f"{OUTPUT.name}.{os.getpid()}.new")
        flags = ["-std=c11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wno-unused-parameter"]
        paths = [f"-I{ROOT / 'proto'}", f"-I{ROOT / 'native' / 'region'}", f"-I{include}"]
        try:
            subprocess.run([*compiler(), *flags, *paths, str(glue), *map(str, SOURCES), "-o", str(built)], check=True)
            built.replace(OUTPUT)
        finally:
            built.unlink(missing_ok=True)
    print(f"built {OUTPUT.relative_to(ROOT)}")


if __name__ == "__main__":
    try:
        build()
    except FileNotFoundError as error:
        sys.exit(f"mica: {error.filename}: no such program; building the region binding needs a C compiler (gcc, or set CC)")
    except subprocess.CalledProcessError as error:
        sys.exit(
            f"mica: the region binding was not built: {error.cmd[0]} ended with status {error.returncode}\n{error.stderr or ''}"
        )
