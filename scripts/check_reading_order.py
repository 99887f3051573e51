"""Every source of the shim and of the regions has its place in native/shim/README.md, and every file named there exists."""

import re
import sys
from pathlib import Path

NATIVE = Path(__file__).parents[1] / "native"
GUIDE = NATIVE / "shim" / "README.md"
FOLDERS = ("region", "shim/core", "shim/cuda", "shim/nvml", "shim/opencl")
SOURCES = (".c", ".h", ".S", ".def", ".map")


def main() -> int:
    """Print what is missing; 1 if anything is."""
    named = set(re.findall(r"`([\w-]+\.(?:c|h|S|def|map))`", GUIDE.read_text()))
    there = {path.name for folder in FOLDERS for path in (NATIVE / folder).iterdir() if path.suffix in SOURCES}
    wrong = [f"{name} has no place in the reading order" for name in sorted(there - named)]
    wrong += [f"{name} is named and does not exist" for name in sorted(named - there)]
    for line in wrong:
        print(f"{GUIDE.relative_to(NATIVE.parent)}: {line}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
