"""The Intel adapter on a library that answers from Python: what it makes of missing functions, refusals and garbage."""

import ctypes
from pathlib import Path
from typing import Any

import pytest
from fake_level_zero import (
    DEVICE,
    ENGINE,
    ERRORS,
    GIB,
    LOST,
    NOTHING,
    POWER,
    SENSOR,
    UNSUPPORTED,
    celsius,
    fails,
    fake_level_zero,
    fill,
    in_turn,
    listed,
    several,
    uuid_bytes,
)

from mica.events import Partition, Runtime, Severity, Vendor
from mica.vendors import DeviceReading, VendorAbsentError, VendorError
from mica.vendors.intel import IntelDriver
from mica.vendors.intel._functions import Functions
from mica.vendors.intel._structures import SIZES

DEVICE_ID = "00010203-0405-0607-0809-0a0b0c0d0e0f"
ADDRESS = "0000:4d:00.0"


@pytest.fixture
def functions(tmp_path: Path) -> Functions:
    """A machine whose sysfs knows nothing of the device."""
    return Functions(tmp_path)


def open_driver(functions: Functions, **answers: Any) -> IntelDriver:
    return IntelDriver(fake_level_zero(**answers), functions)


def test_structures_have_the_sizes_of_the_header() -> None:
    """A structure of another size would be read past its end."""
    assert {kind: ctypes.sizeof(kind) for kind in SIZES} == SIZES


def test_a_device_as_the_library_has_it(functions: Functions) -> None:
    """The library's own answers, the catalogue where they contradict it, and the whole device as its only partition."""
    (device,) = open_driver(functions).devices()
    assert (device.id, device.vendor, device.model) == (DEVICE_ID, Vendor.INTEL, "Intel(R) Data Center GPU Max 1550")
    assert (device.vram_bytes, device.multiprocessors, device.runtimes) == (128 * GIB, 128, (Runtime.LEVEL_ZERO,))
    assert (device.pci_bus_id, device.numa_node, device.partitioned, device.simulated) == (ADDRESS, -1, False, False)
    assert [(profile.name, profile.layout, profile.vram_bytes) for profile in device.profiles] == [("whole", "whole", 128 * GIB)]
    assert device.hardware_refusal.startswith("no virtual functions: sriov_totalvfs is 0")
    assert device.warnings == ("tiles: 1, catalogue: 2", "virtual functions: at most 0, catalogue: 16")


def test_no_driver_and_no_device() -> None:
    """A loader without a driver behind it makes the vendor absent; one that fails says how."""
    with pytest.raises(VendorAbsentError, match="no driver, or no device"):
        IntelDriver(fake_level_zero(zesInit=fails(NOTHING)))
    with pytest.raises(VendorAbsentError, match="no driver"):
        IntelDriver(fake_level_zero(zesDriverGet=several()))
    with pytest.raises(VendorError, match="zesInit: result 0x70000002"):
        IntelDriver(fake_level_zero(zesInit=fails(0x70000002)))
    with pytest.raises(VendorError, match="zesInit: the library is too old and lacks it"):
        IntelDriver(fake_level_zero(zesInit=None))


@pytest.mark.parametrize("counts", [1 << 31, 4097])
def test_counts_that_make_no_sense(functions: Functions, counts: int) -> None:
    """So many devices that nobody can have them are an error, not an allocation."""
    with pytest.raises(VendorError, match=f"zesDeviceGet: counts {counts}, allowed: at most 4096"):
        open_driver(functions, zesDeviceGet=several(DEVICE, counts=counts)).keys()


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({"zesMemoryGetState": fill(size=1 << 60)}, "bytes free"),
        ({"zesMemoryGetState": fill(size=GIB, free=2 * GIB)}, "bytes free"),
        ({"zesMemoryGetState": fill(size=0), "zesMemoryGetProperties": fill(location=1)}, "says nothing of its memory"),
        ({"zesDeviceEnumMemoryModules": fails(UNSUPPORTED)}, "says nothing of its memory"),
        ({"zesDeviceGetProperties": fill(core__numSlices=1 << 30, core__numSubslicesPerSlice=2)}, "Xe cores"),
        ({"zesDeviceGetProperties": fill(numSubdevices=1 << 31)}, "tiles"),
        ({"zesDeviceGetProperties": fails(LOST)}, "the device is lost"),
        ({"zesDevicePciGetProperties": fill(address__bus=1 << 31)}, "zesDevicePciGetProperties: address"),
        ({"zesDevicePciGetProperties": fails(LOST)}, "the device is lost"),
    ],
)
def test_garbage_is_an_error_of_that_device(functions: Functions, answers: dict[str, Any], says: str) -> None:
    """The device is still named, and describing it says what came."""
    driver = open_driver(functions, **answers)
    (key,) = driver.keys()
    with pytest.raises(VendorError, match=says):
        driver.describe(key)


def test_a_library_that_lacks_much(functions: Functions) -> None:
    """What is not offered is left out: no name, no UUID, no cores, no sensors and no events are no error."""
    driver = open_driver(
        functions, zesDeviceGetProperties=fill(core__deviceId=0x1234, core__name=b"\xff\xfe"), zesDeviceEventRegister=None
    )
    (device,) = driver.devices()
    assert (device.id, device.model, device.multiprocessors) == (ADDRESS, "\ufffd\ufffd", 0)
    assert device.warnings == ("PCI device id 0x1234: not in the catalogue",)
    assert driver.sample(device.id) == DeviceReading(vram_used_bytes=32 * GIB, vram_total_bytes=128 * GIB)
    assert driver.findings(device.id) == ()
    assert driver.links() == ()
    assert driver.living() == {}


def test_the_extended_uuid_goes_first(functions: Functions) -> None:
    """Where the library fills the extension's UUID, it is the device's."""

    def call(*arguments: Any) -> int:
        properties = arguments[-1]._obj
        extended = ctypes.cast(properties.pNext, ctypes.POINTER(next(kind for kind in SIZES if "Ext" in kind.__name__)))
        extended.contents.uuid.id = uuid_bytes(*range(1, 17))
        return 0

    (device,) = open_driver(functions, zesDeviceGetProperties=call).devices()
    assert device.id == "01020304-0506-0708-090a-0b0c0d0e0f10"


def test_rates_need_two_looks(functions: Functions) -> None:
    """How busy it was and what it drew are known from the second look on, and not across a counter that ran backwards."""
    driver = open_driver(
        functions,
        zesDeviceEnumEngineGroups=several(ENGINE),
        zesEngineGetProperties=fill(type=1),
        zesEngineGetActivity=in_turn(
            fill(value=0, timestamp=0), fill(value=500, timestamp=1000), fill(value=0, timestamp=2000), fill(value=9, timestamp=1)
        ),
        zesDeviceEnumPowerDomains=several(POWER, POWER + 1),
        zesPowerGetEnergyCounter=in_turn(fill(value=0, timestamp=0), fill(value=300_000, timestamp=1000)),
    )
    readings = [driver.sample(DEVICE_ID) for _ in range(4)]
    assert [reading.utilisation_ppm for reading in readings] == [None, 500_000, None, None]
    assert [reading.power_mw for reading in readings[:2]] == [None, 300_000]


def test_temperatures_that_make_no_sense(functions: Functions) -> None:
    """Sensors of other things do not count, nor do readings that are none."""
    heat = {"zesDeviceEnumTemperatureSensors": several(SENSOR), "zesTemperatureGetProperties": fill(type=1, maxTemperature=105.0)}
    for value, expected in ((60.4, 60), (-40.0, None), (1e9, None), (float("nan"), None)):
        driver = open_driver(functions, **heat, zesTemperatureGetState=celsius(value))
        assert driver.sample(DEVICE_ID).temperature_c == expected
    memory_sensor = heat | {"zesTemperatureGetProperties": fill(type=2)}
    assert open_driver(functions, **memory_sensor, zesTemperatureGetState=celsius(50)).sample(DEVICE_ID).temperature_c is None


def test_what_is_wrong_is_told_as_long_as_it_is(functions: Functions) -> None:
    """A wedged device, memory to be replaced, a critical temperature; errors only once."""
    driver = open_driver(
        functions,
        zesDeviceGetState=fill(reset=0b11),
        zesMemoryGetState=fill(size=GIB, free=GIB, health=4),
        zesDeviceEnumRasErrorSets=several(ERRORS),
        zesRasGetProperties=fill(type=1),
        zesRasGetState=in_turn(
            fill(category=(ctypes.c_uint64 * 7)(9, 9)), fill(category=(ctypes.c_uint64 * 7)(9, 99, 0, 0, 0, 2))
        ),
    )
    first, second = driver.findings(DEVICE_ID), driver.findings(DEVICE_ID)
    lasting = [("fault", Severity.FATAL), ("fault", Severity.WARNING), ("ecc", Severity.FATAL)]
    assert [(each.kind, each.severity) for each in first] == lasting
    assert all(each.lasting for each in first)
    (new,) = second[3:]
    assert (new.kind, new.message, new.lasting) == ("ecc", "2 errors that were not corrected", False)


def test_processes_that_come_while_they_are_read(functions: Functions) -> None:
    """A list that grows between counting and reading is read again."""

    def process(each: Any, index: int) -> None:
        each.processId, each.memSize = 100 + index, GIB

    driver = open_driver(functions, zesDeviceProcessesGetState=listed(process, 1, more_later=True))
    assert driver.compute_processes(DEVICE_ID) == [(100, GIB), (101, GIB)]
    driver = open_driver(functions, zesDeviceProcessesGetState=listed(process, 1 << 20))
    with pytest.raises(VendorError, match="zesDeviceProcessesGetState: counts 1048576"):
        driver.compute_processes(DEVICE_ID)


def test_what_is_not_there(functions: Functions) -> None:
    """A device, a tile or a layout that nobody has is an error that names it."""
    driver = open_driver(functions)
    for name in ("nobody", f"{DEVICE_ID}.x", "0000:01:00.0"):
        with pytest.raises(VendorError, match=name):
            driver.sample(name)
    with pytest.raises(VendorError, match="no layout vf2: sriov_totalvfs is 0"):
        driver.create(DEVICE_ID, Partition(profile="vf2", profile_id=2, start=0, size=1, layout="vf2"))
    with pytest.raises(VendorError, match="no tile at 0"):
        driver.create(DEVICE_ID, Partition(profile="tile", profile_id=64, start=0, size=1, layout="tiles"))
    with pytest.raises(VendorError, match=r"0000:01:00\.1 can not be reached"):
        driver.access(DEVICE_ID, Partition(profile="vf2", profile_id=2, start=0, size=1, uuid="0000:01:00.1", layout="vf2"))
