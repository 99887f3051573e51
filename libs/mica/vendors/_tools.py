"""Vendors' command-line tools. Invariant: in a simulation only its stand-ins are run; a tool that hangs is ended."""

import os
import shutil
import subprocess
from collections.abc import Container, Sequence
from pathlib import Path

from mica.vendors._port import VendorAbsentError, VendorError

SIMULATION = "MICA_SIM_DIR"


class ToolSilentError(VendorError):
    """A tool did not answer in time, and was ended."""


def find_tool(name: str, places: Sequence[Path] = ()) -> Path:
    """Where the tool is: beside the simulated node, else in ``places`` or on the path.

    Raises:
        VendorAbsentError: it is not here.
    """
    simulated = os.environ.get(SIMULATION)
    if simulated:
        places = (Path(simulated) / "bin",)
    for place in places:
        if os.access(place / name, os.X_OK):
            return place / name
    found = None if simulated else shutil.which(name)
    if found is None:
        raise VendorAbsentError(f"{name}: not found")
    return Path(found)


def run_tool(command: Sequence[str | Path], timeout_s: float, accept: Container[int] = (0,)) -> str:
    """What the tool prints; exit codes in ``accept`` are answers.

    Raises:
        ToolSilentError: it is not done in time.
        VendorError: it fails.
    """
    name = Path(command[0]).name
    what = " ".join((name, *map(str, command[1:])))
    try:
        done = subprocess.run([*map(str, command)], capture_output=True, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise ToolSilentError(f"{what}: no answer within {timeout_s:g} s") from None
    except OSError as error:
        raise VendorError(f"{what}: {error.strerror}") from None
    output = done.stdout.decode(errors="replace")
    if done.returncode not in accept:
        said = (done.stderr.decode(errors="replace").strip() or output.strip()).rsplit("\n", 1)[-1][:200]
        raise VendorError(f"{what}: ended with {done.returncode}{said and ': ' + said}")
    return output
