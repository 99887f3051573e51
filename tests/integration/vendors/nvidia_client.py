"""A program on a simulated node: runs each line of Python it is sent, with a driver and a hand on the node; answers are JSON."""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor  # noqa: F401 - for the code that is sent
from pathlib import Path

import msgspec

from mica.events import Partition  # noqa: F401
from mica.hardware import BooksReader
from mica.vendors import PartitionInUseError
from mica.vendors.nvidia import NvidiaDriver

driver = NvidiaDriver()
control = BooksReader(Path(os.environ["MICA_SIM_DIR"])).control
ids = [driver.describe(key).id for key in driver.keys()]  # noqa: SIM118 - a driver is no dictionary
names = dict(globals())
names["names"] = names
for line in sys.stdin:
    try:
        answer = {"value": eval(json.loads(line), names)}
    except PartitionInUseError as error:
        answer = {"error": f"{type(error).__name__}: {error}", "pids": sorted(error.pids)}
    except Exception as error:  # noqa: BLE001 - every failure is the asking test's to judge
        answer = {"error": f"{type(error).__name__}: {error}"}
    sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
    sys.stdout.flush()
