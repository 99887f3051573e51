"""A processor becomes a device through OpenCL, where the node is to have it; PoCL is real here."""

import subprocess
import sys
from pathlib import Path

import pytest

from mica.events import Runtime, Vendor
from mica.vendors import VendorAbsentError, VendorError, open_drivers
from mica.vendors.opencl import SWITCH, OpenClDriver, _driver


@pytest.fixture(autouse=True)
def _on_a_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MICA_NODE", "n1")
    monkeypatch.setenv(SWITCH, "cpu")
    monkeypatch.setenv("OCL_ICD_VENDORS", str(tmp_path))


def test_a_processor_is_listed_with_what_opencl_says_of_it() -> None:
    """Its vendor says that it is a processor, whoever made it, and its runtime is OpenCL alone."""
    (device,) = OpenClDriver().devices()
    assert (device.vendor, device.runtimes, device.simulated) == (Vendor.CPU, (Runtime.OPENCL,), False)
    assert device.vram_bytes > 0
    assert device.multiprocessors > 0
    assert device.id.startswith("OCL-")


def test_a_device_that_opencl_divides_by_counts_says_into_how_many() -> None:
    """PoCL divides its processor into as many parts as it has units."""
    (device,) = OpenClDriver().devices()
    assert device.subdevices_max == device.multiprocessors
    assert not device.subdevices_whole  # PoCL's have no images


def test_a_device_is_called_the_same_at_every_reading_and_otherwise_on_another_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids are the fleet's: two machines with one processor's name are two devices."""
    (here,) = OpenClDriver().devices()
    (again,) = OpenClDriver().devices()
    monkeypatch.setenv("MICA_NODE", "n2")
    (elsewhere,) = OpenClDriver().devices()
    assert here == again
    assert here.id != elsewhere.id


def test_a_reading_is_of_the_machines_memory_and_of_nothing_that_nobody_measures() -> None:
    """No utilisation, power or temperature is made up, and nobody is said to be on it."""
    driver = OpenClDriver()
    (device,) = driver.devices()
    reading = driver.sample(device.id)
    assert 0 < reading.vram_used_bytes < reading.vram_total_bytes
    assert (reading.utilisation_ppm, reading.power_mw, reading.temperature_c) == (None, None, None)
    assert driver.compute_processes(device.id) == []
    driver.close()
    driver.close()


READS = """
import sys
from pathlib import Path
from mica.vendors.opencl import OpenClDriver
driver = OpenClDriver()
(device,) = driver.devices()
driver.sample(device.id)
print("pyopencl" in sys.modules, "pocl" in Path("/proc/self/maps").read_text())
"""


def test_no_service_loads_a_driver_or_pyopencl() -> None:
    """The drivers are asked in another process than the one that reads the devices."""
    done = subprocess.run([sys.executable, "-c", READS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_drivers_are_asked_again_once_in_many_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they list changes seldom, and asking costs a process."""
    asked = []
    answers = _driver.ask(processors=True)
    monkeypatch.setattr(_driver, "ask", lambda *, processors: asked.append(processors) or answers)
    driver = OpenClDriver()
    for _ in range(_driver.READINGS_TO_ASK + 1):
        driver.devices()
    assert asked == [True, True]


def test_a_device_that_opencl_does_not_list_is_an_error_that_names_it() -> None:
    """Nothing is read of it."""
    with pytest.raises(VendorError, match="device OCL-0: OpenCL lists no such device"):
        OpenClDriver().sample("OCL-0")


def test_processors_are_no_devices_unless_the_node_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are there on every machine, and have other work to do."""
    monkeypatch.delenv(SWITCH)
    with pytest.raises(VendorAbsentError, match="no OpenCL driver in "):
        OpenClDriver()
    assert "opencl" not in {driver.name for driver in open_drivers()}


def test_opencl_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is installed."""
    monkeypatch.setenv(SWITCH, "off")
    with pytest.raises(VendorAbsentError, match="MICA_OPENCL is off"):
        OpenClDriver()


def test_a_switch_that_says_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One error: what, observed, allowed."""
    monkeypatch.setenv(SWITCH, "gpu")
    with pytest.raises(VendorError, match="MICA_OPENCL: got 'gpu', allowed: cpu, off, or nothing"):
        OpenClDriver()


def test_drivers_that_hang_are_an_error_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service goes on without them."""
    monkeypatch.setattr(_driver, "ANSWER_S", 0.001)
    with pytest.raises(VendorError, match=r"do not answer within 0\.001 s: pocl\.icd"):
        OpenClDriver().devices()
