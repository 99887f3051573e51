"""How amdsmi is kept, and how its simulated library is made."""

import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import pytest
from fake_amdsmi import FakeAmdSmi

from mica.native import LIB_DIR
from mica.vendors import VendorError
from mica.vendors.amd._library import Gate, open_amdsmi

ROOT = Path(__file__).resolve().parents[3]


def test_nobody_is_inside_with_who_is_alone() -> None:
    """Who is alone waits for those inside, and those who come wait for who is alone."""
    gate, inside, leave, order = Gate(), Event(), Event(), []

    def stay() -> None:
        with gate.shared():
            inside.set()
            leave.wait()
            order.append("shared")

    def be_alone() -> None:
        with gate.alone(60):
            order.append("alone")

    first, second = Thread(target=stay), Thread(target=be_alone)
    first.start()
    inside.wait()
    second.start()
    leave.set()
    first.join()
    second.join()
    with gate.shared():
        order.append("after")
    assert order == ["shared", "alone", "after"]


def test_a_call_that_hangs_keeps_nobody_out() -> None:
    """Who can't be alone in time gives up, and others come in as before."""
    gate = Gate()
    with (
        gate.shared(),
        pytest.raises(VendorError, match="can not be started anew: 1 calls are under way after 0 s"),
        gate.alone(0),
    ):
        pytest.fail("alone with somebody inside")
    with gate.shared():
        pass


@pytest.mark.skipif(not (LIB_DIR / "sim" / "rocm" / "lib" / "libamd_smi.so").exists(), reason="run `make native` first")
def test_another_library_is_refused_in_a_simulation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A package that is loaded with the system's library already is not used."""
    fake = FakeAmdSmi()
    fake.amdsmi_wrapper = type(sys)("amdsmi_wrapper")
    fake.amdsmi_wrapper.location = "/opt/rocm/lib/libamd_smi.so"
    monkeypatch.setitem(sys.modules, "amdsmi", fake)
    monkeypatch.setenv("MICA_SIM_DIR", str(tmp_path))
    with pytest.raises(VendorError, match=r"loaded with /opt/rocm/lib/libamd_smi.so, which is not the simulated library"):
        open_amdsmi()


def test_the_simulated_library_is_the_packages() -> None:
    """What the generator makes of the installed package is what is under version control."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "gen_amdsmi.py", "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "abi.h: up to date\n"), done.stderr
