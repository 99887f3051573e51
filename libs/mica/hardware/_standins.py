"""Puts the stand-ins of vendors' tools beside a simulated node, in ``bin/``. Owns the list of them.

Invariant: a node has the tools of the vendors whose devices it has, and no others.
"""

import os
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from mica.events import Vendor

STANDINS: Final[Mapping[str, tuple[Vendor, str]]] = {
    "qaic-util": (Vendor.QUALCOMM, "mica.standins.qaic_util"),
    "qaic-device-partition": (Vendor.QUALCOMM, "mica.standins.qaic_device_partition"),
    "npu-smi": (Vendor.HUAWEI, "mica.standins.npu_smi"),
    "xpu-smi": (Vendor.INTEL, "mica.standins.xpu_smi"),
}
"""By the tool's name: whose it is, and the module whose ``main()`` stands in for it."""

_PROGRAM: Final = """#!{python} -S
import os
import sys
sys.path += {places!r}
os.environ.setdefault("MICA_SIM_DIR", {directory!r})
from {module} import main
raise SystemExit(main())
"""
"""Without ``site``, which is half of what starting Python costs: its only use here are the two places that are written in."""


def write_standins(vendors: Iterable[Vendor], directory: Path) -> None:
    """Write the tools of ``vendors`` into ``directory``/bin, and take away all others. Raises OSError."""
    wanted = set(vendors)
    place = directory / "bin"
    places = [str(Path(__file__).resolve().parents[2]), sysconfig.get_path("purelib")]
    for name, (vendor, module) in STANDINS.items():
        path = place / name
        if vendor not in wanted:
            path.unlink(missing_ok=True)
            continue
        place.mkdir(exist_ok=True)
        draft = place / f"{name}.{os.getpid()}"
        program = _PROGRAM.format(python=sys.executable, places=places, directory=str(directory.resolve()), module=module)
        draft.write_text(program)
        draft.chmod(0o755)
        draft.replace(path)
