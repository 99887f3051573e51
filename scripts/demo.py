"""``make demo``: one real job through the whole system, on a simulated node. Exits 1 when a check fails."""

import sys
from pathlib import Path

from mica.cli.demo._main import main

if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent.parent / "examples"))
