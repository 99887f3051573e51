"""Simulated OpenCL platforms beside this machine's own: what they list, how a process sees them, and what discovery reads."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from msgspec import convert
from opencl_node import NODE

from mica.events import Device
from mica.native import sim_opencl

ARC_UUID: Final = "868680a0560800000300000000000000"
ARC: Final = f"""
platform Intel(R) OpenCL Graphics
vendor Intel(R) Corporation
device Intel(R) Arc(TM) A770
vendor_id 0x8086
memory 17179869184
units 512
uuid {ARC_UUID}
pci 0000:03:00.0
"""
ADRENO: Final = """
platform QUALCOMM Snapdragon(TM)
vendor QUALCOMM
device QUALCOMM Adreno(TM)
vendor_id 0xbf4d3c4b
memory 4294967296
units 6
device QUALCOMM Adreno(TM)
vendor_id 0xbf4d3c4b
memory 4294967296
units 6
"""
RADEON: Final = """
platform AMD Accelerated Parallel Processing
vendor Advanced Micro Devices, Inc.
device gfx942
vendor_id 0x1002
memory 206158430208
units 304
pci 0000:85:00.0
"""
MALI: Final = """
platform ARM Platform
vendor ARM
device Mali-G710
vendor_id 0xa8670000
memory 4294967296
"""

DISCOVER: Final = """
import sys
from mica.discovery.probe import FIRST_S, Probe
from mica.vendors import OPENERS
import msgspec
survey = Probe({"opencl": OPENERS["opencl"]}, first_s=FIRST_S).read()
sys.stdout.buffer.write(msgspec.json.encode(survey.devices))
"""


def drivers_folder(root: Path, *libraries: Path | str) -> Path:
    """A folder that names these drivers, for OCL_ICD_VENDORS."""
    folder = root / "drivers"
    folder.mkdir(exist_ok=True)
    for index, library in enumerate(libraries):
        (folder / f"{index}.icd").write_text(f"{library}\n")
    return folder


def platforms(root: Path, *described: str, fail: str = "") -> dict[str, str]:
    """What a process is started with that is to see these platforms; ``fail``: a call that fails on all of them."""
    file = root / "platforms"
    text = "".join(described)
    file.write_text(text.replace("\ndevice", f"\nfail {fail}\ndevice") if fail else text)
    return {"MICA_SIM_OPENCL": str(file), "OCL_ICD_VENDORS": str(drivers_folder(root, sim_opencl()))}


def discovered(**environment: str) -> tuple[tuple[Device, ...], str]:
    """What discovery reads of OpenCL, and what it wrote on stderr."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MICA_", "OPENCL_"))}
    done = subprocess.run(
        [sys.executable, "-c", DISCOVER],
        env=plain | {"MICA_NODE": NODE} | environment,
        capture_output=True,
        check=True,
        timeout=60,
    )
    return convert(json.loads(done.stdout), tuple[Device, ...]), done.stderr.decode()
