"""`make compose-test`: starts tests/acceptance/compose, which says what it does."""

import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
runpy.run_module("tests.acceptance.compose", run_name="__main__")
