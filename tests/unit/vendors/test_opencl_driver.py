"""A processor becomes a device through OpenCL, where the node is to have it; PoCL is real here."""

import pytest

from mica.events import Runtime, Vendor
from mica.vendors import VendorAbsentError, VendorError, open_drivers
from mica.vendors.opencl import SWITCH, OpenClDriver, device_id


@pytest.fixture(autouse=True)
def _on_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICA_NODE", "n1")
    monkeypatch.setenv(SWITCH, "cpu")


def test_a_processor_is_listed_with_what_opencl_says_of_it() -> None:
    """Its vendor says that it is a processor, whoever made it, and its runtime is OpenCL alone."""
    (device,) = OpenClDriver().devices()
    assert (device.vendor, device.runtimes, device.simulated) == (Vendor.CPU, (Runtime.OPENCL,), False)
    assert device.vram_bytes > 0
    assert device.multiprocessors > 0
    assert device.id.startswith("OCL-")


def test_a_device_that_opencl_divides_by_counts_says_into_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """PoCL divides its processor into as many parts as it has units; what divides otherwise, or not at all, has none."""
    driver = OpenClDriver()
    (device,) = driver.devices()
    assert device.subdevices_max == device.multiprocessors
    assert not device.subdevices_whole  # PoCL's have no images
    (found,) = driver._found().values()
    monkeypatch.setattr(type(found), "partition_properties", [driver._cl.device_partition_property.EQUALLY])
    assert driver.devices()[0].subdevices_max == 0


def test_where_a_device_has_no_images_its_sub_devices_lack_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the driver's contexts say is about images alone."""
    driver = OpenClDriver()
    (found,) = driver._found().values()
    monkeypatch.setattr(type(found), "image_support", False)
    assert driver.devices()[0].subdevices_whole


def test_a_device_is_called_the_same_at_every_reading_and_otherwise_on_another_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids are the fleet's: two machines with one processor's name are two devices."""
    (here,) = OpenClDriver().devices()
    (again,) = OpenClDriver().devices()
    monkeypatch.setenv("MICA_NODE", "n2")
    (elsewhere,) = OpenClDriver().devices()
    assert here == again
    assert here.id != elsewhere.id


@pytest.mark.parametrize(
    "other", [("n2", "P", "D", 0), ("n1", "Q", "D", 0), ("n1", "P", "E", 0), ("n1", "P", "D", 1), ("n", "1P", "D", 0)]
)
def test_each_part_of_a_device_name_counts(other: tuple[str, str, str, int]) -> None:
    """And none runs into the next."""
    assert device_id("n1", "P", "D", 0) == device_id("n1", "P", "D", 0)
    assert device_id("n1", "P", "D", 0) != device_id(*other)


def test_a_reading_is_of_the_machines_memory_and_of_nothing_that_nobody_measures() -> None:
    """No utilisation, power or temperature is made up."""
    driver = OpenClDriver()
    (device,) = driver.devices()
    reading = driver.sample(device.id)
    assert 0 < reading.vram_used_bytes < reading.vram_total_bytes
    assert (reading.utilisation_ppm, reading.power_mw, reading.temperature_c) == (None, None, None)
    assert driver.compute_processes(device.id) == []
    driver.close()
    driver.close()


def test_a_device_that_opencl_does_not_list_is_an_error_that_names_it() -> None:
    """Of a reading and of a list of processes alike."""
    driver = OpenClDriver()
    for ask in (driver.sample, driver.compute_processes):
        with pytest.raises(VendorError, match="device OCL-0: OpenCL lists no such device"):
            ask("OCL-0")


def test_processors_are_no_devices_unless_the_node_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are there on every machine, and have other work to do."""
    monkeypatch.delenv(SWITCH)
    with pytest.raises(VendorAbsentError, match="MICA_OPENCL is not set"):
        OpenClDriver()
    assert Vendor.CPU not in {driver.vendor for driver in open_drivers()}


def test_a_switch_that_says_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One error: what, observed, allowed."""
    monkeypatch.setenv(SWITCH, "gpu")
    with pytest.raises(VendorError, match="MICA_OPENCL: got 'gpu', allowed: cpu, or nothing"):
        OpenClDriver()
