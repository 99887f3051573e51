"""Stands in for ``qaic-device-partition``: holds a group of NSPs as a derived device for as long as it runs.

Invariant: it never undoes anything. The engine takes back what it held when it is dead, however it died.
"""

import getopt
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

from mica.standins._engine import Engine
from mica.standins._qaic import QaicDevice, qaic_devices

MIB: Final = 1 << 20
MANDATORY: Final = ("ddrSize", "numNsp", "numMcid", "numSem", "numVc", "l2Region")
OPTIONAL: Final = ("numNetworks",)
GONE_S: Final = 2.0
"""How often it looks whether the simulated machine is still there; the tool itself just waits."""
FAILED: Final = "Failed to create partitions!"
USAGE: Final = """Usage: qaic-partition [options]
  -p, --partition-config <path>      File path to the partition config json.
  -d, --aic-device-id                Optional qaic devices id. Default: Apply to all devices
  -h, --help                         help"""


def main() -> int:
    """Hold a derived device on one device or on each of them; the exit code."""
    try:
        options, _ = getopt.gnu_getopt(sys.argv[1:], "p:d:h", ["partition-config=", "aic-device-id=", "help"])
    except getopt.GetoptError:
        print(USAGE)
        return 0
    given = {name.lstrip("-")[0]: value for name, value in options}
    if "p" not in given or "h" in given:
        print(USAGE if "h" in given else f"Invalid config\n{USAGE}")
        return 0
    engine = Engine()
    natives = [each for each in qaic_devices(engine)[0] if each.partition is None]
    wanted = [each for each in natives if each.qid == int(given["d"])] if "d" in given else natives
    config = _read_config(given["p"])
    made = config is not None and [_hold(engine, device, config) for device in wanted]
    if not made or not any(made):
        print(FAILED, flush=True)
        return 1
    print("Running... ", flush=True)
    state = Path(os.environ["MICA_SIM_DIR"], "engine.state")
    while state.exists():  # a machine that is gone takes its processes with it
        time.sleep(GONE_S)
    return 0


def _read_config(path: str) -> dict[str, int] | None:
    try:
        config: Any = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        print("Failed to open partition config file", file=sys.stderr)
        return None
    unknown = [key for key in config if key not in MANDATORY + OPTIONAL]
    missing = [key for key in MANDATORY if key not in config]
    if unknown or missing or not all(isinstance(value, int) and value >= 0 for value in config.values()):
        print(f"Invalid config detected {(unknown or missing or ['value'])[0]}", file=sys.stderr)
        return None
    found: dict[str, int] = config
    return found


def _hold(engine: Engine, device: QaicDevice, config: dict[str, int]) -> bool:
    """Whether the device gave it. The simulated node has groups of the catalogue's sizes, each with its part of the memory."""
    native = device.native
    share_mib = (native["vram_bytes"] - native["reserve_bytes"]) // MIB * config["numNsp"] // native["multiprocessors"]
    if native["lost"] or not config["numVc"] or config["ddrSize"] > share_mib:
        return False
    failed, _ = engine.control(f"hold {native['uuid']} {config['numNsp']}nsp")
    return not failed
