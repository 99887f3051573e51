"""A program for a simulated node with Intel devices: does one of the things below and prints what came, as JSON."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from mica.events import Partition
from mica.hardware import BooksReader
from mica.vendors import PartitionInUseError, VendorError, open_drivers
from mica.vendors.intel import IntelDriver

SIMULATION = Path(os.environ["MICA_SIM_DIR"])
OCCUPANT = "import sys; from simulated_intel import occupy; occupy(*sys.argv[1:])"


def occupy(name: str, size: str) -> None:
    """Be a process on the device, tile or function called so, until standard input ends."""
    BooksReader(SIMULATION).control(f"occupy {name} {size}")
    print("there", flush=True)
    sys.stdin.read()


@contextmanager
def occupant(name: str, size: int) -> Iterator[int]:
    """Somebody on the device, tile or function; its pid."""
    command = [sys.executable, "-c", OCCUPANT, name, str(size)]
    place = Path(__file__).parent
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=place) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "there\n"
        try:
            yield process.pid
        finally:
            process.stdin.close()
            process.wait(timeout=20)


def function(number: int, start: int) -> Partition:
    """A virtual function of ``number``, as the planner asks for it."""
    return Partition(profile=f"vf{number}", profile_id=number, start=start, size=1, layout=f"vf{number}")


def refused(call: Callable[[], Any]) -> str:
    """Why not: the error's name, the pids that it names, and its words."""
    try:
        call()
    except PartitionInUseError as error:
        return f"in use by {sorted(error.pids)}"
    except VendorError as error:
        return str(error)
    return "done"


def inventory(driver: IntelDriver, _: BooksReader) -> dict[str, Any]:
    """What is there, and twice how it is."""
    devices = driver.devices()
    first = [driver.sample(device.id) for device in devices]
    return {
        "devices": devices,
        "links": driver.links(),
        "living": driver.living(),
        "access": [driver.access(device.id, None) for device in devices],
        "samples": [first, [driver.sample(device.id) for device in devices]],
        "processes": [driver.compute_processes(device.id) for device in devices],
        "unknown": refused(lambda: driver.sample("no such device")),
    }


def life(driver: IntelDriver, _: BooksReader) -> dict[str, Any]:
    """A device in two functions, then in four, whole, and by its tiles."""
    first, second = (device.id for device in driver.devices()[:2])
    made = driver.create(first, function(2, 1))
    halves = driver.living()
    again = driver.create(first, function(2, 0))
    reached = driver.access(first, made)
    reading = driver.sample(made.uuid)
    driver.destroy(first, made)
    kept = driver.living()[first]
    described = driver.devices()
    quarter = driver.create(first, function(4, 3))
    late = driver.access(second, None)
    whole = driver.create(first, Partition(profile="whole", profile_id=0, start=0, size=16, layout="whole"))
    tile = driver.create(first, Partition(profile="tile", profile_id=64, start=1, size=1, layout="tiles"))
    return {
        "partitions": [made, again, quarter, whole, tile],
        "halves": halves,
        "kept": kept,
        "after": driver.living(),
        "accesses": [reached, late, driver.access(first, tile), driver.access(first, whole)],
        "reading": reading,
        "described": described,
        "odd": refused(lambda: driver.create(first, function(3, 0))),
        "beyond": refused(lambda: driver.create(first, function(2, 2))),
        "unmade": refused(lambda: driver.create(first, Partition(profile="x", profile_id=9, start=0, size=1, layout="x"))),
    }


def in_use(driver: IntelDriver, _: BooksReader) -> dict[str, Any]:
    """Somebody in a function, then on the whole device."""
    first = driver.devices()[0].id
    half = driver.create(first, function(2, 1))
    answers: dict[str, Any] = {}
    with occupant(half.uuid, 1 << 30) as inside:
        answers["inside"] = inside
        answers["there"] = [driver.compute_processes(name) for name in (first, half.uuid)]
        answers["reading"] = driver.sample(half.uuid)
        answers["held"] = [refused(lambda: driver.create(first, function(4, 0))), refused(lambda: driver.make_whole(first))]
        answers["same"] = refused(lambda: driver.create(first, function(2, 0)))
    answers["free"] = refused(lambda: driver.make_whole(first))
    with occupant(first, 1 << 30) as whole:
        answers["whole"] = whole
        answers["refused"] = refused(lambda: driver.create(first, function(2, 0)))
        driver.terminate(first, whole)
    answers["living"] = driver.living()[first]
    answers["later"] = refused(lambda: driver.create(first, function(2, 0)))
    return answers


def tiles(driver: IntelDriver, _: BooksReader) -> dict[str, Any]:
    """Somebody on a tile, then on the whole device."""
    first = driver.devices()[0].id
    with occupant(f"{first}.1", 1 << 30) as pid:
        answers = {
            "pid": pid,
            "readings": [driver.sample(name) for name in (f"{first}.0", f"{first}.1", first)],
            "processes": driver.compute_processes(first),
            "by_tile": refused(lambda: driver.compute_processes(f"{first}.1")),
            "refused": refused(lambda: driver.create(first, function(2, 0))),
        }
    with occupant(first, 1 << 30):
        return answers | {"whole": [driver.sample(f"{first}.0"), driver.sample(first)]}


def by_hand(driver: IntelDriver, books: BooksReader) -> dict[str, Any]:
    """Functions that somebody else made; then the node is rebooted."""
    second = driver.devices()[1].id
    command = [SIMULATION / "bin/xpu-smi", "vgpu", "-d", "1", "-c", "-n", "4", "--lmem", "30720"]
    subprocess.run(command, check=True, capture_output=True)
    there = driver.living()[second]
    books.control("reboot")
    return {"there": there, "after": driver.living()[second], "device": driver.describe(driver.keys()[1])}


def faults(driver: IntelDriver, books: BooksReader) -> dict[str, Any]:
    """A device that refuses, one that is hot and has errors, one that hangs and one that is lost."""
    first, second, third, fourth = (device.id for device in driver.devices())
    books.control("set 0 refusals 1")
    refusal = refused(lambda: driver.create(first, function(2, 0)))
    left = driver.living()[first]
    retried = refused(lambda: driver.create(first, function(2, 0)))
    quiet = driver.findings(second)
    for command in ("set 1 temperature_c 110", "set 1 ecc_uncorrected 3", "event 1 ecc 7", "event 1 fault 1", "event 2 bus 1"):
        books.control(command)
    loud, later = driver.findings(second), driver.findings(second)
    books.control("set 2 hang_ms 20")
    books.control("set 3 lost 1")
    return {
        "refusal": refusal,
        "left": left,
        "retried": retried,
        "findings": [quiet, loud, later, driver.findings(third)],
        "hot": driver.sample(second),
        "keys": driver.keys(),
        "lost": [refused(lambda: driver.describe(driver.keys()[3])), refused(lambda: driver.sample(fourth))],
        "devices": driver.devices(),
        "links": driver.links(),
    }


def main() -> None:
    """Do what the first argument says."""
    (driver,) = open_drivers()
    assert isinstance(driver, IntelDriver)
    what: dict[str, Callable[[IntelDriver, BooksReader], dict[str, Any]]] = {
        each.__name__: each for each in (inventory, life, in_use, tiles, by_hand, faults)
    }
    sys.stdout.buffer.write(msgspec.json.encode(what[sys.argv[1]](driver, BooksReader(SIMULATION))))
    driver.close()


if __name__ == "__main__":
    main()
