"""Where a shim can be loaded, and what a program gets where it can't. docs/adr/0013-portability-baseline.md

The delivered binaries run under an old glibc and under musl in scripts/baseline_test.sh; here is what any machine can check.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from shim_node import UUIDS, Node

from mica.enforcer.tenancy import NO_DEVICE
from mica.native import LIB_DIR

NO_SUCH_DEVICE = 100
SHIMS = ["libcuda.so.1", "libnvidia-ml.so.1"]
BASELINE = (2, 17)
SURPLUS_TLS_BYTES = 1664
"""What glibc 2.17 keeps for all libraries with static thread-local words that come after the start."""


def readelf(option: str, shim: str) -> str:
    """What binutils says of a delivered shim."""
    command = ["readelf", "-W", option, str(LIB_DIR / "shim" / shim)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("shim", SHIMS)
def test_a_shim_needs_no_c_library_newer_than_the_baseline(shim: str) -> None:
    """Every version that it asks of the C library is glibc's of 2.17 or older."""
    needs = re.findall(r"Name: (\S+)", readelf("--version-info", shim))
    assert len(needs) > 2, "the shim names no versions: this test does not see what it checks"
    versions = {need: re.fullmatch(r"GLIBC_(\d+(?:\.\d+)+)", need) for need in needs}
    late = [need for need, found in versions.items() if found is None or tuple(map(int, found[1].split(".")))[:2] > BASELINE]
    assert late == []


@pytest.mark.parametrize("shim", SHIMS)
def test_a_shim_needs_the_c_library_alone(shim: str) -> None:
    """A tenant's image need not have anything beyond the C library, in the parts in which glibc 2.17 has it."""
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", readelf("--dynamic", shim)))
    assert "libc.so.6" in needed
    assert needed <= {"libc.so.6", "libdl.so.2", "libpthread.so.0"}


def test_a_late_shim_leaves_room_for_other_libraries_thread_local_words() -> None:
    """A program that opens the shim only later still finds place for its thread-local words, with most of it left to others."""
    found = re.search(r"^\s*TLS\s+(?:0x\w+\s+){4}(0x\w+)", readelf("--segments", "libcuda.so.1"), re.MULTILINE)
    assert found is not None
    assert 0 < int(found[1], 16) <= SURPLUS_TLS_BYTES // 3


CLIENT = """
import ctypes
driver, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(0)
print(driver.cuInit(0), driver.cuDeviceGetCount(ctypes.byref(count)), count.value)
"""


def start(node: Node, shim: Path, visible: str) -> list[int]:
    """What a program of slice a, with `shim` preloaded, gets of cuInit, and how many devices; empty if it did not start."""
    node.place("a")
    gate = {"CUDA_VISIBLE_DEVICES": visible, "MICA_VISIBLE_DEVICES": UUIDS[0], "LD_PRELOAD": str(shim)}
    command = [sys.executable, "-c", CLIENT]
    done = subprocess.run(command, env=node.environment("a") | gate, capture_output=True, text=True, check=False)
    return [int(word) for word in done.stdout.split()]


def test_the_shim_opens_the_way_to_the_slices_devices(node: Node) -> None:
    """Loaded, the shim puts the slice's device where the attach file had a word that names none."""
    assert start(node, LIB_DIR / "shim" / "libcuda.so.1", NO_DEVICE) == [0, 0, 1]


@pytest.mark.parametrize("damage", ["missing", "no library"])
def test_a_program_without_its_shim_has_no_device(node: Node, tmp_path: Path, damage: str) -> None:
    """Where the loader can't load the shim it goes on without, but the driver then has no device; a plain list runs free."""
    shim = tmp_path / "libcuda.so.1"
    if damage == "no library":
        shim.write_text("no library")
    assert start(node, shim, NO_DEVICE)[::2] == [NO_SUCH_DEVICE, 0]
    assert start(node, shim, UUIDS[0]) == [0, 0, 1], "the control: without the closed gate the whole device is there"


def test_a_program_does_not_start_on_a_c_library_that_is_too_old(node: Node, tmp_path: Path) -> None:
    """A version that the C library lacks ends the program in the loader, before anything of it runs."""
    shim = tmp_path / "libcuda.so.1"
    whole = (LIB_DIR / "shim" / "libcuda.so.1").read_bytes()
    assert b"GLIBC_2.17\0" in whole
    shim.write_bytes(whole.replace(b"GLIBC_2.17\0", b"GLIBC_9.99\0"))
    assert start(node, shim, UUIDS[0]) == []
