"""What libdcmi answers becomes a device, a reading or one clear error, whatever it is."""

import ctypes
from typing import Any

import pytest
from fake_dcmi import FakeDcmi, put

from mica.events import Partition, Severity, Vendor
from mica.vendors import VendorAbsentError, VendorError, open_drivers
from mica.vendors.huawei import HuaweiDriver, _library, _smi
from mica.vendors.huawei._abi import SIZES, Code

CHIP = "E0766E64-20C0E5F1-27941064-AED8030A-F6003019"
QUARTER = Partition(profile="vir05_1c_16g", profile_id=1, start=1, size=1)


@pytest.fixture
def dcmi(monkeypatch: pytest.MonkeyPatch) -> FakeDcmi:
    """The faked library, for root, on a host without npu-smi."""
    fake = FakeDcmi()
    monkeypatch.delenv("MICA_SIM_DIR", raising=False)
    monkeypatch.setattr(_library, "_load", lambda: fake)
    monkeypatch.setattr("mica.vendors.huawei._description.os.geteuid", lambda: 0)

    def absent(name: str, *_: Any) -> Any:
        raise VendorAbsentError(f"{name}: not found")

    monkeypatch.setattr(_smi, "find_tool", absent)
    return fake


def test_the_mirror_has_the_librarys_layout() -> None:
    """The sizes are those that the C side asserts."""
    assert {kind: ctypes.sizeof(kind) for kind in SIZES} == SIZES


def test_a_chip(dcmi: FakeDcmi) -> None:
    """It is named by its die; without npu-smi its templates are the catalogue's."""
    (found,) = HuaweiDriver().devices()
    assert (found.id, found.model, found.vram_bytes, found.multiprocessors) == (CHIP, "Ascend 910B3", 65536 << 20, 20)
    assert [each.name for each in found.profiles] == ["vir05_1c_16g", "vir10_3c_32g", "whole"]
    assert (found.partitioned, found.switchable, found.hardware_refusal, found.warnings) == (False, True, "", ())


def test_counters(dcmi: FakeDcmi) -> None:
    """In the port's units; a sensor of no sense and one that is not there are None."""
    driver = HuaweiDriver()
    reading = driver.sample(CHIP)
    assert (reading.vram_used_bytes, reading.utilisation_ppm, reading.power_mw, reading.temperature_c) == (
        3400 << 20,
        120_000,
        90_000,
        36,
    )
    dcmi.calls["dcmi_get_device_utilization_rate"] = put(ctypes.c_uint, 4_000_000)
    dcmi.missing.add("dcmi_get_device_power_info")
    reading = driver.sample(CHIP)
    assert (reading.utilisation_ppm, reading.power_mw) == (None, None)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", b"\xff\xfe910", r"its name is b'\\xff\\xfe910', allowed: ASCII"),
        ("name", b"\x1b[2J", "allowed: printable"),
        ("cores", 2**31, "2147483648 AI cores, allowed: 1 to 1024"),
        ("cores", 0, "0 AI cores"),
        ("memory", (0, 2**63), "9223372036854775808 MB in use, allowed: at most"),
        ("memory", (70000, 65536), "70000 of 65536 MB in use"),
        ("numbered", 2**31, "vNPUs: 2147483648, allowed: 0 to 32"),
    ],
)
def test_garbage_about_a_chip(dcmi: FakeDcmi, field: str, value: Any, message: str) -> None:
    """One error that says what came and what is allowed, and a device left out."""
    setattr(dcmi, field, value)
    driver = HuaweiDriver()
    with pytest.raises(VendorError, match=message):
        driver.describe("0.0")
    assert driver.devices() == ()


def test_garbage_about_the_machine(dcmi: FakeDcmi) -> None:
    """More cards than there can be are none at all."""
    dcmi.cards = 2**31
    with pytest.raises(VendorError, match="dcmi_get_card_list: -2147483648, allowed: 0 to 64"):
        HuaweiDriver().keys()


def test_a_library_that_is_too_old(dcmi: FakeDcmi) -> None:
    """The error names the function that it lacks."""
    dcmi.missing.add("dcmi_get_device_die_v2")
    with pytest.raises(VendorError, match=r"dcmi_get_device_die_v2: missing \(-99998\)"):
        HuaweiDriver().describe("0.0")


@pytest.mark.parametrize(
    ("code", "error"), [(Code.NO_SUCH_DEVICE, VendorAbsentError), (Code.NOT_SUPPORTED, VendorAbsentError), (-8005, VendorError)]
)
def test_a_library_that_does_not_start(dcmi: FakeDcmi, code: int, error: type[VendorError]) -> None:
    """No chip behind it: the vendor is absent. Anything else: it is at fault, and left out with a word."""
    dcmi.codes["dcmi_init"] = code
    with pytest.raises(error, match=str(code)):
        HuaweiDriver()
    assert open_drivers({Vendor.HUAWEI: HuaweiDriver}) == ()


def test_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says where it looked."""
    monkeypatch.delenv("MICA_SIM_DIR", raising=False)
    monkeypatch.setattr(_library, "PLACES", ("/nowhere/libdcmi.so", "libnowhere-dcmi.so"))
    with pytest.raises(VendorAbsentError, match=r"libdcmi.so: not found in /nowhere/libdcmi.so"):
        HuaweiDriver()


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (Code.NOT_SUPPORTED, "this chip has no vNPUs"),
        (Code.NOT_PERMITTED, "not for this user"),
        (Code.NOT_IN_CONTAINER, "inside a container"),
    ],
)
def test_a_chip_that_makes_no_vnpus(dcmi: FakeDcmi, code: Code, why: str) -> None:
    """It says why, and can be had whole."""
    dcmi.codes["dcmi_get_device_info"] = code
    driver = HuaweiDriver()
    (found,) = driver.devices()
    assert why in found.hardware_refusal
    assert ([each.name for each in found.profiles], found.switchable) == (["whole"], True)
    assert [each.layout for each in driver.living()[CHIP]] == ["whole"]


@pytest.mark.parametrize(
    ("call", "why"),
    [("dcmi_get_vdevice_mode", "for virtual machines"), ("dcmi_get_npu_work_mode", "SMP mode")],
)
def test_a_server_in_another_mode(dcmi: FakeDcmi, call: str, why: str) -> None:
    """vNPUs for virtual machines are none for containers, and a server that is one machine over all its chips has none."""
    dcmi.calls[call] = put(ctypes.c_ubyte, 1)
    (found,) = HuaweiDriver().devices()
    assert why in found.hardware_refusal
    assert [each.name for each in found.profiles] == ["whole"]


def test_without_root(dcmi: FakeDcmi, monkeypatch: pytest.MonkeyPatch) -> None:
    """vNPUs take root; one that somebody else made leaves nothing to give."""
    monkeypatch.setattr("mica.vendors.huawei._description.os.geteuid", lambda: 1000)
    (found,) = HuaweiDriver().devices()
    assert (found.hardware_refusal, [each.name for each in found.profiles]) == ("vNPUs take root to make", ["whole"])
    dcmi.vdevs[100] = b"vir05_1c_16g"
    (found,) = HuaweiDriver().devices()
    assert (found.partitioned, found.profiles, found.switchable) == (True, (), False)


def test_a_chip_that_contradicts_the_catalogue(dcmi: FakeDcmi) -> None:
    """Its own answers hold, and each difference is a warning."""
    dcmi.memory, dcmi.cores = (0, 60000), 24
    (found,) = HuaweiDriver().devices()
    assert found.vram_bytes == 60000 << 20
    assert found.warnings == (
        "memory: 60000 MiB, catalogue 65536 MiB (910B3)",
        "AI cores: 24, catalogue 20 (910B3)",
    )


def test_a_chip_of_no_catalogue(dcmi: FakeDcmi) -> None:
    """Without npu-smi nobody knows its templates: it says so, and can be had whole."""
    dcmi.name = b"999Z"
    (found,) = HuaweiDriver().devices()
    assert found.model == "Ascend 999Z"
    assert "its templates are not known: npu-smi: not found" in found.hardware_refusal
    assert [(each.name, each.vram_bytes) for each in found.profiles] == [("whole", 65536 << 20)]


def test_the_planned_slot_is_the_number(dcmi: FakeDcmi) -> None:
    """Slot 1 of chip 0 is vNPU 101, which is read back by another process."""
    made = HuaweiDriver().create(CHIP, QUARTER)
    assert dcmi.vdevs == {101: b"vir05_1c_16g"}
    assert HuaweiDriver().living()[CHIP] == (made,)


def test_a_chip_that_numbers_as_it_likes(dcmi: FakeDcmi) -> None:
    """What was made under another number is destroyed again: nothing is left half made."""
    driver = HuaweiDriver()
    driver.devices()
    normal = dcmi.calls["dcmi_create_vdevice"]

    def elsewhere(*arguments: Any) -> int:
        dcmi.numbered = 109
        result: int = normal(*arguments)
        dcmi.numbered = None
        return result

    dcmi.calls["dcmi_create_vdevice"] = elsewhere
    with pytest.raises(VendorError, match="asked for vNPU 101, the chip made 109"):
        driver.create(CHIP, QUARTER)
    assert dcmi.vdevs == {}


def test_a_slot_that_no_such_vnpu_starts_at(dcmi: FakeDcmi) -> None:
    """The error lists what is allowed."""
    with pytest.raises(VendorError, match=r"no vir10_3c_32g at slot 1; allowed: .*vir10_3c_32g at \(0, 2\)"):
        HuaweiDriver().create(CHIP, Partition(profile="vir10_3c_32g", profile_id=2, start=1, size=2))


def test_a_chip_off_the_bus_is_a_finding(dcmi: FakeDcmi) -> None:
    """Fatal, as long as it stays so."""
    driver = HuaweiDriver()
    driver.devices()
    dcmi.codes["dcmi_get_device_health"] = Code.NOT_READY
    (found,) = driver.findings(CHIP)
    assert (found.kind, found.severity, found.lasting, found.code) == ("bus", Severity.FATAL, True, 8012)


def test_health_without_a_code_is_a_finding(dcmi: FakeDcmi) -> None:
    """By the chip's own word."""
    dcmi.calls["dcmi_get_device_health"] = put(ctypes.c_uint, 3)
    (found,) = HuaweiDriver().findings(CHIP)
    assert (found.severity, found.message) == (Severity.FATAL, "health 3, and no error code")


def test_a_chip_that_is_not_there(dcmi: FakeDcmi) -> None:
    """One clear error."""
    with pytest.raises(VendorError, match="device nobody: libdcmi lists no such chip"):
        HuaweiDriver().sample("nobody")
