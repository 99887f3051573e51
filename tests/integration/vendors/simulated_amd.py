"""Programs for a simulated node: each does something with its AMD devices, and prints what it saw as JSON.

The engine is mapped once per process, so that every one of them needs its own.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec

from mica.events import Partition
from mica.hardware import BooksReader
from mica.vendors import OPENERS, PartitionInUseError, VendorAbsentError, VendorError
from mica.vendors.amd import AmdDriver

DIRECTORY = Path(os.environ["MICA_SIM_DIR"])
CPX = Partition(profile="CPX/NPS1", profile_id=81, start=3, size=1)
CPX4 = Partition(profile="CPX/NPS4", profile_id=84, start=3, size=1)
DPX = Partition(profile="DPX/NPS1", profile_id=33, start=4, size=4)
SPX = Partition(profile="SPX/NPS1", profile_id=17, start=0, size=8)


def said_by(call: Any, *arguments: Any) -> str:
    """How the call is refused."""
    try:
        call(*arguments)
    except VendorError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


class Occupant:
    """Another process with memory on a device or partition."""

    def __init__(self, uuid: str, size: int) -> None:
        command = [sys.executable, __file__, "occupy", uuid, str(size)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def leave(self) -> None:
        self.process.communicate(b"\n")


def occupy(uuid: str, size: str) -> None:
    BooksReader(DIRECTORY).control(f"occupy {uuid} {size}")
    print("there", flush=True)
    sys.stdin.readline()


def discovery() -> Any:
    driver = OPENERS["amd"]()
    devices = driver.devices()
    answer = {
        "devices": devices,
        "links": driver.links(),
        "living": driver.living(),
        "samples": [driver.sample(each.id) for each in devices],
        "processes": [driver.compute_processes(each.id) for each in devices],
        "rocm_home": os.environ.get("ROCM_HOME"),
        "library": str(sys.modules["amdsmi"].amdsmi_wrapper.location),
    }
    driver.close()
    driver.close()
    return answer


def life() -> Any:
    driver, reader = AmdDriver(), BooksReader(DIRECTORY)
    device = driver.devices()[1].id
    made = driver.create(device, CPX)
    again = driver.create(device, CPX)
    answer = {
        "made": made,
        "again": again,
        "living": driver.living()[device],
        "engine": [each.compute[0].uuid for each in sorted(reader.read().devices[1].instances, key=lambda each: each.start)],
        "partitioned": driver.describe("1"),
        "access": driver.access(device, made),
        "sample": driver.sample(made.uuid),
        "whole_sample": driver.sample(device),
    }
    driver.destroy(device, made)
    answer["after_destroy"] = len(driver.living()[device])
    other = driver.create(device, DPX)
    answer["other"], answer["gone"] = other, said_by(driver.access, device, made)
    answer["spx"] = driver.create(device, SPX)
    driver.make_whole(device)
    answer["whole"] = driver.describe("1")
    answer["books"] = reader.read().devices[1].layout
    answer["whole_living"] = driver.living()[device]
    answer["whole_access"] = driver.access(device, answer["spx"])
    return answer


def in_use() -> Any:
    driver = AmdDriver()
    device = driver.devices()[0].id
    made = driver.create(device, CPX)
    guest = Occupant(made.uuid, 3 << 30)
    answer: dict[str, Any] = {"pid": guest.process.pid}
    try:
        driver.create(device, DPX)
    except PartitionInUseError as error:
        answer["pids"] = sorted(error.pids)
    answer["whole"] = said_by(driver.make_whole, device)
    answer["processes"] = driver.compute_processes(made.uuid)
    answer["device_processes"] = driver.compute_processes(device)
    answer["neighbour"] = driver.compute_processes(driver.living()[device][0].uuid)
    answer["sample"] = driver.sample(made.uuid)
    answer["device_sample"] = driver.sample(device)
    answer["still"] = driver.living()[device]
    guest.leave()
    answer["then"] = driver.create(device, DPX)
    return answer


def memory_mode() -> Any:
    driver = AmdDriver()
    devices = [each.id for each in driver.devices()]
    guest = Occupant(devices[0], 1 << 30)
    answer = {"refused": said_by(driver.create, devices[3], CPX4), "partitioned": driver.describe("3").partitioned}
    guest.leave()
    answer["made"] = driver.create(devices[3], CPX4)
    answer["modes"] = sorted({each.layout for partitions in driver.living().values() for each in partitions})
    answer["counts"] = [len(driver.living()[each]) for each in devices]
    guest = Occupant(answer["made"].uuid, 1 << 30)
    answer["kept"] = said_by(driver.make_whole, devices[0])
    guest.leave()
    driver.make_whole(devices[0])
    answer["after"] = [each.partitioned for each in driver.devices()]
    return answer


def by_hand() -> Any:
    driver, reader = AmdDriver(), BooksReader(DIRECTORY)
    device = driver.devices()[2].id
    before = driver.living()[device]
    reader.control("layout 2 DPX/NPS1")
    halves = driver.living()[device]
    reader.control("layout 2 QPX/NPS1")
    gone = said_by(driver.sample, halves[1].uuid)
    quarters = driver.living()[device]
    reader.control("reboot")
    return {"before": before, "halves": halves, "gone": gone, "quarters": quarters, "rebooted": driver.living()[device]}


def anothers() -> Any:
    driver, reader = AmdDriver(), BooksReader(DIRECTORY)
    device = driver.devices()[1].id
    reader.control("layout 1 DPX/NPS1")
    reader.control("layout 1 CPX/NPS1")
    last = next(each for each in reader.read().devices[1].instances if each.start == 7)
    guest = Occupant(last.compute[0].uuid, 1 << 30)
    answer = {
        "described": driver.describe("1"),
        "sample": driver.sample(device),
        "processes": driver.compute_processes(device),
        "pid": guest.process.pid,
        "last": driver.sample(last.compute[0].uuid),
    }
    guest.leave()
    reader.control("layout 1 DPX/NPS1")
    answer["halved"], answer["half_sample"] = driver.describe("1"), driver.sample(device)
    return answer


def refused() -> Any:
    driver, reader = AmdDriver(), BooksReader(DIRECTORY)
    device = driver.devices()[0].id
    reader.control("set 0 refusals 1")
    answer = {"said": said_by(driver.create, device, CPX), "left": driver.living()[device]}
    return answer | {"then": driver.create(device, CPX)}


def sick() -> Any:
    driver, reader = AmdDriver(restart_s=0.0), BooksReader(DIRECTORY)
    devices = [each.id for each in driver.devices()]
    driver.living()
    reader.control("set 0 lost 1")
    answer = {
        "lost": said_by(driver.describe, "0"),
        "finding": driver.findings(devices[0]),
        "others": [said_by(driver.describe, str(index)) for index in range(1, 8)],
        "living": len(driver.living()),
    }
    reader.control("set 0 lost 0")
    reader.control(f"set 0 hang_ms {3_600_000}")
    Thread(target=driver.describe, args=("0",), daemon=True).start()
    answer["beside"] = [driver.sample(each).vram_total_bytes for each in devices[1:]]
    answer["found"] = [driver.findings(each) for each in devices[1:]]
    return answer


def findings() -> Any:
    driver, reader = AmdDriver(), BooksReader(DIRECTORY)
    first, second = [each.id for each in driver.devices()][:2]
    answer: dict[str, Any] = {"healthy": [driver.findings(first), driver.findings(second)]}
    for event in ("0 throttle 1", "1 pre_reset 0", "1 post_reset 0", "1 vm_fault 0", "7 throttle 0"):
        reader.control(f"event {event}")
    answer["first"], answer["second"], answer["again"] = driver.findings(first), driver.findings(second), driver.findings(second)
    reader.control("set 0 ecc_uncorrected 3")
    reader.control("set 0 temperature_c 104")
    answer["state"] = driver.findings(first)
    reader.control("set 0 temperature_c 111")
    answer["hot"] = driver.findings(first)
    driver.create(second, CPX)
    driver.findings(first)
    reader.control("event 0 throttle 1")
    answer["watched_anew"] = driver.findings(first)[0]
    return answer


def absent() -> Any:
    try:
        AmdDriver()
    except VendorAbsentError as error:
        return str(error)
    return "there"


def main() -> None:
    name, *arguments = sys.argv[1:]
    answer = globals()[name](*arguments)
    if name != "occupy":
        sys.stdout.buffer.write(msgspec.json.encode(answer))
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)  # a thread may hang in the library


if __name__ == "__main__":
    main()
